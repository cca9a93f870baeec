"""Real clients, as their users install them, in an environment of their own: ``make test-clients``."""
