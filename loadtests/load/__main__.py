"""``make loadtest`` and its sisters: a deployment's own server under Locust, started for it where none runs.

What follows a ``--`` goes to Locust as it is, so every option of Locust's works here too.
"""

import argparse
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from contract.address import free_ports, reachable
from contract.checkout import ROOT
from contract.spec import Deployment, load_spec
from loadtests.command import ended
from loadtests.load.fault import LoadError
from loadtests.load.options import NAMES, add_arguments, flag, plan_of
from loadtests.served import served

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_DCGM_PORT = 9400  # dcgm-exporter's own default
_LEAVING_S = 20.0  # for Locust to end a run when it is told to


def parser() -> argparse.ArgumentParser:
    """Our command line."""
    parsed = argparse.ArgumentParser(prog="python -m loadtests.load", description=__doc__, allow_abbrev=False)
    parsed.add_argument("config", nargs="?", type=Path, help="a deployment; none with --host: any other server")
    parsed.add_argument("--host", default="", help="http://HOST:PORT, or HOST:PORT for gRPC")
    parsed.add_argument("--users", type=int, default=0, help="of a closed loop")
    parsed.add_argument("--workers", type=int, default=0, help="processes that send; 0: this one alone")
    parsed.add_argument("--ui", action="store_true", help="Locust's web page, on http://127.0.0.1:8089")
    add_arguments(parsed)
    return parsed


def main(arguments: Sequence[str]) -> int:
    """Run it; returns Locust's exit code.

    Raises:
        ConchError: it cannot be run as asked.
    """
    options, rest = parsed(parser(), arguments)
    spec = aimed(options)
    plan_of(options)  # refuses what is wrong before anything starts
    if options.workers < 0 or options.users < 0:
        raise LoadError("--workers and --users must not be below 0")
    if options.loop == "closed" and not options.users:
        raise LoadError("--loop closed needs --users")
    with up(options.config if spec else None):
        return locust(options, rest)


def parsed(known: argparse.ArgumentParser, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our options, and what follows a ``--`` for Locust."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    return known.parse_args(arguments[:cut]), list(arguments[cut + 1 :])


def aimed(options: argparse.Namespace) -> Deployment | None:
    """Fill in where the load goes, as the config says; returns its spec.

    Raises:
        ConchError: neither config nor host, or a config that cannot be accepted.
    """
    spec = None
    if options.config is not None:
        options.deployment = str(options.config.resolve())
        spec = load_spec(options.config)
        options.metrics_url = options.metrics_url or ",".join(metrics_urls(spec))
        options.model = options.model or ("ensemble" if options.transport.startswith("triton") else spec.name)
    if not options.host:
        if spec is None:
            raise LoadError("neither a config nor --host says what to load", fix="Give one of them")
        options.host = host_of(spec, options.transport)
    return spec


def reported(options: argparse.Namespace, rest: Sequence[str], log: Path) -> dict[str, Any]:
    """The report of a load test whose own words go into a log.

    Raises:
        LoadError: it failed; the end of the log is in the message.
    """
    with log.open("w") as out:
        code = locust(options, rest, out)
    if code:
        raise LoadError(f"the load test at {options.rate:.2f} requests/s failed: {log.read_text()[-2000:]}")
    report: dict[str, Any] = json.loads((Path(options.out) / "report.json").read_text())
    return report


def locust(options: argparse.Namespace, rest: Sequence[str], out: IO[str] | None = None) -> int:
    """Locust with these options, one process or a master and its workers; its exit code."""
    users = options.users if options.loop == "closed" else max(1, options.workers)
    program = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE)]
    told = [*_told(options), "--users", str(users), "--spawn-rate", str(max(users, 1)), "--loglevel", "WARNING"]
    page = ["--web-host", "127.0.0.1"] if options.ui else ["--headless", "--only-summary"]
    if not options.workers:
        return _waited([*program, *told, *page, *rest], out)
    port = str(free_ports(1)[0])
    master = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    expects = ["--expect-workers", str(options.workers), "--expect-workers-max-wait", "60"]
    joins = ["--worker", "--master-host", "127.0.0.1", "--master-port", port, "--loglevel", "WARNING"]
    joins += ["--transport", options.transport]
    workers = [subprocess.Popen([*program, *joins], cwd=ROOT, stdout=out, stderr=out) for _ in range(options.workers)]
    try:
        return _waited([*program, *told, *page, *master, *expects, *rest], out)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()


def _waited(command: list[str], out: IO[str] | None) -> int:
    """Run Locust to its end, and never leave it behind."""
    with subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out) as running:
        try:
            return running.wait()
        except KeyboardInterrupt:  # the terminal told Locust too, which ends the run and reports what there is
            running.wait()
            raise
        except BaseException:
            running.terminate()
            with suppress(subprocess.TimeoutExpired):
                running.wait(_LEAVING_S)
            running.kill()
            raise


@contextmanager
def up(config: Path | None) -> Iterator[None]:
    """The deployment's server: the one that runs, or one for the length of this."""
    if config is None or listens(load_spec(config)):
        yield
        return
    print(f"no server of {config} runs: one is started for this", flush=True)
    with served(config.resolve()):
        yield


def host_of(spec: Deployment, transport: str) -> str:
    """Where a deployment answers a transport.

    Raises:
        LoadError: it has no such door.
    """
    if transport.startswith("openai"):
        if not spec.gateway.enabled:
            raise LoadError(
                f"--transport {transport}: {spec.name} has no gateway", fix="Use triton-grpc or triton-http"
            )
        return f"http://{reachable(spec.gateway.host)}:{spec.ports.gateway}"
    host = reachable(spec.ports.host)
    return f"{host}:{spec.ports.grpc}" if transport == "triton-grpc" else f"http://{host}:{spec.ports.http}"


def metrics_urls(spec: Deployment) -> list[str]:
    """A deployment's pages of metrics, and dcgm-exporter's: a page that nobody serves is left out as it is read."""
    host = reachable(spec.ports.host)
    pages = [f"http://{host}:{spec.ports.metrics}/metrics", f"http://{host}:{_DCGM_PORT}/metrics"]
    if spec.gateway.enabled:
        pages.append(f"http://{reachable(spec.gateway.host)}:{spec.ports.gateway}/metrics")
    return pages


def listens(spec: Deployment) -> bool:
    """Whether a deployment's server runs, or another has its port."""
    with socket.socket() as probe:
        return probe.connect_ex((reachable(spec.ports.host), spec.ports.grpc)) == 0


def _told(options: argparse.Namespace) -> list[str]:
    """Our options as Locust's command line takes them."""
    told = ["--host", options.host]
    for name in NAMES:
        value = getattr(options, name)
        if value is True:
            told.append(flag(name))
        elif value is not False and value != "":
            told.append(f"{flag(name)}={value}")
    return told


if __name__ == "__main__":
    ended(main)
