"""What the tests of both hubs fetch, and how: in this process, or by make fetch's program in one of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest
from huggingface_hub import constants
from modelscope_hub.config import set_default_config

from build.hub import download, huggingface, modelscope
from build.hub.snapshot import Fetched, collect
from contract.errors import BuildError
from contract.sections import HubKind, HubSource
from tests.build.conftest import CODE
from tests.build.hub import Faults, hub

REPO = "conch/tiny"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
SMALL = {"chat_template.jinja", "config.json", "generation_config.json", "model.safetensors.index.json"}
NEEDED = {*SMALL, "tokenizer.json", *SHARDS}


def write_repository(folder: Path) -> Path:
    """A repository as some are: the same weights in several formats, and what no runtime reads."""
    noise = Random(0)
    index = json.dumps({"metadata": {}, "weight_map": dict(zip("ab", SHARDS, strict=True))})
    small = {
        "config.json": "{}",
        "generation_config.json": "{}",
        "chat_template.jinja": "{{ messages }}",
        "model.safetensors.index.json": index,
    }
    unneeded = ("README.md", "consolidated.safetensors", "model.gguf", "pytorch_model.bin", "original/params.json")
    for name, text in {**small, **dict.fromkeys(unneeded, "not for a runtime")}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name, size in ((SHARDS[0], 400_000), (SHARDS[1], 250_001), ("tokenizer.json", 70_000)):
        (folder / name).write_bytes(noise.randbytes(size))
    return folder


def check_exact(folder: Path, repository: Path) -> None:
    """The snapshot has what a runtime needs, byte by byte, and nothing else."""
    assert {file.name for file in folder.iterdir()} == NEEDED
    for name in NEEDED:
        assert (folder / name).read_bytes() == (repository / name).read_bytes(), name
    assert not list(folder.parents[1].rglob(f"*{download.PARTIAL}"))


class Client:
    """Fetches in this process, from the stand-in, into a cache of its own."""

    def __init__(self, kind: HubKind, repository: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kind, self.repository, self.cache = kind, repository, cache
        self.token = {"huggingface": huggingface.TOKEN, "modelscope": modelscope.TOKEN}[kind]
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setenv("MODELSCOPE_CACHE", str(cache))
        monkeypatch.setenv("MODELSCOPE_HOME", str(cache / "home"))
        for name in (huggingface.TOKEN, modelscope.TOKEN):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(download, "WAITS_S", (0.0,) * 5)
        monkeypatch.setattr(huggingface, "_LISTING_WAITS_S", (0.0,))
        # The library's own patience with listings.
        monkeypatch.setattr("modelscope_hub._legacy_api.REPO_TREE_PAGE_MAX_ATTEMPTS", 2)
        monkeypatch.setattr("modelscope_hub._legacy_api.REPO_TREE_PAGE_RETRY_MAX_DELAY_SECONDS", 0)

    def source(self, **changes: str) -> HubSource:
        return HubSource.model_validate({"kind": self.kind, "repo": REPO} | changes)

    @contextmanager
    def online(self, faults: Faults | None = None, endpoint: str = "") -> Iterator[None]:
        with ExitStack() as stack:
            endpoint = endpoint or stack.enter_context(hub(REPO, self.repository, faults))
            self._monkeypatch.setattr(constants, "ENDPOINT", endpoint)
            self._monkeypatch.setattr(
                constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
            )
            self._monkeypatch.setenv("MODELSCOPE_ENDPOINT", endpoint)
            self.forget()
            yield

    def forget(self) -> None:
        """ModelScope's library keeps what its variables said."""
        set_default_config(None)
        modelscope._api.cache_clear()

    def collect(self, faults: Faults | None = None, endpoint: str = "", **source: str) -> Fetched:
        with self.online(faults, endpoint):
            return collect(self.source(**source))

    def refusal(self, faults: Faults | None = None, endpoint: str = "", **source: str) -> str:
        with pytest.raises(BuildError) as error:
            self.collect(faults, endpoint, **source)
        return str(error.value)


class Command:
    """``make fetch``'s program, in a process of its own."""

    def __init__(self, kind: HubKind, endpoint: str, cache: Path) -> None:
        self.line = [sys.executable, "-m", "build.fetch_command", "--model", REPO, "--source", kind]
        self.environment = os.environ | {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(cache),
            "MODELSCOPE_ENDPOINT": endpoint,
            "MODELSCOPE_CACHE": str(cache),
            "MODELSCOPE_HOME": str(cache / "home"),
        }

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        line = [*self.line, *options]
        return subprocess.run(line, cwd=CODE, env=self.environment, capture_output=True, text=True, timeout=60)

    def start(self, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.line, cwd=CODE, env=self.environment, stdout=subprocess.DEVNULL, stderr=stderr)
