"""One HTML file that shows runs without a network."""
