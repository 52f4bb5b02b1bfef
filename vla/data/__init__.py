"""Demonstrations: readers of the field's formats, one `Episode` type, and mixtures for training."""
