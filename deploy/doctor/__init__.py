"""Says what of a node would keep a deployment from running well, and what to do about it."""
