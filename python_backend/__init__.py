"""What runs inside Triton: the three stages, one folder an engine, and what they share."""
