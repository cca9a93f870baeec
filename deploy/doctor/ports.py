"""Whether the ports that a deployment listens on are free, and who has them if not."""

import errno
import json
import socket
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from contract.address import address
from contract.spec import Deployment
from deploy.doctor.case import Case
from deploy.doctor.result import Result


def check(case: Case) -> Result:
    """All ports of the deployment."""
    spec = case.spec
    wanted = {f"ports.{name}": (spec.ports.host, getattr(spec.ports, name)) for name in ("http", "grpc", "metrics")}
    if spec.gateway.enabled:
        wanted["ports.gateway"] = (spec.gateway.host, spec.ports.gateway)
    if spec.cluster and not _problem(spec.cluster.head.address, 0):  # this node is the head
        wanted["cluster.port"] = (spec.cluster.head.address, spec.cluster.port)
    problems = {name: found for name, (host, port) in wanted.items() if (found := _problem(host, port))}
    numbers = ", ".join(str(port) for _, port in wanted.values())
    if not problems:
        return Result("ports", "ok", f"{numbers} are free")
    if _serves(spec):
        return Result("ports", "ok", f"{numbers}: {spec.name} is being served already")
    seen = "; ".join(f"{name}: {found}" for name, found in problems.items())
    return Result("ports", "fail", seen, "stop what has them (make down, for a deployment), or set other ports")


def _problem(host: str, port: int) -> str:
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: old connections do not count
            probe.bind(where)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"{port} is taken{_holder(port)}"
        return f"{host}:{port} cannot be listened on: {error.strerror or error}"
    return ""


def _holder(port: int) -> str:
    """Whose a port is; '' where the kernel does not tell this user."""
    for found in psutil.net_connections("tcp"):
        if found.status == psutil.CONN_LISTEN and found.laddr[1:2] == (port,) and found.pid:
            try:
                return f" by {psutil.Process(found.pid).name()} (pid {found.pid})"
            except psutil.NoSuchProcess:
                return ""
    return ""


def _serves(spec: Deployment) -> bool:
    """Whether what listens there is this very deployment."""
    url = f"http://{address(spec.ports.host, spec.ports.http)}/v2/models/{spec.name}"
    try:
        with urlopen(url, timeout=2) as answer:
            return bool(json.load(answer).get("name") == spec.name)
    except (URLError, OSError, ValueError, AttributeError):
        return False
