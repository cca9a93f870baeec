"""Deployment spec → the files of ``deploy/rendered/NAME``, all of them as text before any is written."""

import json
import os
import secrets
import shlex
from pathlib import Path

from contract.manifest import engines_root
from contract.spec import Deployment
from deploy import grafana, prometheus
from deploy.images import server_image
from deploy.installing import laid_over
from deploy.service import ContainerEngine, compose, run_command
from deploy.services import building, check, inside, on_gpus, serving
from deploy.site import Site
from deploy.text import to_yaml
from deploy.watching import DASHBOARDS, DCGM, PROMETHEUS, scrape_targets, watching

_STATES = ("install", "install-gateway", "engine", "gateway")
_WITHOUT_A_NAME = 10001  # a user that no machine has: who renders as root gets no containers of root's


def site(root: Path, folder: Path) -> Site:
    """This machine, and whoever renders."""
    rootless = os.getuid() != 0
    uid, gid = (os.getuid(), os.getgid()) if rootless else (_WITHOUT_A_NAME, _WITHOUT_A_NAME)
    return Site(root, folder, f"{uid}:{gid}", rootless)


def render(
    spec: Deployment, where: Site, config: str, *, engine: ContainerEngine, torch: str, image: str = ""
) -> dict[str, str]:
    """Every file, by its name in the folder.

    Args:
        config: how the user names the spec.
        engine: whose command run.sh calls.
        torch: pip's requirement of the torch that builds engines on the CPU.
        image: of the server; '' for the one that the spec names, else the runtime's first.

    Raises:
        SpecError: what must not, or cannot, be started so.
    """
    chosen = server_image(spec.engine.runtime, image or spec.engine.image)
    check(spec, chosen)
    core = serving(spec, where, chosen)
    services = building(spec, where, chosen, torch) + core + watching(spec, where)
    project = f"conch-{spec.name.replace('.', '-')}"  # compose takes no dots
    gpus = on_gpus(spec)
    dashboard = grafana.dashboard(gateway=spec.gateway.enabled, gpus=gpus)
    requirements = laid_over(chosen, where.root / "pyproject.toml")
    return {
        "deployment.yaml": to_yaml(inside(spec)),
        "compose.yaml": to_yaml(compose(project, services, where.folder)),
        "run.sh": _script([run_command(engine, project, service, rootless=where.rootless) for service in core]),
        "commands.sh": _script(_plain(spec, where, config)),
        **({"requirements.txt": requirements} if requirements else {}),
        "prometheus/prometheus.yml": to_yaml(prometheus.configuration(scrape_targets(spec))),
        f"prometheus/{prometheus.RULES_FILE}": to_yaml(prometheus.rules(spec, gpus=gpus)),
        "grafana/dashboards/conch.json": json.dumps(dashboard, indent=2) + "\n",
        "grafana/provisioning/datasources/conch.yaml": to_yaml(grafana.datasources(f"http://{PROMETHEUS}")),
        "grafana/provisioning/dashboards/conch.yaml": to_yaml(grafana.providers(DASHBOARDS)),
    }


def write(files: dict[str, str], folder: Path) -> None:
    """Write the files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755 if name.endswith(".sh") else 0o644)


def prepare(spec: Deployment, where: Site) -> None:
    """Make what the containers must find: folders of their user, and Grafana's password."""
    uid, gid = map(int, where.user.split(":"))
    password = where.folder / "secrets" / "grafana_password"
    folders = [
        engines_root(where.root, spec.name),
        password.parent,
        *(where.folder / "state" / name for name in _STATES),
    ]
    made = [folder for folder in folders if not folder.exists()]
    for folder in made:
        folder.mkdir(parents=True, mode=0o700 if folder == password.parent else 0o755)
    if not password.exists():
        password.touch(0o600)
        password.write_text(secrets.token_urlsafe(18))
        made.append(password)
    if os.getuid() == 0:
        for path in made:
            os.chown(path, uid, gid)


def _plain(spec: Deployment, where: Site, config: str) -> list[list[tuple[str, ...]]]:
    """Without containers: the house's own buttons, then what watches."""
    chosen = (f"CONFIG={config}",)
    commands = [[("make", verb), chosen] for verb in ("engine", "check", "up")]
    if on_gpus(spec):
        commands.append([("dcgm-exporter",), ("--address", DCGM), ("&",)])
    settings = where.folder / "prometheus" / "prometheus.yml"
    commands.append(
        [
            ("exec", "prometheus"),
            (f"--config.file={settings}",),
            (f"--storage.tsdb.path={where.folder / 'state' / 'prometheus'}",),
            (f"--web.listen-address={PROMETHEUS}",),
        ]
    )
    return commands


def _script(commands: list[list[tuple[str, ...]]]) -> str:
    """A shell script of these commands, an option a line."""
    lines = ["#!/bin/sh", "set -eu"]
    for command in commands:
        words = [shlex.join(group) if group != ("&",) else "&" for group in command if group]
        lines.append(" \\\n  ".join(words))
    return "\n".join(lines) + "\n"
