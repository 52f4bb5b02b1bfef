"""`vla-eval figures`: figures drawn from the code's own data."""
