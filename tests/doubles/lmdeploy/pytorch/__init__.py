"""The PyTorch engine's double."""
