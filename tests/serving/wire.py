"""A transport of the tests: what was written to it, and whether it is read from."""

import asyncio
from typing import Any

from serving.filter.calls import GrpcRelay
from serving.filter.relay import Answers, Relay


class Wire(asyncio.Transport):
    """Takes everything; ``unsent`` is what it says that its reader has not taken."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.unsent = 0
        self.reading = True
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent += data

    def write_eof(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def joined(relay: Relay) -> tuple[Wire, Wire]:
    """A relay between two wires: the client's, and Triton's."""
    client, server = Wire(), Wire()
    relay.connection_made(client)
    if isinstance(relay, GrpcRelay):
        Answers(relay).connection_made(server)
    return client, server
