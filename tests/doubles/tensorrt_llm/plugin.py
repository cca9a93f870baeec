"""Where 1.2.1 has PluginConfig."""

from tensorrt_llm._classes import named

PluginConfig = named("PluginConfig")
