"""The real docker program reads the rendered commands; other engines get the words that they know."""

import shlex
from pathlib import Path

import pytest

from deploy.images import server_image
from deploy.service import run_command
from deploy.services import serving
from tests.deploy.cases import CODE, GOLDEN, files, gpu, site
from tests.deploy.recording_engine import Created, recording_engine
from tests.deploy.tools import needs_docker, run


def commands(case: str) -> list[list[str]]:
    """The commands of a case's run.sh, as a shell splits them."""
    script = files(case)["run.sh"].replace("\\\n", "")
    return [shlex.split(line) for line in script.splitlines()[2:]]


@pytest.fixture
def created(request: pytest.FixtureRequest, tmp_path: Path) -> Created:
    """What a container engine is asked for by a case's commands. Those that wait for an end are created only."""
    with recording_engine(tmp_path / "engine.sock") as found:
        for command in commands(request.param):
            words = [word for word in command if word != "--rm"]
            if words == command:
                done = run(*command, DOCKER_HOST=f"unix://{tmp_path}/engine.sock")
            else:
                done = run("docker", "create", *words[2:], DOCKER_HOST=f"unix://{tmp_path}/engine.sock")
            assert done.returncode == 0, done.stderr
    return found


@needs_docker
@pytest.mark.parametrize("created", ["cpu"], indirect=True)
def test_docker_understands_the_cpu(created: Created) -> None:
    assert list(created) == ["conch-small-install", "conch-small-server", "conch-small-gateway"]
    server = created["conch-small-server"]
    host = server["HostConfig"]
    assert server["User"] == "1000:1000"
    assert server["Cmd"][:2] == ["sh", "-c"]
    assert server["Healthcheck"]["Test"][1].endswith("-m serving status /etc/conch/deployment.yaml")
    assert server["StopTimeout"] == 60
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["Init"], host["CapDrop"]) == ("host", True, True, ["ALL"])
    rooms = [f"/srv/conch/{room}:/conch/{room}:ro" for room in ("build", "contract", "python_backend", "serving")]
    assert set(host["Binds"]) == {  # docker keeps them in no order
        *rooms,
        "/srv/conch/engines/small:/conch/engines/small:ro",
        "/srv/conch/deploy/rendered/small/deployment.yaml:/etc/conch/deployment.yaml:ro",
        "/srv/conch/deploy/rendered/small/state/install:/state:ro",
    }
    assert host["Tmpfs"]["/conch/.conch"] == "exec,mode=1777"
    assert host["NanoCpus"] == 4_000_000_000
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert not host["DeviceRequests"]


@needs_docker
@pytest.mark.parametrize("created", ["trtllm"], indirect=True)
def test_docker_understands_gpus_and_secrets(created: Created) -> None:
    host = created["conch-large-server"]["HostConfig"]
    assert host["DeviceRequests"][0]["Count"] == 4
    assert {it["Name"]: it["Hard"] for it in host["Ulimits"]} == {"memlock": -1, "stack": 67108864}
    assert host["ShmSize"] == 16 << 30
    gateway = created["conch-large-gateway"]["HostConfig"]
    assert "/srv/conch/keys:/run/secrets/api_keys:ro" in gateway["Binds"]
    assert not gateway["DeviceRequests"]


def test_podman_names_devices_and_keeps_the_user() -> None:
    _, server, *_ = commands("vllm")
    assert server[:2] == ["podman", "run"]
    assert [word for word in server if word.startswith("nvidia.com")] == ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]
    assert "--gpus" not in server
    assert server[server.index("--userns") + 1] == "keep-id"


def test_podman_of_root_has_no_user_to_keep() -> None:
    (install, *_) = serving(gpu("vllm"), site("large", CODE), server_image("vllm"))
    assert ("--userns", "keep-id") not in run_command("podman", "conch-large", install, rootless=False)


def test_nerdctl_takes_what_docker_takes() -> None:
    spec = gpu("vllm", tensor=2)
    services = serving(spec, site("large", CODE), server_image("vllm"))
    docker, nerdctl = (
        [[word for group in run_command(engine, "conch-large", it, rootless=True) for word in group] for it in services]
        for engine in ("docker", "nerdctl")
    )
    assert [words[1:] for words in docker] == [words[1:] for words in nerdctl]


def test_the_scripts_are_shell() -> None:
    for case in ("cpu", "vllm"):
        for name in ("run.sh", "commands.sh"):
            checked = run("sh", "-n", GOLDEN / case / name)
            assert checked.returncode == 0, checked.stderr
