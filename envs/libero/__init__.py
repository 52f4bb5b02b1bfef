"""LIBERO's suites on the real simulator, bit for bit the reference loop."""
