"""Files of both hubs: chosen, exact whatever the hub does wrong, refused in words that help."""

import json
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from modelscope_hub import HubApi
from modelscope_hub.config import set_default_config

from build import fetch
from build.fetch import read_json
from build.hub import download, huggingface, modelscope
from build.hub.snapshot import Fetched, collect
from build.steps import exclusive
from contract.errors import BuildError
from contract.manifest import digest
from contract.spec import HubKind, HubSource
from tests.build.conftest import CODE, read_terminal
from tests.build.hub import BRANCHES, COMMIT, Faults, hub

REPO = "conch/tiny"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
NEEDED = {"chat_template.jinja", "config.json", "model.safetensors.index.json", "tokenizer.json", *SHARDS}
TOKEN = "a-secret-of-the-user"


def write_repository(folder: Path) -> Path:
    """A repository as some are: the same weights in several formats, and what no runtime reads."""
    noise = Random(0)
    index = json.dumps({"metadata": {}, "weight_map": dict(zip("ab", SHARDS, strict=True))})
    small = {"config.json": "{}", "chat_template.jinja": "{{ messages }}", "model.safetensors.index.json": index}
    unneeded = ("README.md", "consolidated.safetensors", "model.gguf", "pytorch_model.bin", "original/params.json")
    for name, text in {**small, **dict.fromkeys(unneeded, "not for a runtime")}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name, size in ((SHARDS[0], 400_000), (SHARDS[1], 250_001), ("tokenizer.json", 70_000)):
        (folder / name).write_bytes(noise.randbytes(size))
    return folder


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(params=["huggingface", "modelscope"])
def kind(request: pytest.FixtureRequest) -> HubKind:
    found: HubKind = request.param
    return found


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
            set_default_config(None)
            modelscope._api.cache_clear()
            yield

    def collect(self, faults: Faults | None = None, endpoint: str = "", **source: str) -> Fetched:
        with self.online(faults, endpoint):
            return collect(self.source(**source))

    def refusal(self, faults: Faults | None = None, endpoint: str = "", **source: str) -> str:
        with pytest.raises(BuildError) as error:
            self.collect(faults, endpoint, **source)
        return str(error.value)


@pytest.fixture
def client(kind: HubKind, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    yield Client(kind, repository, tmp_path / "cache", monkeypatch)
    set_default_config(None)
    modelscope._api.cache_clear()


def check_exact(folder: Path, repository: Path) -> None:
    """The snapshot has what a runtime needs, byte by byte, and nothing else."""
    assert {file.name for file in folder.iterdir()} == NEEDED
    for name in NEEDED:
        assert (folder / name).read_bytes() == (repository / name).read_bytes(), name
    assert not list(folder.parents[1].rglob(f"*{download.PARTIAL}"))


def test_only_what_a_runtime_needs(client: Client) -> None:
    faults = Faults()
    fetched = client.collect(faults)
    check_exact(fetched.folder, client.repository)
    assert sorted(faults.asked) == sorted(NEEDED)
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
    assert said[client.kind] in client.refusal(Faults(statuses=statuses))


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


def test_a_model_in_one_file(client: Client, tmp_path: Path) -> None:
    client.repository = write_repository(tmp_path / "repository")
    (client.repository / "model.safetensors.index.json").unlink()
    (client.repository / "model.safetensors").write_text("all of it")
    names = {file.name for file in client.collect().files}
    assert names == NEEDED - {*SHARDS, "model.safetensors.index.json"} | {"model.safetensors"}


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
