"""What every test counts on, however the run was started."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from clients.grpc import Client
from serving.supervisor import Running

# A run that a shell started in the background ignores Ctrl-C, and so would every program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("conch", deadline=None)  # no test is timed
settings.load_profile("conch")


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Client]:
    """A gRPC client of the module's server."""
    with Client(f"127.0.0.1:{server.spec.ports.grpc}") as connected:
        yield connected
