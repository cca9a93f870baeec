"""Runtime trtllm's builder: the container's command, and a build through it from a checkpoint on disk.

The container program and what is in the image are doubles (tests/doubles); the command line, the job, the
checkpoint, the manifest and the publishing are real.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from build.builders import builder_of
from build.chain import keys_of, show_command
from build.trtllm.over import laid_over, lay_over
from contract.errors import BuildError
from contract.manifest import load_manifest
from contract.spec import load_spec
from tests import tiny
from tests.build.conftest import CODE, Site, make_site, refused
from tests.build.hub import hub
from tests.trtllm.adapters import write_adapter

BIN = CODE / "tests" / "doubles" / "bin"
IMAGE = "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3"
Making = Callable[..., Site]


@pytest.fixture
def containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """docker and nvidia-smi are the doubles, and nothing else runs containers; returns docker's log."""
    log = tmp_path / "containers.log"
    log.touch()
    monkeypatch.setenv("PATH", f"{BIN}:/usr/bin:/bin")
    monkeypatch.setenv("CONTAINER_LOG", str(log))
    monkeypatch.setenv("CONTAINER_PYTHON", sys.executable)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return log


@pytest.fixture(scope="session")
def over(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What goes over the image's packages, fetched once."""
    cache = tmp_path_factory.mktemp("cache")
    lay_over(cache)
    return laid_over(cache)


@pytest.fixture
def make(tmp_path: Path, llama: Path, over: Path) -> Making:
    cache = tmp_path / "engines" / ".trtllm"
    cache.mkdir(parents=True)
    laid_over(cache).symlink_to(over)

    def made(trtllm: dict[str, Any] | None = None, checkpoint: Path = llama, **engine: Any) -> Site:
        engine = {"runtime": "trtllm", "precision": "bf16", "trtllm": {"gpu": "h100", **(trtllm or {})}, **engine}
        site = make_site(tmp_path, checkpoint, engine=engine, verify={"reference": "none"})
        limits = {"max_seq_len": tiny.CONTEXT, "max_input_len": 256, "max_num_tokens": 512}
        site.change(limits=limits)
        return site

    return made


def asked(log: Path, verb: str) -> list[list[str]]:
    """The command lines that docker got."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line[0] == verb]


def dry_run(site: Site) -> list[str]:
    return show_command(load_spec(site.config), site.root)


def refusal(site: Site) -> str:
    """What building it says; nothing is published."""
    with pytest.raises(BuildError) as error:
        site.build()
    assert site.engines() == []
    return str(error.value)


def test_a_build_in_a_container(containers: Path, make: Making) -> None:
    site = make({"log_probs": True})
    first = site.run()
    assert first.returncode == 0, first.stderr
    for stage in ("importing TensorRT-LLM", "building the engine", "saving the engine", "not verified"):
        assert stage in first.stderr
    assert first.stderr.splitlines()[-1] == f"next: make deploy CONFIG={site.config}"  # not serve: it would refuse

    engine = (site.home / "current").resolve()
    manifest = load_manifest(engine)
    assert manifest.gpu and (manifest.gpu.backend, manifest.gpu.image) == ("tensorrt", IMAGE)
    assert (manifest.built_with["tensorrt_llm"], manifest.built_with["tensorrt"]) == ("1.2.1", "10.14.1.48")
    assert {"trtllm/rank0.engine", "tokenizer.json", "chat_template.jinja"} <= manifest.files.keys()
    assert (engine / "chat_template.jinja").read_text() == tiny.CHAT_TEMPLATE
    assert (site.home / ".work" / "trtllm.log").exists()

    # What is printed is what was run, now that the checkpoint is there.
    (ran,) = asked(containers, "run")
    run = subprocess.run([*site.command(), "--dry-run"], cwd=CODE, capture_output=True, text=True, check=False)
    assert shlex.split(run.stdout) == dry_run(site) == ["docker", *ran]

    # What is there is not built again.
    assert site.build() == engine
    assert len(asked(containers, "run")) == 1

    # Kernels once measured serve the next build.
    built = build_config(site)
    assert "input_timing_cache" not in built
    assert Path(built["output_timing_cache"]).is_relative_to(site.root / "engines" / ".trtllm")
    make({"kv_cache": {"tokens_per_block": 64}})
    assert site.build() != engine
    assert build_config(site)["input_timing_cache"] == built["output_timing_cache"]


def test_what_the_image_lacks_and_nobody_has_is_refused_before_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        BuildError, match="pip could not install openai>=2,<3, which TensorRT-LLM wants newer"
    ) as refused:
        lay_over(tmp_path / "cache")
    assert "PIP_FIND_LINKS" in refused.value.fix
    assert not list((tmp_path / "cache").iterdir())


def build_config(site: Site) -> dict[str, Any]:
    """What the last build was told."""
    job = json.loads((site.home / ".work" / "trtllm.job.json").read_text())
    found: dict[str, Any] = job["call"]["arguments"]["build_config"]["arguments"]
    return found


def test_what_the_engines_version_depends_on(
    containers: Path, make: Making, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, image, GPU and every option; not the limits of the server alone."""

    base = _version(make())
    assert _version(make()) == base
    assert _version(make({"scheduler": "max_utilization", "kv_cache": {"memory_fraction": 0.5}})) == base
    others = {
        _version(make({"log_probs": True})),
        _version(make({"kv_cache": {"precision": "int8"}})),
        _version(make({"container": {"image": f"mirror.example/{IMAGE}"}})),
        _version(make({"backend": "pytorch"})),
        _version(make(precision="fp16")),
        _version(make(checkpoint=tiny.write_checkpoint(tmp_path / "other"))),
    }
    smi = tmp_path / "smi" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho '0, GPU-0, NVIDIA A100-SXM4-80GB, 8.0, 81920, 590.44.01'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    others.add(_version(make()))
    assert base not in others
    assert len(others) == 7


def _version(site: Site) -> str:
    spec = load_spec(site.config)
    assert spec.source
    return keys_of(spec, spec.source, builder_of("trtllm")).engine


def test_pytorch_builds_nothing(containers: Path, make: Making, llama: Path) -> None:
    engine = make({"backend": "pytorch"}).build()
    assert not asked(containers, "run")
    weights = engine / "trtllm" / "model.safetensors"
    assert not weights.is_symlink()
    assert weights.read_bytes() == (llama / "model.safetensors").read_bytes()
    assert load_manifest(engine).gpu


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ("docker", ["--gpus=all", f"--user={os.getuid()}:{os.getgid()}"]),
        ("nerdctl", ["--gpus=all", f"--user={os.getuid()}:{os.getgid()}"]),
        ("podman", ["--device=nvidia.com/gpu=all", "--userns=keep-id"]),
    ],
)
def test_each_program_is_found_and_spoken_to(
    containers: Path, make: Making, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, wanted: list[str]
) -> None:
    """Docker first, then podman, then nerdctl: whichever is there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    shutil.copy(BIN / "nvidia-smi", folder)
    shutil.copy(BIN / "docker", folder / program)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    command = dry_run(make())
    assert command[:3] == [program, "run", "--rm"]
    assert set(wanted) <= set(command)
    assert command[-4:] == ["python3", "-m", "build.trtllm.inside", command[-1]]
    assert command[-5] == IMAGE
    assert f"--volume={CODE}:{CODE}:ro" in command
    assert "--network=none" not in command


def test_behind_a_proxy_or_without_a_network(containers: Path, make: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret is named and never shown."""
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.example:3128")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    command = dry_run(make())
    assert {"--env=HTTPS_PROXY", "--env=HF_TOKEN"} <= set(command)
    assert "secret" not in " ".join(command)
    closed = dry_run(make({"container": {"network": False, "proxy": False, "pull": "never"}}))
    assert {"--network=none", "--pull=never", "--env=HF_HUB_OFFLINE=1"} <= set(closed)
    assert "--env=HTTPS_PROXY" not in closed


