"""Engines on one machine, each alone and in our ensemble: correct, fast, how large, how soon (make compare)."""
