"""From an image and an instruction to a motion sentence and actions."""
