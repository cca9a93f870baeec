"""The real Open WebUI before the real model, used by a real browser (make webui-test)."""

import ipaddress
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from contract.address import free_ports
from contract.metrics_page import samples
from contract.spec import write_spec
from serving.supervisor import Running
from tests.e2e.servers import CODE, smollm2
from tests.gateway.conftest import CHAT, origin, until

pytestmark = pytest.mark.long

KEY = "sk-of-the-test"
PYTHON = CODE / ".venv-webui/bin/python"
REQUESTS = 4  # one message makes as many: the chat itself, its title, what could follow, and tags


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The default deployment; its gateway asks for a key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONCH_API_KEYS", f"webui:{KEY}")
        with smollm2(tmp_path_factory.mktemp("webui"), gateway=True) as running:
            yield running


@pytest.fixture(scope="module")
def webui(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, psutil.Process]]:
    """Where it answers, and its process."""
    root, (port,) = tmp_path_factory.mktemp("root"), free_ports(1)
    (root / ".venv-webui").symlink_to(CODE / ".venv-webui")
    config = root / "config.yaml"
    write_spec(config, server.spec)
    command = [sys.executable, "-m", "gateway.webui", str(config), "--root", str(root), "--port", str(port)]
    with subprocess.Popen(command, cwd=CODE, env={**os.environ, "CONCH_API_KEY": KEY}) as process:
        try:
            until(lambda: _answers(f"http://127.0.0.1:{port}/health"), 120)
            yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(timeout=20)


def test_a_person_signs_up_and_chats(server: Running, webui: tuple[str, psutil.Process], tmp_path: Path) -> None:
    url, process = webui
    picture = tmp_path / "webui.png"
    peers: set[str] = set()
    command: list[str | Path] = [PYTHON, CODE / "tests/webui/browse.py", url, server.spec.name, picture]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as person, httpx.Client() as http:
        while person.poll() is None:
            peers |= {peer.raddr.ip for peer in process.net_connections() if peer.raddr}
            time.sleep(0.05)
        assert person.stdout
        seen = json.loads(person.stdout.read())
        until(lambda: sum(_chats(http, server).values()) >= REQUESTS, 120)
        chats = _chats(http, server)
    print(f"\n{seen}\n{chats}\n{picture}")
    assert len(seen["lengths"]) > 5, "the answer did not grow before the eyes"
    assert seen["kept"] == seen["lengths"][-1]
    assert seen["outside"] == seen["failed"] == []
    assert set(chats) == {"200"}
    assert peers
    assert all(ipaddress.ip_address(peer).is_loopback for peer in peers)
    assert picture.stat().st_size < 300_000


def test_the_key_stays_out_of_sight(webui: tuple[str, psutil.Process]) -> None:
    _, process = webui
    assert KEY not in " ".join(process.cmdline())


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False


def _chats(http: httpx.Client, server: Running) -> Counter[str]:
    """How many requests for a chat have ended at the gateway, by status."""
    ended: Counter[str] = Counter()
    for sample in samples(http.get(f"{origin(server)}/metrics").text):
        if sample.name == "conch_gateway_requests_total" and sample.labels["route"] == CHAT:
            ended[sample.labels["status"]] += int(sample.value)
    return ended
