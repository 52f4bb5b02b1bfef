"""Scripted, privileged experts: they solve tasks and make demonstrations."""
