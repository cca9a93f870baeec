"""What a model needs of GPUs and what it could do on them, from its config.json alone: no weights, no torch."""
