"""SGLang behind the engine protocol, in its own Python environment."""
