"""TensorRT-LLM: what a deployment may tell it, what it is told, and what cannot go together."""
