"""Hugging Face checkpoint → TensorRT-LLM engine, inside NVIDIA's container or wherever tensorrt_llm is importable."""
