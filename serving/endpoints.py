"""Where a deployment's server answers, and what its metrics page says."""

import http.client

from prometheus_client.samples import Sample

from contract.address import address, grpc_address, reachable
from contract.metrics_page import samples
from contract.spec import Deployment


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
        return list(samples(connection.getresponse().read().decode()))
    except (OSError, http.client.HTTPException, ValueError):
        return []
    finally:
        connection.close()
