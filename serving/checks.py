"""Everything that must hold before a server is started, each refusal with the way out."""

import errno
import socket
from collections.abc import Callable
from pathlib import Path

import psutil

from contract.address import address, is_loopback, refuse_strangers
from contract.driver import driver_caution
from contract.engines.trtllm.check import mismatches
from contract.engines.trtllm.images import oldest_driver
from contract.errors import ServeError
from contract.gpu_machine import find_gpus, this_gpu_machine, triton_release
from contract.manifest import check_engine, engines_root, load_manifest, this_machine
from contract.spec import Deployment
from contract.stage import run_dir
from contract.state import read_state
from serving.triton import find_triton

Check = Callable[[Deployment, Path, str], str]
PORTS = ("http", "grpc", "metrics")


def preflight(spec: Deployment, root: Path, config: str) -> None:
    """Refuse to start what cannot run.

    Args:
        config: how the user names the config, for the message.

    Raises:
        ServeError: the first thing that does not hold.
    """
    for check in CHECKS.values():
        check(spec, root, config)


def check_the_engine(spec: Deployment, root: Path, config: str) -> str:
    """The engine is there, whole, and fit for this machine and this config."""
    if spec.source is None:
        return f"runtime {spec.engine.runtime} needs none"
    engine = engines_root(root, spec.name) / "current"
    if not engine.exists():
        raise ServeError(f"no engine at {engine}", fix=f"Run make engine CONFIG={config}")
    manifest = check_engine(engine, spec, this_machine())
    return f"{engine.resolve()} ({manifest.runtime} {manifest.precision}, {manifest.size_bytes / 2**20:.0f} MiB)"


def check_the_gpus(spec: Deployment, root: Path, config: str) -> str:
    """The engine, the GPUs, the driver and TensorRT-LLM are made for each other."""
    if spec.engine.runtime != "trtllm":
        return f"runtime {spec.engine.runtime} needs none"
    engine = (engines_root(root, spec.name) / "current").resolve()
    machine = this_gpu_machine()
    if faults := mismatches(engine, load_manifest(engine), spec, machine):
        raise ServeError("\n".join(faults))
    return (
        f"{len(machine.gpus)} × {machine.gpus[0].name}, driver {machine.driver}, TensorRT-LLM {machine.tensorrt_llm}, "
        f"TensorRT {machine.tensorrt}"
    )


def check_the_repository(spec: Deployment, root: Path, config: str) -> str:
    """The model repository is written."""
    repository = root / "model_repository" / spec.name
    if not repository.is_dir():
        raise ServeError(
            f"no model repository at {repository}",
            fix=f"make serve and make up write it, or python -m build.repository {config}",
        )
    return str(repository)


def check_the_server(spec: Deployment, root: Path, config: str) -> str:
    """There is a Triton server on this machine, fit for those who can reach it."""
    triton = find_triton(root / ".conch")
    if triton.of_the_wheel:
        refuse_strangers(spec)
    return str(triton.binary)


def check_the_ports(spec: Deployment, root: Path, config: str, names: tuple[str, ...] = PORTS) -> str:
    """The server's ports are free."""
    ports: dict[str, int] = {name: getattr(spec.ports, name) for name in names}
    listed = ", ".join(f"{name} {port}" for name, port in ports.items())
    state = read_state(run_dir(root, spec.name))
    if state and state.server_pid:
        return f"{listed}: held by this deployment's own server (pid {state.supervisor_pid})"
    for name, port in ports.items():
        _bind(spec.ports.host, port, f"ports.{name}", config)
    return f"{listed} on {spec.ports.host}"


def check_the_gateway(spec: Deployment, root: Path, config: str) -> str:
    """The gateway's port is free."""
    if not spec.gateway.enabled:
        return "is off"
    where = f"http://{address(spec.gateway.host, spec.ports.gateway)}/v1"
    state = read_state(run_dir(root, spec.name))
    if not (state and state.server_pid):
        _bind(spec.gateway.host, spec.ports.gateway, "ports.gateway", config, host_key="gateway.host")
    return where


def warnings(spec: Deployment) -> list[str]:
    """What hinders nothing, and the user should know."""
    return [told for told in (_open_to_others(spec), _old_driver(spec)) if told]


def _open_to_others(spec: Deployment) -> str:
    if is_loopback(spec.ports.host):
        return ""
    return (
        f"ports.host is {spec.ports.host}: other machines can reach this server, and Triton asks for no password. "
        "Put the gateway or a firewall before it"
    )


def _old_driver(spec: Deployment) -> str:
    if not spec.engine.image:
        return ""
    gpus, driver = find_gpus()
    oldest = oldest_driver(spec.engine.image, triton_release())
    return driver_caution(driver, oldest, [gpu.name for gpu in gpus])


CHECKS: dict[str, Check] = {
    "engine": check_the_engine,
    "gpus": check_the_gpus,
    "repository": check_the_repository,
    "triton": check_the_server,
    "ports": check_the_ports,
    "gateway": check_the_gateway,
}


def _bind(host: str, port: int, key: str, config: str, host_key: str = "ports.host") -> None:
    """Listen on a port for a moment, to see whether the server could."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        raise ServeError(f"{host_key} {host} is no address", fix=f"Change it in {config}") from None
    with socket.socket(family, kind, protocol) as probe:
        # Connections that an earlier server has just closed are no obstacle; a listener still is.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ServeError(
                    f"port {port} of {host} is in use{_holder(port)}", fix=f"Stop it, or change {key} in {config}"
                ) from None
            if error.errno == errno.EADDRNOTAVAIL:
                raise ServeError(
                    f"{host_key} {host} is no address of this machine", fix=f"Change it in {config}"
                ) from None
            raise ServeError(
                f"port {port} of {host} cannot be used ({error.strerror})", fix=f"Change {key} in {config}"
            ) from None


def _holder(port: int) -> str:
    """Who listens on a port, where the system tells us."""
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:2] == (port,)
            if listens and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""