def test_a_failure_shows_its_cause_and_leaves_nothing(
    containers: Path, make: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make()
    monkeypatch.setenv("CONTAINER_FAILS", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
    said = refusal(site)
    assert said.startswith("TensorRT-LLM failed: a GPU has too little memory for the build (torch.OutOfMemoryError")
    assert f"Its whole log is {site.home / '.work' / 'trtllm.log'}. Raise engine.parallel.tensor" in said
    assert len((site.home / ".work" / "trtllm.log").read_text().splitlines()) > 400
    assert site.engines() == []
    assert not list((site.home / ".work").glob(".engine-*"))


def test_what_tensorrt_llm_refuses_is_told(containers: Path, make: Making, tmp_path: Path) -> None:
    """An error inside the image, after the config and the checkpoint have passed here."""
    checkpoint = tiny.write_checkpoint(tmp_path / "checkpoint")
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"architectures": ["PhiForCausalLM"]}))
    said = refusal(make(checkpoint=checkpoint))
    assert "TensorRT-LLM builds no engine of this architecture (NotImplementedError: The given" in said
    assert "PhiForCausalLM is not supported in TRT-LLM yet" in said


def test_adapters_and_draft_models_come_along(containers: Path, make: Making, tmp_path: Path) -> None:
    write_adapter(tmp_path / "sea")
    (tmp_path / "draft").mkdir()
    (tmp_path / "draft" / "config.json").write_text("{}")
    eagle = {"kind": "eagle", "model": str(tmp_path / "draft"), "max_draft_len": 2}
    site = make({"lora": {"adapters": {"sea": str(tmp_path / "sea")}}, "speculative": eagle})
    files = load_manifest(site.build()).files
    assert {"lora/sea/adapter_config.json", "draft/config.json"} <= files.keys()
    lora = build_config(site)["lora_config"]["arguments"]
    assert lora["lora_target_modules"] == ["attn_q", "attn_k", "attn_v"]


