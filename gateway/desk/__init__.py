"""A gateway of several processes: workers that answer, and the desk that admits for all of them and keeps the books."""
