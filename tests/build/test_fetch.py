"""Files of both hubs: those that a runtime needs, and exact whatever the hub or the disk does wrong."""

import os
import pty
import re
import termios
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from modelscope_hub import HubApi

from build import fetch
from build.fetch import read_json
from build.hub import download, huggingface
from contract.manifest import digest
from tests.build.conftest import read_terminal
from tests.build.fetching import NEEDED, REPO, SHARDS, Client, Command, check_exact, write_repository
from tests.build.hub import BRANCHES, COMMIT, Faults, hub


def test_only_what_a_runtime_needs(client: Client) -> None:
    faults = Faults()
    fetched = client.collect(faults)
    check_exact(fetched.folder, client.repository)
    # Hugging Face's cache is by content, and two of the files are the same.
    assert len(faults.asked) == len(NEEDED) - (client.kind == "huggingface")
    assert (fetched.snapshot.commit, fetched.snapshot.revision) == (COMMIT, BRANCHES[client.kind])

    assert client.collect(again := Faults()).folder == fetched.folder
    assert again.asked == []


def test_what_a_build_takes_of_it(client: Client, llama: Path, tmp_path: Path) -> None:
    client.repository, source = llama, client.source()
    (peeked := tmp_path / "peeked").mkdir()
    (fetched := tmp_path / "fetched").mkdir()
    with client.online(faults := Faults()):
        fetch.peek(source, peeked)
        assert {Path(name).suffix for name in faults.asked} == {".json"}
        fetch.fetch(source, fetched)
    assert sorted(faults.asked) == sorted(file.name for file in llama.iterdir())  # each once
    assert {file.name for file in fetched.glob("[!.]*")} == {file.name for file in llama.iterdir()}
    assert fetch.commit_of(fetched) == COMMIT
    record = read_json(fetched / fetch.RECORD)
    assert record["source"] == f"{client.kind}:{REPO}@{BRANCHES[client.kind]}"
    weights = record["files"]["model.safetensors"]
    assert weights == {
        "size": (fetched / "model.safetensors").stat().st_size,
        "sha256": digest(llama / "model.safetensors"),
    }


def test_the_hubs_own_library_finds_them(client: Client) -> None:
    folder = client.collect().folder
    if client.kind == "huggingface":
        for revision in ("main", COMMIT):
            found = huggingface_hub.snapshot_download(
                REPO, revision=revision, cache_dir=client.cache, local_files_only=True
            )
            assert Path(found) == folder
    else:
        assert HubApi().download_repo(REPO, "model", revision=COMMIT, local_files_only=True) == folder


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(lambda: Faults(dropped=dict.fromkeys(NEEDED, 3)), id="connections drop"),
        pytest.param(lambda: Faults(corrupt={SHARDS[0]: 2, "config.json": 1}), id="bytes flip"),
        pytest.param(lambda: Faults(lengths=dict.fromkeys(NEEDED, 2)), id="lengths lie"),
        pytest.param(
            lambda: Faults(unsized=dict.fromkeys(NEEDED, 9), dropped=dict.fromkeys(SHARDS, 2)), id="no lengths"
        ),
        pytest.param(lambda: Faults(unsized={SHARDS[0]: 2}, longer={SHARDS[0]: 2}), id="more than there is"),
        pytest.param(lambda: Faults(ignores_range=True, dropped=dict.fromkeys(SHARDS, 2)), id="ranges are ignored"),
        pytest.param(lambda: Faults(statuses=[429, 503, 500, 502, 408]), id="the hub is busy"),
        pytest.param(lambda: Faults(listing_statuses=[503]), id="the listing is busy"),
        pytest.param(lambda: Faults(chance=0.1, seed=7), id="a bit of everything"),
    ],
)
def test_exact_whatever_the_hub_does(client: Client, faults: Callable[[], Faults]) -> None:
    check_exact(client.collect(faults()).folder, client.repository)


def test_a_dropped_file_goes_on_where_it_stopped(client: Client) -> None:
    faults = Faults(dropped={SHARDS[0]: 2})
    client.collect(faults)
    assert [line.split()[0] for line in faults.ranges] == [SHARDS[0]] * 2
    assert faults.asked.count(SHARDS[0]) == 3


@pytest.mark.parametrize("spoil", [b"", b"short", bytes(400_000), bytes(400_001)])
def test_a_spoiled_copy_comes_again(client: Client, spoil: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    folder = client.collect().folder
    (folder / SHARDS[0]).resolve().write_bytes(spoil)
    check_exact(client.collect().folder, client.repository)
    assert f"{SHARDS[0]}: its copy on this disk is spoiled, it comes again" in capsys.readouterr().err


@pytest.mark.parametrize("spoil", [b"no beginning of it", bytes(400_000), bytes(400_001)])
def test_a_spoiled_beginning_does_not_pass(client: Client, spoil: bytes) -> None:
    place = (client.collect().folder / SHARDS[0]).resolve()
    place.unlink()
    place.with_name(place.name + download.PARTIAL).write_bytes(spoil)
    check_exact(client.collect().folder, client.repository)


def test_what_came_before_the_hub_went_away_is_kept(client: Client) -> None:
    said = client.refusal(Faults(dropped=dict.fromkeys(SHARDS, 999)))
    assert "the connection was lost (" in said or "the hub ended the file at" in said
    assert "Run it again: what came is kept" in said
    check_exact(client.collect(again := Faults()).folder, client.repository)
    assert again.ranges


def test_a_hub_that_falls_silent(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "_TIMEOUT_S", 0.3)
    monkeypatch.setattr("modelscope_hub._legacy_api.DOWNLOAD_TIMEOUT", 0.3)
    faults = Faults(silent={SHARDS[0]: 1})
    check_exact(client.collect(faults).folder, client.repository)
    assert len(faults.ranges) == 1


def test_a_model_in_one_file(client: Client, tmp_path: Path) -> None:
    client.repository = write_repository(tmp_path / "repository")
    (client.repository / "model.safetensors.index.json").unlink()
    (client.repository / "model.safetensors").write_text("all of it")
    names = {file.name for file in client.collect().files}
    assert names == NEEDED - {*SHARDS, "model.safetensors.index.json"} | {"model.safetensors"}


def test_a_terminal_sees_rate_and_time_left(repository: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    with hub(REPO, repository, Faults(bytes_per_s=6e5)) as endpoint:
        command = Command("huggingface", endpoint, tmp_path / "cache")
        with command.start(stderr=theirs) as process:
            os.close(theirs)
            said = b""
            while chunk := read_terminal(ours):
                said += chunk
    os.close(ours)
    assert process.returncode == 0
    shown = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", said).decode()
    assert re.search(r"fetch ━.* \d+% \d+\.\d/720\.\d kB [\d.]+ [kM]B/s 0:00:0\d", shown), shown