def test_nothing_that_runs_containers(containers: Path, make: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINER_DOWN", "Cannot connect to the Docker daemon")
    assert refusal(make()) == (
        "docker does not run: Cannot connect to the Docker daemon. Start its service, or add yourself to its group"
    )
    assert "program podman is not on PATH" in refusal(make({"container": {"program": "podman"}}))
    empty = containers.parent / "empty"
    empty.mkdir()
    shutil.copy(BIN / "nvidia-smi", empty)
    (empty / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(empty))
    assert refusal(make()).startswith("TensorRT-LLM is not installed here, and there is no docker, podman or nerdctl")


@pytest.mark.parametrize(
    ("smi", "trtllm", "engine", "said"),
    [
        ("exit 9", {}, {}, "nvidia-smi finds no GPU here, and TensorRT builds on the GPU that it builds for"),
        ("exit 9", {"gpu": None}, {}, "nvidia-smi finds no GPU here, and an engine is for one kind of GPU"),
        (
            "echo '0, GPU-0, NVIDIA A100-SXM4-80GB, 8.0, 81920, 590.44.01'",
            {},
            {},
            "engine.trtllm.gpu is h100 (sm90), here is NVIDIA A100-SXM4-80GB (sm80). Build on such a machine",
        ),
        (
            "echo '0, GPU-0, NVIDIA H100 80GB HBM3, 9.0, 81559, 590.44.01'",
            {},
            {"parallel": {"tensor": 2}},
            "engine.parallel asks for 2 GPUs, here are 1. Build on such a machine, or lower engine.parallel",
        ),
    ],
)
def test_another_machine(
    containers: Path,
    make: Making,
    tmp_path: Path,
    smi: str,
    trtllm: dict[str, Any],
    engine: dict[str, Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = tmp_path / "smi" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{smi}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert refusal(make(trtllm, **engine)).startswith(said)
    assert not asked(containers, "run")


def test_an_interrupt_ends_the_container(containers: Path, make: Making, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\necho '@conch stage: building the engine'\nexec sleep 600\n")
    slow.chmod(0o755)
    site = make()
    environment = os.environ | {"CONTAINER_PYTHON": str(slow)}
    with subprocess.Popen(site.command(), cwd=CODE, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if "building the engine" in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 128 + signal.SIGINT
    assert asked(containers, "kill") == [["kill", "conch-build-tiny"]]
    assert not list((site.home / ".work").glob(".engine-*"))


def test_what_cannot_be_built_is_not_downloaded(containers: Path, make: Making, tmp_path: Path) -> None:
    """A repository on the hub is judged by its config.json alone."""
    checkpoint = tiny.write_checkpoint(tmp_path / "checkpoint")
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"architectures": ["DeepseekV3ForCausalLM"]}))
    site = make()
    site.change(source={"kind": "huggingface", "repo": "conch/tiny"})
    with hub("conch/tiny", checkpoint) as endpoint:
        run = site.run(HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "cache"))
    assert "builds no engine of DeepseekV3ForCausalLM. Set engine.trtllm.backend: pytorch" in refused(run)
    fetched = {path.name for path in (tmp_path / "cache").rglob("snapshots/*/*")}
    assert "config.json" in fetched
    assert not {name for name in fetched if name.endswith(".safetensors")}


def test_a_runtime_without_a_container_has_no_command(make: Making) -> None:
    site = make()
    site.config.write_text(yaml.safe_dump(yaml.safe_load(site.config.read_text()) | {"engine": {"precision": "int8"}}))
    run = subprocess.run([*site.command(), "--dry-run"], cwd=CODE, capture_output=True, text=True, check=False)
    assert "runtime openvino runs no command" in refused(run)
