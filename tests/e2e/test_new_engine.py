"""A new engine is one row and one folder: those of docs/python_backend.md are added to a copy, and it is served."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from clients.grpc import Client
from clients.request import joined
from contract.address import free_ports
from contract.errors import UnsupportedByEngine
from contract.tensors import FinishReason
from tests.e2e.servers import CODE

ROOMS = ("build", "contract", "python_backend", "serving")
PAGE = CODE / "docs" / "python_backend.md"
KINDS = Path("contract", "engines", "kinds.py")
PROMPT = "The quick brown fox"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("new-engine")
    for room in ROOMS:
        shutil.copytree(CODE / room, root / room, ignore=shutil.ignore_patterns("__pycache__"))
    row, *files = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    table = row.splitlines(keepends=True)[0]
    kinds = (root / KINDS).read_text(encoding="utf-8")
    assert kinds.count(table) == 1
    (root / KINDS).write_text(kinds.replace(table, row), encoding="utf-8")
    for text in files:
        path = root / text.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    added = {path.relative_to(root) for room in ROOMS for path in (root / room).rglob("*.py")}
    assert {path.parent.name for path in added if not (CODE / path).exists()} == {"pretend"}
    return root


def run(tree: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, *words], cwd=tree, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def address(tree: Path) -> Iterator[str]:
    http, grpc, metrics, gateway = free_ports(4)
    spec = {
        "name": "pretend",
        "engine": {"runtime": "pretend"},
        "ports": {"http": http, "grpc": grpc, "metrics": metrics, "gateway": gateway},
        "gateway": {"enabled": False},
    }
    config = tree / "pretend.yaml"
    config.write_text(yaml.safe_dump(spec))
    run(tree, "-m", "build.repository", str(config))
    run(tree, "-m", "serving", "up", str(config))
    try:
        yield f"127.0.0.1:{grpc}"
    finally:
        run(tree, "-m", "serving", "down", str(config))


def test_its_answers_stream_through_the_ensemble(address: str) -> None:
    with Client(address) as client:
        deltas = list(client.stream(PROMPT, max_tokens=100))
    assert len(deltas) > 1
    answer = joined(deltas)
    assert (answer.text, answer.finish_reason) == (PROMPT[::-1], FinishReason.LENGTH)


def test_what_it_does_not_declare_is_refused_by_name(address: str) -> None:
    with Client(address) as client, pytest.raises(UnsupportedByEngine, match="temperature"):
        client.generate(PROMPT, temperature=0.5)


def test_it_is_left_as_any_other(address: str) -> None:
    with Client(address) as client:
        for delta in client.stream("a" * 400, max_tokens=400):
            assert delta.text
            break
        assert client.generate(PROMPT, stop_words=["qui"]).text == PROMPT[::-1].partition("qui")[0]


def test_the_page_of_engines_has_its_column(tree: Path) -> None:
    assert "| pretend |" in run(tree, "-c", "from python_backend import engines_page; print(engines_page.page())")
