"""Clients of a Conch deployment: gRPC (sync and asyncio), HTTP, and a chat for the terminal."""
