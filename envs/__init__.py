"""Simulator adapters, one module a simulator; simulators are imported in the worker only."""
