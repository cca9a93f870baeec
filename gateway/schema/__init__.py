"""The bodies that clients may send, as pydantic models: what is accepted, what is harmless, what is refused and why."""
