"""Where a deployment's server answers, and what its metrics page says."""

import http.client
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from contract.spec import Deployment

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1", "": "127.0.0.1"}
_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:]\w*)(?P<labels>\{[^}]*\})? (?P<value>\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """One line of a metrics page."""

    name: str
    labels: str  # as written, braces included; '' without any
    value: float


def reachable_host(spec: Deployment) -> str:
    """The address at which a process of this machine reaches the server."""
    return _ANY_ADDRESS.get(spec.ports.host, spec.ports.host)


def address(spec: Deployment, port: int) -> str:
    """``host:port`` as a client of this machine writes it."""
    host = reachable_host(spec)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def endpoints(spec: Deployment) -> dict[str, str]:
    """What to tell a user: one address for each way in."""
    ports = spec.ports
    return {
        "gRPC": address(spec, ports.grpc),
        "HTTP": f"http://{address(spec, ports.http)}/v2/models/{spec.name}/generate_stream",
        "metrics": f"http://{address(spec, ports.metrics)}/metrics",
    }


def is_loopback(host: str) -> bool:
    """True when only this machine can reach a server that listens on ``host``."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return False
    return all(str(sockaddr[0]).startswith("127.") or sockaddr[0] == "::1" for *_, sockaddr in found)


def read_metrics(spec: Deployment, timeout_s: float = 1.0) -> list[Sample]:
    """The samples of the server's metrics page; none when it does not answer in ``timeout_s`` seconds."""
    connection = http.client.HTTPConnection(reachable_host(spec), spec.ports.metrics, timeout=timeout_s)
    try:
        connection.request("GET", "/metrics")
        return list(parse_metrics(connection.getresponse().read().decode()))
    except (OSError, http.client.HTTPException):
        return []
    finally:
        connection.close()


def parse_metrics(page: str) -> Iterator[Sample]:
    """The samples of a page in Prometheus' text format."""
    for found in _SAMPLE.finditer(page):
        yield Sample(found["name"], found["labels"] or "", float(found["value"]))
