"""Two-stage training with exact resume."""
