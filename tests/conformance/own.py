"""Our own server, as ``make serve`` starts it, on ports that are free."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from serving.supervisor import Running
from tests.conformance.target import Target
from tests.e2e.servers import smollm2

KEY = "conformance"


@contextmanager
def default_deployment(root: Path) -> Iterator[Target]:
    """The default deployment behind its gateway, which wants a key."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # for this server alone: others start while it runs
            patch.setenv("CONCH_API_KEYS", KEY)
            server = stack.enter_context(smollm2(root, gateway=True))
        yield target_of(server)


def target_of(server: Running) -> Target:
    """A server of ours as a target."""
    ports = server.spec.ports
    return Target(f"http://{ports.host}:{ports.gateway}/v1", KEY, server.spec.name, own=True)
