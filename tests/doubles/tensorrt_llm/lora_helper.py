"""Where 1.2.1 has LoraConfig."""

from tensorrt_llm._classes import named

LoraConfig = named("LoraConfig")
