"""prompt → token ids: the first stage."""
