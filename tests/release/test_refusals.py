"""What cannot be released is refused before anything is built, with the way out."""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.servers import on_free_ports
from tests.release.conftest import Site


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"ports": {"grpc": 9999}}, "ports.grpc: a release keeps the doors as they are"),
        ({"gateway": {"max_queue_size": 3}}, "gateway.max_queue_size: a release keeps the doors as they are"),
    ],
)
def test_doors_stay_as_they_are(site: Site, tmp_path: Path, sections: dict[str, Any], said: str) -> None:
    ended = site.run("start", config=site.version(tmp_path, **sections))
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("shares", ["50,25", "0", "100", "5,x", "5,5"])
def test_shares_rise(site: Site, tmp_path: Path, shares: str) -> None:
    ended = site.run("start", "--shares", shares, config=site.version(tmp_path))
    assert ended.returncode == 1
    assert "must be rising percents between 0 and 100" in ended.stderr


def test_what_is_not_served_is_not_released(site: Site, tmp_path: Path) -> None:
    other = on_free_ports(site.server.spec).model_copy(update={"name": "other"})
    config = tmp_path / "other.yaml"
    config.write_text(other.model_dump_json())
    for word in ("start", "rollback"):
        ended = site.run(word, config=config)
        assert ended.returncode == 1
        assert "error: " in ended.stderr
    assert "make up" in site.run("start", config=config).stderr


def test_nothing_was_promoted_yet(site: Site, tmp_path: Path) -> None:
    ended = site.run("rollback", config=site.version(tmp_path))
    assert ended.returncode == 1
    assert "no release of synthetic was ever promoted" in ended.stderr
    assert "has had no release" in site.run("list", config=site.version(tmp_path)).stdout
