"""Where a deployment's server answers, as a process of the same machine writes it."""

import socket

from contract.errors import SpecError
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


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def refuse_keyless(host: str, *, fix: str) -> None:
    """What is asked of a gateway without keys.

    Raises:
        SpecError: other machines could reach it.
    """
    if not is_loopback(host):
        raise SpecError(f"gateway.host is {host}: other machines could use this gateway without a key", fix=fix)


def refuse_strangers(spec: Deployment) -> None:
    """What the wheel's Triton asks of a spec: it is of October 2024, and what stands before it closes what is known.

    Raises:
        SpecError: other machines could reach it, and the spec does not say that it trusts them.
    """
    ports = spec.ports
    if not ports.trusted_network and not is_loopback(ports.host):
        raise SpecError(
            f"ports.host is {ports.host}: the wheel's Triton is of 2024, and only what is known to end it is closed",
            fix="Leave it at 127.0.0.1, where the gateway is the door for others (gateway.host and gateway.keys); "
            "or set ports.trusted_network where nobody else reaches that network",
        )
