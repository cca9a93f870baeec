"""The scripts of TARGET=shell, in the replica of the image that they are for: no make there, no ssh, no sshd."""

from pathlib import Path

import pytest

from deploy.cluster import render_cluster
from deploy.images import server_image
from deploy.site import Site
from tests.deploy.cases import CODE, TORCH
from tests.deploy.clusters import spec
from tests.deploy.tools import write
from tests.images.container import Bind, Container, Running
from tests.images.replicas import missing, replica

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

# MPI's launcher, which the double has none of: says which program it was to start.
LAUNCHER = '#!/bin/sh\necho "$(command -v "$1")" "$@"\n'


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """What is rendered for two nodes of eight GPUs."""
    deployment = spec("trtllm-nodes")
    assert deployment.cluster
    site = Site(CODE, tmp_path / "rendered", "0:0")
    files = render_cluster(
        deployment, deployment.cluster, site, "configs/large.yaml", "shell", engine="docker", torch=TORCH
    )
    write(site.folder, files)
    return site.folder


def run(script: Path, *binds: Bind) -> tuple[int, str]:
    """A script in the image, as root, on a writable checkout of nothing."""
    mounts = (Bind(CODE, str(CODE)), Bind(script.parent, str(script.parent), writable=True), *binds)
    image = replica(server_image("trtllm").reference)
    log = script.parent / "log"
    with log.open("wb") as said:
        code = Running(Container(image, ("bash", str(script)), binds=mounts), said).wait(60)
    return code, log.read_text()


@pytest.mark.parametrize(("node", "lacks"), [("node-0.sh", "ssh"), ("node-1.sh", "/usr/sbin/sshd")])
def test_a_node_says_what_its_image_lacks(scripts: Path, node: str, lacks: str) -> None:
    code, said = run(scripts / node)
    assert code == 1
    assert said.startswith(f"{lacks} is not in this image: apt-get install openssh-")


def test_every_rank_runs_the_image_s_python_or_what_lies_over_it(scripts: Path, tmp_path: Path) -> None:
    launcher = tmp_path / "launcher"
    launcher.write_text(LAUNCHER)
    launcher.chmod(0o755)
    bind = Bind(launcher, "/usr/local/mpi/bin/trtllm-llmapi-launch")
    own = "/opt/venv-tritonserver/bin/python3"
    words = "python3 -m serving serve configs/large.yaml"
    assert run(scripts / "rank.sh", bind) == (0, f"{own} {words}\n")
    python = scripts / "state" / "venv" / "bin" / "python3"
    python.parent.mkdir(parents=True)
    python.symlink_to(own)
    assert run(scripts / "rank.sh", bind) == (0, f"{python} {words}\n")
