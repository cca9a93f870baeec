"""Checkpoints from the hubs to an engine, over HTTP from the stand-in of hub.py; and make fetch's own arguments."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from build.hub.remote import hub_of
from contract.errors import BuildError
from contract.manifest import load_manifest
from tests.build.conftest import CODE, Site, make_site, refused
from tests.build.hub import COMMIT, hub

REPO = "conch/tiny"


@pytest.fixture
def from_hub(tmp_path: Path, llama: Path) -> Callable[..., Site]:
    def make(**source: str) -> Site:
        site = make_site(tmp_path, llama)
        site.change(source={"kind": "huggingface", "repo": REPO} | source)
        return site

    return make


def variables(endpoint: str, cache: Path) -> dict[str, Any]:
    return {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "MODELSCOPE_ENDPOINT": endpoint,
        "MODELSCOPE_CACHE": str(cache),
        "MODELSCOPE_HOME": str(cache / "home"),
        "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "1",
    }


def test_a_library_that_is_too_old_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub 0.36, which TensorRT-LLM's image has, lacks this name."""
    monkeypatch.delitem(sys.modules, "build.hub.huggingface", raising=False)
    monkeypatch.delattr("huggingface_hub.utils.parse_ratelimit_headers")
    with pytest.raises(
        BuildError, match=r"source\.kind: huggingface needs a newer library of the hub than is here"
    ) as it:
        hub_of("huggingface")
    assert "source.kind: path" in it.value.fix


def test_a_repository_becomes_an_engine(from_hub: Callable[..., Site], llama: Path, tmp_path: Path) -> None:
    site = from_hub()
    with hub(REPO, llama) as endpoint:
        run = site.run(**variables(endpoint, tmp_path / "cache"))
    assert run.returncode == 0, run.stderr
    assert f"downloading {REPO}@main from Hugging Face: " in run.stderr
    origin = load_manifest(site.home / "current").origin
    assert origin and (origin.source, origin.commit) == (f"huggingface:{REPO}@main", COMMIT)
    assert origin.files.keys() == {file.name for file in llama.iterdir()}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"repo": "conch/none"}, "the hub has no conch/none, or shows it to its members only. Correct source.repo"),
        ({"revision": "v9"}, f"{REPO} has no revision v9. Correct source.revision"),
    ],
)
def test_what_the_hub_has_not(
    from_hub: Callable[..., Site], llama: Path, tmp_path: Path, source: dict[str, str], said: str
) -> None:
    with hub(REPO, llama) as endpoint:
        run = from_hub(**source).run(**variables(endpoint, tmp_path / "cache"))
    assert refused(run).startswith(said)


@pytest.mark.parametrize("kind", ["huggingface", "modelscope"])
def test_no_hub(from_hub: Callable[..., Site], tmp_path: Path, kind: str) -> None:
    run = from_hub(kind=kind, revision="main").run(**variables("http://127.0.0.1:1", tmp_path / "cache"))
    assert refused(run).startswith(f"{REPO}@main could not be downloaded: the hub cannot be reached (")


def fetch(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "build.fetch_command", *arguments]
    return subprocess.run(line, cwd=CODE, env=os.environ | environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("kind", ["huggingface", "modelscope"])
def test_fetch_by_config(from_hub: Callable[..., Site], llama: Path, tmp_path: Path, kind: str) -> None:
    config = str(from_hub(kind=kind).config)
    with hub(REPO, llama) as endpoint:
        run = fetch(config, "--root", str(tmp_path), **variables(endpoint, tmp_path / "cache"))
    assert run.returncode == 0, run.stderr
    assert "every hash as listed" in run.stderr
    folder = Path(run.stdout.strip())
    assert {file.name for file in folder.iterdir()} == {file.name for file in llama.iterdir()}


def test_fetch_by_config_of_what_is_no_hub(site: Site) -> None:
    run = fetch(str(site.config), "--root", str(site.root))
    assert run.returncode == 0, run.stderr
    assert site.steps() == ["fetch"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "neither a config nor a model is given. Give a config, or --model OWNER/NAME"),
        (["configs/qwen3-0.6b-vllm.yaml", "--revision", "v1"], "a revision goes with a model. A config has its own"),
        (["--model", "no-owner"], "--model: String should match pattern"),
        (["--model", REPO, "--source", "github"], "--source: Input should be 'huggingface' or 'modelscope'"),
        (["configs/synthetic.yaml"], "configs/synthetic.yaml has no source: runtime synthetic needs no weights"),
    ],
)
def test_fetch_of_nothing(arguments: list[str], said: str) -> None:
    assert refused(fetch(*arguments)).startswith(said)
