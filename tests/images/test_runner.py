"""The runner keeps to what docker does: what a container may, how it is started, watched, ended and started again."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.images import PYTHON
from deploy.service import Service, compose
from tests.images import docker
from tests.images.project import NotUp, Project
from tests.images.replicas import missing, replica
from tests.serving.stream import until

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.skipif(os.getuid() != 0, reason="only root can start containers of other users"),
]

IMAGE = PYTHON.reference
FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
Making = Callable[..., Project]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Making]:
    """A project of these services: what is given of each, over what make deploy gives to all of ours."""
    made: list[Project] = []

    def project(**services: dict[str, Any]) -> Project:
        ours = compose("test", [Service(name=name, image=IMAGE, user="10001:10001") for name in services], tmp_path)
        for name, body in services.items():
            ours["services"][name] |= {"restart": "no"} | body
        secrets = {name: {"file": f"./{name}"} for body in services.values() for name in body.get("secrets", ())}
        (tmp_path / "compose.yaml").write_text(yaml.safe_dump(ours | {"secrets": secrets}))
        made.append(Project(tmp_path / "compose.yaml", replica, tmp_path))
        return made[-1]

    yield project
    for one in made:
        one.stop()


def sh(script: str, **more: Any) -> dict[str, Any]:
    """A service that is a shell's; compose would take a $ for its own."""
    return {"command": ["sh", "-c", script.replace("$", "$$")]} | more


def finish(project: Project) -> None:
    """Start all, and let all end."""
    project.up()
    for life in project.lives.values():
        assert life.wait() == 0


def said(project: Project, name: str, words: str) -> None:
    """Wait until a service has said this, and nothing else."""
    for _ in until(30, f"{name} to say {words!r}"):
        if project.logs(name) == words:
            return


