"""Is this server OpenAI's API? Point it at any: see README.md."""
