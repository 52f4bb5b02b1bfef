"""The harness: it states a contract, runs it, and records what happened. NumPy only."""
