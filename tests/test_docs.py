"""Every command and program shown in the README and in docs/ works as written, against the default deployment."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md")])
CHINESE = ROOT / "README.zh-CN.md"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Walked without being run: they are tests of their own, never end, ask a hub, or have been done for the test.
SLOW = re.compile(
    r"\bmake (?=(?:engine|cast|fetch|plan CONFIG|doctor-comm|serve|up|vllm|sglang|lmdeploy|webui|test|bench|compare"
    r"|soak|tune)\b)"
)


def blocks() -> Iterator[object]:
    for page in PAGES:
        if page == CHINESE:  # its blocks are those of the English one
            continue
        for number, found in enumerate(BLOCK.finditer(page.read_text()), start=1):
            yield pytest.param(found[1], found[2], id=f"{page.name}-{number}")


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    subprocess.run(["make", "up"], cwd=ROOT, check=True, timeout=120)
    yield
    subprocess.run(["make", "down"], cwd=ROOT, check=True, timeout=120)


@pytest.mark.parametrize(("language", "code"), [*blocks()])
def test_what_is_shown_runs(server: None, language: str, code: str) -> None:
    command = ["bash", "-euo", "pipefail", "-c", SLOW.sub("make -n ", code)]
    if language == "python":
        command = [sys.executable, "-c", code]
    run = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "MAKEFLAGS": ""},
        input="Hello!\n/quit\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_chinese_page_says_what_the_english_does() -> None:
    """Its commands, its tables with their links, what was run of each engine and what not."""
    assert _told(CHINESE.read_text()) == _told((ROOT / "README.md").read_text())


def _told(page: str) -> tuple[list[str], list[list[str]]]:
    """The blocks of code, and of each row of a table its links and its names in code."""
    rows = [line for line in page.splitlines() if line.startswith("|")]
    return re.findall(r"```.*?```", page, re.DOTALL), [re.findall(r"\]\(([^)]+)|(`[^`]+`)", row) for row in rows]


ROOMS = (
    "build",
    "clients",
    "contract",
    "deploy",
    "docs",
    "gateway",
    "loadtests",
    "python_backend",
    "release",
    "serving",
)
CITED = re.compile(
    rf"(?<![\w/.@-])((?:{'|'.join(ROOMS)}|configs|shared|tests)/[\w./-]*\.(?:md|py|json|yaml|svg|png|html|c))\b"
)
EXAMPLES = ("NAME", "pretend", "deploy/rendered/", "configs/mine.yaml")


def test_what_is_cited_is_in_a_clone() -> None:
    files = [ROOT / "Makefile", ROOT / "pyproject.toml", *PAGES]
    files += [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "rendered" not in path.parts]
    for file in files:
        for cited in CITED.findall(file.read_text()):
            assert (ROOT / cited).exists() or any(part in cited for part in EXAMPLES), f"{file} cites {cited}"
