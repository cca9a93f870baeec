"""Agents that choose their tools themselves: their whole loops over an engine that says what it is told to."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from serving.supervisor import Running
from tests.e2e.servers import CODE
from tests.gateway.conftest import origin
from tests.real.conftest import installed, program, said, script

pytestmark = pytest.mark.long

ANSWER = "The file says tide."
COMMAND = "echo tide > sea.txt && cat sea.txt"


@pytest.mark.parametrize("client", ["openai-agents", "instructor"])
def test_python(scripted: Running, client: str) -> None:
    program(client, scripted)


def test_ai_sdk(scripted: Running) -> None:
    script("ai-sdk", scripted)


def test_codex(scripted: Running, tmp_path: Path) -> None:
    """With the settings that docs/gateway.md shows: it runs the command, and reads what came of it."""
    (tmp_path / "config.toml").write_text(shown("toml", "model_providers", scripted))
    asked = calls("exec_command", cmd=COMMAND)
    options = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--json"]
    home = {"HOME": str(tmp_path), "CODEX_HOME": str(tmp_path), "CONCH_API_KEY": "none"}
    told = said([installed("node_modules/.bin/codex"), "exec", *options, asked], tmp_path, **home)
    items = [event["item"] for event in events(told) if event["type"] == "item.completed"]
    assert [item["aggregated_output"] for item in items if item["type"] == "command_execution"] == ["tide\n"]
    assert items[-1]["text"] == ANSWER
    assert (tmp_path / "sea.txt").read_text() == "tide\n"


def test_claude_code(scripted: Running, tmp_path: Path) -> None:
    """As docs/gateway.md starts it, and told what to do beside that."""
    asked = calls("Bash", command=COMMAND, description="Write a file")
    options = "--allowedTools Bash --output-format stream-json --verbose"
    command = f'{shown("console", "ANTHROPIC_BASE_URL", scripted).strip()} -p "$ASKED" {options}'
    path = f"{installed('node_modules/.bin')}:/usr/local/bin:/usr/bin:/bin"
    quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "ANTHROPIC_API_KEY": ""}
    where = {"HOME": str(tmp_path), "PATH": path, "CONCH_API_KEY": "none", "ASKED": asked}
    told = said(["bash", "-c", command], tmp_path, **where, **quiet)
    assert events(told)[-1]["result"] == ANSWER
    assert (tmp_path / "sea.txt").read_text() == "tide\n"


def calls(tool: str, **arguments: str) -> str:
    """The script of one call and the answer behind it."""
    call = json.dumps({"name": tool, "arguments": arguments})
    return f"[[<tool_call>{call}</tool_call>|{ANSWER}]]"


def events(told: str) -> list[dict[str, Any]]:
    """The JSON lines among an agent's."""
    return [json.loads(line) for line in told.splitlines() if line.startswith("{")]


def shown(language: str, with_: str, server: Running) -> str:
    """The block of docs/gateway.md in that language that has those words, for this server."""
    blocks = re.findall(
        rf"^```{language}\n(.*?)^```", (CODE / "docs" / "gateway.md").read_text(), re.DOTALL | re.MULTILINE
    )
    (block,) = (block for block in blocks if with_ in block)
    return block.replace("http://127.0.0.1:9000", origin(server)).replace("NAME", server.spec.name)
