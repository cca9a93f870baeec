"""A deployment's servers on the nodes of a Ray cluster: so many as are wanted, each where one of its places is free.

``python -m serving.on_ray CONFIG --replicas N`` runs in an environment that has Ray and no Triton; the servers run in
the house's own. ``gateway.replicas`` of CONFIG names the places, gRPC addresses on the nodes' own addresses: more of
them than servers, so that one whose node is lost comes back on another. HTTP and metrics are on the two ports after.
"""

import argparse
import fcntl
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import yaml

from contract import programs
from contract.address import refuse_strangers
from contract.checkout import ROOT
from contract.errors import ConchError, ServeError
from contract.spec import Deployment, load_spec
from serving.triton import is_container

_PYTHON = ROOT / ".venv" / "bin" / "python"
_AGAIN_S = 1.0


class Replica:
    """One server; Ray makes it again on a node that lives when its own does not."""

    def serve(self, spec: dict[str, Any], places: Sequence[str], root: str) -> None:
        """Serve at one of these places for as long as this actor lives."""
        while True:
            for place in places:
                if place.rpartition(":")[0] == here():
                    with taken(Path(root) / place.replace(":", "-")) as folder:
                        if folder:
                            start(at(spec, place), folder).wait()
            time.sleep(_AGAIN_S)


def here() -> str:
    """This node's address, as Ray's book has it."""
    own = ray.get_runtime_context().get_node_id()
    return str(next(node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == own))


@contextmanager
def taken(folder: Path) -> Iterator[Path | None]:
    """A place's folder, for us alone while we live; None where another server has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield folder


def at(spec: dict[str, Any], place: str) -> dict[str, Any]:
    """The deployment as one server of it, at its place and without a gateway of its own."""
    host, _, port = place.rpartition(":")
    ports = {"host": host, "grpc": int(port), "http": int(port) + 1, "metrics": int(port) + 2}
    return spec | {"ports": spec.get("ports", {}) | ports, "gateway": {"enabled": False}}


def start(spec: dict[str, Any], root: Path) -> "subprocess.Popen[bytes]":
    """A supervised server in a root of its own, which shares the engines."""
    if not (root / "engines").exists():
        (root / "engines").symlink_to(ROOT / "engines")
    config = root / "deployment.yaml"
    config.write_text(yaml.safe_dump(spec))
    write, serve = (*programs.REPOSITORY, str(config), str(root)), (*programs.SERVING, "serve", str(config))
    python = shlex.quote(str(_PYTHON))
    command = f"{python} {shlex.join(write)} && exec {python} {shlex.join(serve)} --root {shlex.quote(str(root))}"
    ends_with_us = ("setpriv", "--pdeathsig", "TERM")
    return subprocess.Popen([*ends_with_us, "sh", "-c", command], cwd=ROOT, env=_environment())


def _environment() -> dict[str, str]:
    """Without what Ray set for its own worker."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHON", "LD_"))}


def run(spec: Deployment, count: int) -> None:
    """Place the servers on the Ray that RAY_ADDRESS names, and see to it that they stay.

    Raises:
        ServeError: there are not enough places.
        SpecError: strangers could reach one.
    """
    places = spec.gateway.replicas
    if len(places) < count:
        raise ServeError(
            f"gateway.replicas: {len(places)} places for {count} servers",
            fix="Name as many on every node as it may have to take",
        )
    told = spec.model_dump(mode="json", exclude_unset=True)
    for place in () if is_container() else places:
        refuse_strangers(Deployment.model_validate(at(told, place)))
    ray.init(address="auto", log_to_driver=True, logging_level="warning")
    root = str(ROOT / ".conch" / "replicas" / spec.name)
    actor = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD")(Replica)
    servers = [actor.remote() for _ in range(count)]
    ray.get([server.serve.remote(told, places, root) for server in servers])


def main() -> None:
    """Until a signal ends this process, and with it the servers."""
    parser = argparse.ArgumentParser(prog="python -m serving.on_ray")
    parser.add_argument("config", type=Path, help="The deployment's YAML; gateway.replicas names the places.")
    parser.add_argument("--replicas", type=int, default=1, help="Servers in all.")
    given = parser.parse_args()
    try:
        run(load_spec(given.config), given.replicas)
    except ConchError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
