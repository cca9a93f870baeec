"""TensorRT-LLM's LLM API behind the engine protocol, for engines and for its PyTorch path alike."""
