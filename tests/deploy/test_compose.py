"""Docker Compose itself reads the rendered file, by its specification's schema, and finds in it what was meant."""

import ast
import json
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.images import SERVERS, Image, server_image
from deploy.installing import laid_over
from deploy.render import render
from deploy.services import building, serving
from tests.deploy.cases import CASES, CODE, TORCH, cpu, files, gpu, site
from tests.deploy.tools import COMPOSE, run, write


def read(path: Path) -> dict[str, Any]:
    """What Compose makes of a file."""
    found = run(COMPOSE, "--profile", "*", "--file", path, "config", "--format", "json")
    assert found.returncode == 0, found.stderr
    services: dict[str, Any] = json.loads(found.stdout)
    return services


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every case as Compose reads it."""
    return {case: read(write(tmp_path_factory.mktemp(case), files(case)) / "compose.yaml") for case in CASES}


@pytest.fixture(params=CASES)
def composed(request: pytest.FixtureRequest, readings: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """A case's name, and Compose's reading of it."""
    return request.param, readings[request.param]


def test_it_is_accepted_whole(composed: tuple[str, dict[str, Any]]) -> None:
    case, file = composed
    wanted = {"install", "server", "gateway", "prometheus", "grafana", "open-webui"}
    built = {"engine"} if case != "trtllm" else set()  # its image is started by make engine itself
    on_gpus = {"install-gateway", "dcgm-exporter"} if case != "cpu" else set()
    assert set(file["services"]) == wanted | built | on_gpus
    assert {name: it["profiles"] for name, it in file["services"].items() if "profiles" in it} == {
        **({"engine": ["engine"]} if built else {}),
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
        "open-webui": ["webui"],
        **({"dcgm-exporter": ["monitoring"]} if case != "cpu" else {}),
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [("restarts", "always"), ("healthcheck", {"test": "true", "every": "1s"}), ("ulimits", {"memlock": "much"})],
)
def test_a_wrong_file_is_refused(key: str, value: object, tmp_path: Path) -> None:
    path = write(tmp_path, files("cpu")) / "compose.yaml"
    file = yaml.safe_load(path.read_text())
    file["services"]["server"][key] = value
    path.write_text(yaml.safe_dump(file))
    assert run(COMPOSE, "--file", path, "config").returncode != 0


def test_ours_are_confined(composed: tuple[str, dict[str, Any]]) -> None:
    case, file = composed
    engines = "/conch/engines/small" if case == "cpu" else "/conch/engines/large"
    for name in {"engine", "install", "server", "gateway"} & set(file["services"]):
        service = file["services"][name]
        assert service["user"] == "1000:1000"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        writable = {mount["target"] for mount in service["volumes"] if not mount.get("read_only")}
        assert writable == {"engine": {"/state", engines}, "install": {"/state"}}.get(name, set())


def test_the_gateway_may_wait_as_long_as_the_server_loads(composed: tuple[str, dict[str, Any]]) -> None:
    """Or up --wait fails on a gateway that is found ill before there is a model behind it."""
    case, file = composed
    starts = {file["services"][name]["healthcheck"]["start_period"] for name in ("server", "gateway")}
    assert starts == {"1m0s" if case == "cpu" else "30m0s"}


@pytest.mark.parametrize("image", [image for images in SERVERS.values() for image in images if image.packages], ids=str)
def test_what_serves_finds_all_that_it_imports(image: Image) -> None:
    """None of it is left to what an image happens to have."""
    rooms = [CODE / "serving", *([] if image.triton else [CODE / "serving" / "filter"])]
    trees = [ast.parse(path.read_text()) for room in rooms for path in room.glob("*.py") if path.stem != "on_ray"]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    modules = {name.partition(".")[0] for name in names} - {"google", "grpc"}  # tritonclient's own
    theirs = {name for name in modules - set(sys.stdlib_module_names) if not (CODE / name).is_dir()}
    distributions = packages_distributions()
    lines = laid_over(image, CODE / "pyproject.toml").lower().splitlines()
    wanted = {name: distributions[name][0].lower().replace("_", "-") for name in theirs}
    lacking = {name for name, package in wanted.items() if not any(line.startswith(package) for line in lines)}
    assert not lacking


def test_nothing_is_published_and_all_that_the_spec_does_not_place_is_on_loopback(
    composed: tuple[str, dict[str, Any]],
) -> None:
    _, file = composed
    services = file["services"]
    assert all(it["network_mode"] == "host" and "ports" not in it for it in services.values())
    assert "--web.listen-address=127.0.0.1:9090" in services["prometheus"]["command"]
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert services["open-webui"]["environment"]["HOST"] == "127.0.0.1"
    if "dcgm-exporter" in services:
        assert services["dcgm-exporter"]["environment"]["DCGM_EXPORTER_LISTEN"] == "127.0.0.1:9400"


def test_gpus_and_their_limits(composed: tuple[str, dict[str, Any]]) -> None:
    case, file = composed
    server = file["services"]["server"]
    if case == "cpu":
        assert "deploy" not in server or not server["deploy"]["resources"].get("reservations")
        assert server["cpus"] == 4
        return
    (device,) = server["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"]) == ("nvidia", {"trtllm": 4, "vllm": 2}[case])
    assert server["ulimits"] == {"memlock": -1, "stack": 67108864}
    assert int(server["shm_size"]) == 16 << 30
    assert "cpus" not in server


def test_every_service_that_stays_is_started_again_and_ours_are_watched(composed: tuple[str, dict[str, Any]]) -> None:
    _, file = composed
    for name, service in file["services"].items():
        once = name in ("engine", "install", "install-gateway")
        assert service["restart"] == ("no" if once else "unless-stopped")
    for name in ("server", "gateway", "prometheus", "grafana"):
        assert file["services"][name]["healthcheck"]["test"][0] == "CMD"


def test_secrets_are_files_of_those_who_need_them(readings: dict[str, dict[str, Any]]) -> None:
    file = readings["vllm"]
    holders = {name: [it["source"] for it in service.get("secrets", [])] for name, service in file["services"].items()}
    assert {name: held for name, held in holders.items() if held} == {
        "engine": ["hf_token"],
        "gateway": ["api_keys"],
        "grafana": ["grafana_password"],
        "open-webui": ["webui_key"],
    }
    # What Compose would replace by a variable of its own reaches the shell as it is.
    assert '"$$(cat /run/secrets/webui_key)"' in file["services"]["open-webui"]["command"][2]


def test_a_gateway_keeps_what_it_writes_and_sees_what_its_collector_wants(tmp_path: Path) -> None:
    tracing = {"endpoint": "http://127.0.0.1:4318", "headers": "collector", "file": "somewhere/traces.jsonl"}
    spec = cpu(gateway={"ledger": "ledger.jsonl"}, tracing=tracing)
    rendered = render(spec, site("small", tmp_path), "configs/small.yaml", engine="docker", torch=TORCH)
    own = yaml.safe_load(rendered["deployment.yaml"])
    assert own["tracing"] == tracing | {"headers": "/run/secrets/otlp_headers", "file": "/kept/traces.jsonl"}
    assert own["gateway"]["ledger"] == "/kept/ledger.jsonl"
    file = read(write(tmp_path / "deploy" / "rendered" / "small", rendered) / "compose.yaml")
    assert file["secrets"]["otlp_headers"]["file"] == str(tmp_path / "collector")
    gateway = file["services"]["gateway"]
    assert [each["source"] for each in gateway["secrets"]] == ["otlp_headers"]
    kept = next(each for each in gateway["volumes"] if each["target"] == "/kept")
    assert kept["source"].endswith("state/gateway") and not kept.get("read_only")


def test_an_engine_sees_what_it_links_to(tmp_path: Path) -> None:
    """A hub's cache of this host, at its own place; what a container has built links within the engine's folder."""
    spec, root = gpu("vllm"), tmp_path / "conch"
    cache, engine = tmp_path / "hub" / "blobs", root / "engines" / "large" / "v1"
    for folder in (cache, engine):
        folder.mkdir(parents=True)
    (root / "pyproject.toml").symlink_to(CODE / "pyproject.toml")
    (cache / "abc").write_text("weights")
    (engine / "model.safetensors").symlink_to(cache / "abc")
    (engine / "config.json").symlink_to("/conch/engines/large/.work/hub/blobs/def")
    (engine.parent / "current").symlink_to("v1")
    place = site("large", root)
    image = server_image("vllm")
    services = (*building(spec, place, image, TORCH), *serving(spec, place, image))
    names = {each.name: each for each in services}
    mounts = {mount.target: mount for mount in names["server"].mounts}
    assert (mounts[str(cache)].source, mounts[str(cache)].writable) == (cache, False)
    assert not [target for target in mounts if target.endswith("hub/blobs") and target != str(cache)]
    assert names["engine"].environment["HF_HOME"] == "/conch/engines/large/.work/hub"


def test_an_image_that_starts_a_program_of_its_own(tmp_path: Path) -> None:
    """vLLM's: ours is started instead, and its worker finds the image's packages."""
    spec, image = gpu("vllm"), "vllm/vllm-openai:v0.26.0"
    found = render(spec, site("large", CODE), "configs/x.yaml", engine="docker", torch=TORCH, image=image)
    services = read(write(tmp_path, found) / "compose.yaml")["services"]
    assert services["server"]["entrypoint"][:2] == ["sh", "-c"]
    assert not services["server"].get("command")
    assert "/conch/.venv-vllm" in [mount["target"] for mount in services["server"]["volumes"]]
    assert "--entrypoint sh" in found["run.sh"]


def test_what_builds_in_an_engines_image_has_what_only_building_asks_for(readings: dict[str, dict[str, Any]]) -> None:
    """Neither vLLM's image nor LMDeploy's has gguf, whose version is in every engine's key."""
    services = readings["vllm"]["services"]
    assert "gguf" in services["engine"]["command"][-1]
    assert "gguf" not in " ".join(services["install"]["command"])


def test_a_name_with_dots(tmp_path: Path) -> None:
    found = render(cpu(name="qwen2.5-7b"), site("x", CODE), "configs/x.yaml", engine="docker", torch=TORCH)
    assert read(write(tmp_path, found) / "compose.yaml")["name"] == "conch-qwen2-5-7b"


def test_a_checkpoint_of_the_host_is_where_the_build_looks_for_it(tmp_path: Path) -> None:
    """It is read where it is rendered for: its path is relative, as the project is below the same folder."""
    checkpoint, place = tmp_path / "model", site("small", tmp_path / "conch")
    spec = cpu(source={"kind": "path", "path": str(checkpoint)})
    found = render(spec, place, "configs/small.yaml", engine="docker", torch=TORCH)
    engine = read(write(place.folder, found) / "compose.yaml")["services"]["engine"]
    assert {"type": "bind", "source": str(checkpoint), "target": str(checkpoint)}.items() <= engine["volumes"][
        -1
    ].items()
    assert yaml.safe_load(found["deployment.yaml"])["source"]["path"] == str(checkpoint)
