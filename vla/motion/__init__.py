"""The motion language and the labellers that write it; NumPy only."""
