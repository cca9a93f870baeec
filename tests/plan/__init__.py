"""What fits where, from config.json alone: no torch is needed, so these run where the server does."""
