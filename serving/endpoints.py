"""Where a deployment's server answers, and what its metrics page says."""

import http.client
import re
from collections.abc import Iterator
from dataclasses import dataclass

from contract.address import address, grpc_address, reachable
from contract.spec import Deployment

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:]\w*)(?P<labels>\{[^}]*\})? (?P<value>\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """One line of a metrics page."""

    name: str
    labels: str  # as written, braces included; '' without any
    value: float


def endpoints(spec: Deployment) -> dict[str, str]:
    """What to tell a user: one address for each way in."""
    ports = spec.ports
    door = {"OpenAI": f"http://{address(spec.gateway.host, ports.gateway)}/v1"} if spec.gateway.enabled else {}
    return {
        **door,
        "gRPC": grpc_address(spec),
        "HTTP": f"http://{address(ports.host, ports.http)}/v2/models/{spec.name}/generate_stream",
        "metrics": f"http://{address(ports.host, ports.metrics)}/metrics",
    }


def read_metrics(spec: Deployment, timeout_s: float = 1.0) -> list[Sample]:
    """The samples of the server's metrics page; none when it does not answer in ``timeout_s`` seconds."""
    connection = http.client.HTTPConnection(reachable(spec.ports.host), spec.ports.metrics, timeout=timeout_s)
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
