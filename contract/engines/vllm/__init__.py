"""vLLM: what a deployment may tell it, and what it is told."""
