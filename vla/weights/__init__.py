"""Published weights: Prismatic checkpoints, Hugging Face folders, packages, ONNX files."""
