"""Where a deployment's server answers, as a process of the same machine writes it."""

import socket

from contract.spec import Deployment

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1", "": "127.0.0.1"}


def reachable(host: str) -> str:
    """The address at which a process of this machine reaches a server that listens on ``host``."""
    return _ANY_ADDRESS.get(host, host)


def address(host: str, port: int) -> str:
    """``host:port`` as a client of this machine writes it."""
    host = reachable(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def grpc_address(spec: Deployment) -> str:
    """Where the ensemble answers over gRPC."""
    return address(spec.ports.host, spec.ports.grpc)


def is_loopback(host: str) -> bool:
    """True when only this machine can reach a server that listens on ``host``."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return False
    return all(str(sockaddr[0]).startswith("127.") or sockaddr[0] == "::1" for *_, sockaddr in found)
