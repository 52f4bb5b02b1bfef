"""Whole experiments, each behind one command."""
