"""Keys: made, asked for, known again after a change, and needed where strangers can call."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.supervisor import Running
from tests.e2e.servers import CODE, synthetic
from tests.gateway.conftest import CHAT, MESSAGES, client, gateway, streaming, until, user

BODY = {"model": "synthetic", "messages": user("x"), "max_tokens": 2}


def new_key(file: Path, name: str) -> str:
    command = (sys.executable, "-m", "gateway.keys", "new", name, "--file", str(file))
    made = subprocess.run(command, cwd=CODE, capture_output=True, text=True, check=True)
    return made.stdout.strip()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys"


@pytest.fixture(scope="module")
def key(file: Path) -> str:
    return new_key(file, "ann")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, file: Path, key: str) -> Iterator[Running]:
    """A server whose gateway listens to all the world, for key holders; one request at a time for each."""
    door: dict[str, object] = {"keys": str(file), "host": "0.0.0.0", "max_requests_per_key": 1, "max_queue_size": 0}
    with synthetic(tmp_path_factory.mktemp("guarded"), gateway=door) as running:
        yield running


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer wrong", "Basic abc", "Bearer \u00e9"])
def test_strangers_are_refused(guarded: Running, header: str | None) -> None:
    headers = [] if header is None else [(b"authorization", header.encode("latin-1"))]
    with client(guarded) as http:
        answer = http.post(CHAT, json=BODY, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert http.get("/v1/models", headers=headers).status_code == 401
        assert http.get("/nowhere", headers=headers).status_code == 401
        assert http.get("/health/live").status_code == 200


@pytest.mark.parametrize(("header", "kind"), [("authorization", "Bearer "), ("x-api-key", "")])
def test_holders_may_call(guarded: Running, key: str, header: str, kind: str) -> None:
    with client(guarded, **{header: kind + key}) as http:
        assert http.post(CHAT, json=BODY).status_code == 200


def test_strangers_are_refused_in_their_clients_words(guarded: Running) -> None:
    with client(guarded, **{"x-api-key": "wrong"}) as http:
        error = http.post(MESSAGES, json=BODY).json()["error"]
        assert error["type"] == "authentication_error"


def test_a_key_is_known_as_soon_as_it_is_made_and_no_longer_than_it_stands(guarded: Running, file: Path) -> None:
    later = new_key(file, "bob")
    with client(guarded, authorization=f"Bearer {later}") as http:
        until(lambda: http.get("/v1/models").status_code == 200, 5)
        kept = [line for line in file.read_text().splitlines() if not line.startswith("bob:")]
        file.write_text("\n".join(kept) + "\n")
        until(lambda: http.get("/v1/models").status_code == 401, 5)


def test_a_file_that_breaks_or_goes_opens_nothing_and_says_so(guarded: Running, file: Path, key: str) -> None:
    good = file.read_text()
    with client(guarded, authorization=f"Bearer {key}") as http:
        for break_it in (lambda: file.write_text(good + "typo\n"), file.unlink):
            break_it()
            until(lambda: http.get("/v1/models").status_code == 401, 5)
            file.touch(0o600)
            file.write_text(good)
            until(lambda: http.get("/v1/models").status_code == 200, 5)
    log = guarded.log.read_text()
    assert log.count("no key of the file opens this gateway") == 2
    assert "must be NAME:SHA256" in log


def test_each_key_has_its_own_limit(guarded: Running, file: Path, key: str) -> None:
    other = new_key(file, "eve")
    mine = client(guarded, authorization=f"Bearer {key}")
    hers = client(guarded, authorization=f"Bearer {other}")
    with mine, hers:
        until(lambda: hers.get("/v1/models").status_code == 200, 5)
        long = {"model": "synthetic", "prompt": "x", "max_tokens": 4000, "stream": True}
        with streaming(mine, long):
            refused = mine.post(CHAT, json=BODY)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            assert int(refused.headers["retry-after"]) >= 1
            assert hers.post(CHAT, json=BODY).status_code == 200


def test_neither_keys_nor_prompts_are_logged(guarded: Running, key: str) -> None:
    with client(guarded, authorization=f"Bearer {key}") as http:
        assert http.post(CHAT, json=BODY | {"messages": user("a secret")}).status_code == 200
        http.post(CHAT, json=BODY | {"messages": user("a secret"), "temperature": 9})
    log = guarded.log.read_text()
    assert "key ann" in log
    assert key not in log
    assert "a secret" not in log


def test_the_file_is_private_and_has_no_keys(file: Path, key: str) -> None:
    assert file.stat().st_mode & 0o077 == 0
    assert key not in file.read_text()


@pytest.mark.parametrize("name", ["ann", "a b", ""])
def test_a_name_is_taken_once_and_is_a_word(file: Path, key: str, name: str) -> None:
    command = (sys.executable, "-m", "gateway.keys", "new", name, "--file", str(file))
    assert subprocess.run(command, cwd=CODE, capture_output=True).returncode == 1


def refused_start(tmp_path: Path, section: str, environment: dict[str, str] | None = None) -> str:
    """What ``python -m gateway`` says before it exits."""
    config = tmp_path / "site.yaml"
    config.write_text(f"name: site\nengine: {{runtime: synthetic}}\ngateway: {section}\n")
    ended = subprocess.run(
        (sys.executable, "-m", "gateway", str(config)),
        cwd=CODE,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 1
    return ended.stderr


def test_no_open_door_to_the_world(tmp_path: Path) -> None:
    assert "without a key" in refused_start(tmp_path, "{host: 0.0.0.0}")


def test_a_key_file_that_is_none(tmp_path: Path) -> None:
    assert "cannot be read" in refused_start(tmp_path, f"{{keys: {tmp_path}/nothing}}")
    (tmp_path / "keys").write_text("ann:plain-text\n")
    said = refused_start(tmp_path, f"{{keys: {tmp_path}/keys}}")
    assert "keys:1: must be NAME:SHA256" in said
    assert "plain-text" not in said


def test_keys_from_the_environment(behind: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCH_API_KEYS", "ann:one,two")
    with gateway(behind, tmp_path) as (_, http):
        for key, status in (("one", 200), ("two", 200), ("three", 401)):
            answer = http.get("/v1/models", headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == status
