"""What each client does, in its own environment: ``python -m tests.real.programs.CLIENT ORIGIN MODEL``."""