def test_a_container_may_what_it_was_given_and_no_more(make: Making, tmp_path: Path) -> None:
    for name, mode in (("open", 0o777), ("closed", 0o755), ("read", 0o777)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    for name, mode in (("mine", 0o644), ("roots", 0o600)):
        (tmp_path / name).write_text("secret")
        (tmp_path / name).chmod(mode)
    script = """
        id -u; pwd; echo "$WORD"; cat /run/secrets/mine; echo; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status
        for path in /open /closed /read /memory /usr /tmp; do touch $path/x 2>/dev/null && echo "wrote $path"; done
        cat /run/secrets/roots 2>/dev/null || echo "not root's"
        ls /proc | grep -c '^[0-9]'
    """
    mounts = ["./open:/open", "./closed:/closed", "./read:/read:ro"]
    project = make(
        one=sh(
            script,
            environment={"WORD": "a $$ b"},
            volumes=mounts,
            tmpfs=["/memory:exec,mode=1777"],
            secrets=["mine", "roots"],
            working_dir="/open",
        )
    )
    finish(project)
    id_, folder, word, secret, *status = project.logs("one").splitlines()
    assert (id_, folder, word, secret) == ("10001", "/open", "a $ b", "secret")
    assert [line.split()[1] for line in status[:3]] == ["0" * 16, "0" * 16, "1"]
    assert status[3:-1] == ["wrote /open", "wrote /memory", "not root's"]
    assert int(status[-1]) < 8  # its own processes, and none of the host's
    assert (tmp_path / "open" / "x").stat().st_uid == 10001


def test_the_images_entrypoint_and_what_replaces_it(make: Making) -> None:
    project = make(one={"entrypoint": ["echo", "instead"]}, two=sh("command -v python3"))
    finish(project)
    assert (project.logs("one"), project.logs("two")) == ("instead\n", "/usr/local/bin/python3\n")


def test_what_is_not_there_is_not_mounted(make: Making) -> None:
    with pytest.raises(NotUp, match=r"bind source path does not exist: .*/nowhere"):
        make(one=sh("true", volumes=["./nowhere:/there:ro"])).up()


def test_what_nothing_here_does_is_refused_by_name(make: Making) -> None:
    with pytest.raises(ValueError, match="one: nothing here does hostname"):
        make(one=sh("true", hostname="other")).up()


def test_each_waits_for_those_before_it(make: Making, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o777)
    (tmp_path / "shared").chmod(0o777)
    volumes = ["./shared:/shared"]
    project = make(
        last=sh(
            f"cat /shared/log; {FOREVER}", volumes=volumes, depends_on={"second": {"condition": "service_healthy"}}
        ),
        second=sh(
            f"echo second >> /shared/log; {FOREVER}",
            volumes=volumes,
            depends_on={"first": {"condition": "service_completed_successfully"}},
            healthcheck={"test": ["CMD", "grep", "second", "/shared/log"], "interval": "200ms"},
        ),
        first=sh("sleep 0.3; echo first >> /shared/log", volumes=volumes),
        other=sh("true", profiles=["monitoring"]),
    )
    project.up(wait=True)
    said(project, "last", "first\nsecond\n")
    assert {name: life.status for name, life in project.lives.items()} == {
        "first": "exited",
        "second": "running",
        "last": "running",
    }
    project.stop()
    assert [life.exit_code for life in project.lives.values()] == [0, 0, 0]


@pytest.mark.parametrize(
    ("before", "condition"),
    [
        (sh("echo no; exit 3"), "service_completed_successfully"),
        (
            sh(FOREVER, healthcheck={"test": ["CMD", "false"], "interval": "100ms", "retries": 2}),
            "service_healthy",
        ),
    ],
)
def test_nothing_starts_after_what_fails(make: Making, before: dict[str, Any], condition: str) -> None:
    project = make(before=before, after=sh("true", depends_on={"before": {"condition": condition}}))
    with pytest.raises(NotUp, match=r"before is (exited \(3\)|running, health unhealthy)"):
        project.up()
    assert "after" not in project.lives


def test_a_health_check_is_forgiven_while_the_start_lasts(make: Making) -> None:
    """Docker asks every five seconds then; what is well at once is well."""
    check = {"test": ["CMD-SHELL", "test -e /tmp/up"], "interval": "10m", "start_period": "10m", "retries": 1}
    project = make(one=sh(f"touch /tmp/up; {FOREVER}", tmpfs=["/tmp:exec,mode=1777"], healthcheck=check))
    project.up(wait=True)
    assert project.lives["one"].health == "healthy"


def test_stop_waits_for_its_grace_and_no_longer(make: Making) -> None:
    project = make(
        deaf=sh("trap '' TERM; echo up; while :; do sleep 0.1; done", stop_grace_period="300ms"),
        kind=sh("trap 'echo drained; exit 0' TERM; echo up; while :; do sleep 0.1; done"),
    )
    project.up(wait=True)
    for name in project.lives:
        said(project, name, "up\n")
    project.stop()
    assert (project.lives["deaf"].exit_code, project.lives["kind"].exit_code) == (137, 0)
    assert project.logs("kind") == "up\ndrained\n"


def test_what_ends_starts_again_unless_it_was_stopped(make: Making) -> None:
    project = make(
        always=sh(f"echo up; {FOREVER}", restart="unless-stopped"),
        thrice=sh("echo tried; exit 1", restart="on-failure:2"),
        never=sh("exit 1", restart="no"),
    )
    project.up()
    said(project, "always", "up\n")
    project.kill("always")
    project.wait_for("always", restarts=1)
    assert project.lives["thrice"].wait() == 1
    said(project, "always", "up\nup\n")
    project.stop()
    assert {name: life.restarts for name, life in project.lives.items()} == {"always": 1, "thrice": 2, "never": 0}
    project.up()
    assert project.lives["always"].status == "running"


def test_a_docker_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What make engine and run.sh call: to the end, or detached and known by its name."""
    program = docker.program(tmp_path)
    monkeypatch.setenv("SECRET", "told by name")

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(program), *words], capture_output=True, text=True, timeout=60, check=False)

    options = ["--rm", "--network=host", "--env=SECRET", f"--volume={tmp_path}:/here:ro", "--workdir=/here"]
    ran = call("run", *options, "--user=10001:10001", IMAGE, "sh", "-c", 'echo "$SECRET $(pwd)"; exit 4')
    assert (ran.returncode, ran.stdout) == (4, "told by name /here\n")
    refused = call("run", "--rm", "--volume=/nowhere:/there", IMAGE, "true")
    assert refused.returncode == 125
    assert "bind source path does not exist: /nowhere" in refused.stderr

    named = ["run", "--detach", "--restart=unless-stopped", "--name", "x", "--init", "--network", "host"]
    assert call(*named, IMAGE, "sh", "-c", FOREVER).returncode == 0
    assert "already in use" in call(*named, IMAGE, "true").stderr
    assert call("stop", "x").returncode == 0
    assert call("rm", "x").returncode == 0
    assert "No such container" in call("stop", "x").stderr
