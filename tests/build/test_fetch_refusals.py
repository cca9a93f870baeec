"""What a hub cannot or does not give is refused in one line that says what, and what to do."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from build.steps import exclusive
from tests.build.fetching import REPO, SHARDS, Client, check_exact, write_repository
from tests.build.hub import BRANCHES, Faults

TOKEN = "a-secret-of-the-user"


def test_a_hash_that_stays_wrong(client: Client) -> None:
    said = client.refusal(Faults(corrupt={SHARDS[1]: 9}))
    assert f"{SHARDS[1]} of {REPO}@{BRANCHES[client.kind]} has sha256 " in said
    assert "3 times over. Do not use it; try another mirror (" in said
    assert not [file for file in client.cache.rglob(f"*{SHARDS[1]}*") if file.is_file()]


def test_a_length_that_stays_wrong(client: Client) -> None:
    said = client.refusal(Faults(lengths={SHARDS[0]: 99}))
    assert f"{SHARDS[0]}: the hub sends a file of 400001 bytes and lists one of 400000. Run it again" in said


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("bytes 7-399999/400000", r"asked for the bytes from \d+ on, the hub sent those from 7 on\. Run it again"),
        ("bytes */400000", r"the hub answered with a part, and with Content-Range 'bytes \*/400000'\. Run it again"),
    ],
)
def test_a_part_that_was_not_asked_for(client: Client, part: str, said: str) -> None:
    faults = Faults(dropped={SHARDS[0]: 1}, wrong_parts={SHARDS[0]: part})
    assert re.search(said, client.refusal(faults))


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ([404], {"huggingface": "the hub answered 404 for http://", "modelscope": "the hub answered: HTTP 404 on GET"}),
        (
            [401],
            {"huggingface": "the hub does not know the token", "modelscope": "asks for a token to show conch"},
        ),
        ([503] * 9, dict.fromkeys(BRANCHES, "model.safetensors.index.json: the hub answered 503. Run it again")),
    ],
)
def test_a_status_that_stays(client: Client, statuses: list[int], said: dict[str, str]) -> None:
    assert said[client.kind] in client.refusal(Faults(statuses=[*statuses]))


def without_hash(listed: dict[str, Any]) -> None:
    for key in ("lfs", "blobId", "Sha256"):
        listed.pop(key, None)


def with_a_path_for_a_hash(listed: dict[str, Any]) -> None:
    listed.pop("lfs", None)
    listed |= {"blobId": "../../../.bashrc", "Sha256": "../../../.bashrc"}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (without_hash, r"the hub tells no hash of conch/tiny's README\.md\. Check .*_ENDPOINT"),
        (with_a_path_for_a_hash, r"the hub lists README\.md with .* '\.\./\.\./\.\./\.bashrc', which is none"),
    ],
)
def test_a_listing_that_cannot_be_checked(client: Client, edit: Callable[[dict[str, Any]], None], said: str) -> None:
    assert re.search(said, client.refusal(Faults(edit=edit)))


def test_a_listing_without_a_commit(client: Client) -> None:
    if client.kind == "huggingface":
        assert "the hub tells no commit of conch/tiny@main" in client.refusal(Faults(commit=""))
    else:  # every file has its sha256 all the same
        fetched = client.collect(Faults(commit=""))
        assert (fetched.snapshot.commit, fetched.folder.name) == ("master", "master")
        check_exact(fetched.folder, client.repository)


def test_one_fetch_of_a_repository_at_a_time(client: Client) -> None:
    with exclusive(client.collect().folder.parents[1]):
        assert "another build is at work in" in client.refusal()


def test_offline(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    if client.kind == "modelscope":
        pytest.skip("modelscope_hub has no such variable")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said = client.refusal()
    assert said == "HF_HUB_OFFLINE is set. Unset it, or give the downloaded folder as source.kind: path"


def test_a_hub_that_limits_the_rate(client: Client) -> None:
    said = client.refusal(Faults(statuses=[429] * 99))
    assert f"the hub limits the rate (429). Run it again later; {client.token} raises limits" in said
    said = client.refusal(Faults(listing_statuses=[429] * 9))
    assert f"{REPO}@{BRANCHES[client.kind]} could not be downloaded: the hub limits the rate (429)" in said


def test_a_hub_that_asks_for_more_patience_than_we_have(client: Client) -> None:
    assert "limits the rate (429)" in client.refusal(Faults(statuses=[429] * 9, retry_after="86400"))


def test_no_such_repository(client: Client) -> None:
    said = client.refusal(repo="conch/none")
    assert said == (
        f"the hub has no conch/none, or shows it to its members only. Correct source.repo, or set {client.token}"
    )


def test_no_such_revision(client: Client) -> None:
    assert client.refusal(revision="v9").startswith(f"{REPO} has no revision v9. Correct source.revision")


def test_no_hub(client: Client) -> None:
    said = client.refusal(endpoint="http://127.0.0.1:1")
    assert said.startswith(f"{REPO}@{BRANCHES[client.kind]} could not be downloaded: the hub cannot be reached (")
    assert said.endswith("_ENDPOINT, which names a mirror")


def test_gated(client: Client) -> None:
    said = client.refusal(Faults(gated=True))
    assert f"{REPO} is gated" in said and f"set {client.token}" in said


def test_a_token(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.token in client.refusal(Faults(token=TOKEN))
    monkeypatch.setenv(client.token, "another")
    assert client.token in client.refusal(Faults(token=TOKEN))
    monkeypatch.setenv(client.token, TOKEN)
    faults = Faults(token=TOKEN)
    check_exact(client.collect(faults).folder, client.repository)
    assert faults.tokens_at_cdn == []  # another host


def test_a_disk_without_room(client: Client, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(small_disk))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(small_disk))
    faults = Faults()
    said = client.refusal(faults)
    assert f"{REPO}@{BRANCHES[client.kind]} needs another 720." in said and "kB are free. Free some space" in said
    assert faults.asked == ["model.safetensors.index.json"]


def test_a_disk_that_fills_up(client: Client, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(small_disk))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(small_disk))
    monkeypatch.setattr("build.hub.snapshot._make_room", lambda *_: None)  # another program takes it meanwhile
    assert "the disk is full, or a quota or file-size limit is reached. Free some space, or name" in client.refusal()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (SHARDS[:1], f"lacks {SHARDS[0]}, which its index names"),
        ((*SHARDS, "consolidated.safetensors", "model.safetensors.index.json"), "has no *.safetensors"),
    ],
)
def test_a_repository_without_its_weights(client: Client, tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    client.repository = write_repository(tmp_path / "repository")
    for name in names:
        (client.repository / name).unlink()
    assert said in client.refusal()


def test_an_index_that_is_none(client: Client, tmp_path: Path) -> None:
    client.repository = write_repository(tmp_path / "repository")
    (client.repository / "model.safetensors.index.json").write_text("[]")
    assert "is no index of shards" in client.refusal()
