"""Checkpoint → engine → model repository: one module a verb, run in order by ``python -m build CONFIG``."""
