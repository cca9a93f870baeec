"""Checkpoints from the hub, over HTTP from the stand-in of hub.py."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.build.conftest import Site, make_site, refused
from tests.build.hub import COMMIT, hub

REPO = "conch/tiny"


@pytest.fixture
def from_hub(tmp_path: Path, llama: Path) -> Callable[..., Site]:
    def make(**source: str) -> Site:
        site = make_site(tmp_path, llama)
        site.change(source={"kind": "huggingface", "repo": REPO} | source)
        return site

    return make


def test_a_repository_becomes_an_engine(from_hub: Callable[..., Site], llama: Path, tmp_path: Path) -> None:
    site = from_hub(revision=COMMIT)
    with hub(REPO, llama) as endpoint:
        run = site.run(HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "cache"))
    assert run.returncode == 0, run.stderr
    assert f"downloading {REPO}@{COMMIT} from the hub" in run.stderr


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
        run = from_hub(**source).run(HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "cache"))
    assert refused(run).startswith(said)


def test_no_hub(from_hub: Callable[..., Site], tmp_path: Path) -> None:
    run = from_hub().run(HF_ENDPOINT="http://127.0.0.1:1", HF_HOME=str(tmp_path / "cache"))
    assert refused(run).startswith(f"{REPO}@main could not be downloaded: ")
