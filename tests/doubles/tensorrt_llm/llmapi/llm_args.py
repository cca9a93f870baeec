"""Where 1.2.1 has PeftCacheConfig."""

from tensorrt_llm._classes import named

PeftCacheConfig = named("PeftCacheConfig")
