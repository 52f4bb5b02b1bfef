"""Policies behind a port: `vla-eval serve`, and `motion_vla_serve.py`, which is copied into other environments."""
