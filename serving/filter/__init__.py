"""What stands on the HTTP and gRPC ports of the wheel's Triton, whose own front ends of October 2024 hostile bytes end.

One process beside the server (``python -m serving.filter``), which passes what the contract allows and refuses the rest
by name. What a client sends is parsed within bounds and checked (tensors.py); what Triton answers passes as it is.
Triton itself listens on two Unix sockets that only its own user can open.
"""
