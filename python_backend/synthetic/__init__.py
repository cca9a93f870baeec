"""An engine without a model: it echoes the prompt at a given pace, for soaks and pipeline benches."""
