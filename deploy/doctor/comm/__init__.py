"""Collectives between ranks, for correctness and bandwidth, in a way that says who is gone when one hangs.

Only :mod:`rank` and what it imports need torch, which is not in the environment that serves.
"""
