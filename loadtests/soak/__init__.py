"""The soak: requests of every kind through both doors, kills among them, and what becomes of each one."""
