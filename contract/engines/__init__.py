"""What the rooms agree on of each engine: one table of facts, and a folder an engine for its options and rules."""
