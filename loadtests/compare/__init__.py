"""Engines on one machine, each alone and in our ensemble: correctness, speed, capacity, memory, start (make compare)."""
