"""Demonstrations: recorded by an expert, drawn afterwards, exported as datasets."""
