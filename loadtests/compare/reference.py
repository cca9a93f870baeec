"""What Hugging Face's fp32 model answers: run by the room that has torch, once for each checkpoint and script."""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from contract import programs
from contract.checkout import ROOT
from contract.errors import ServeError
from contract.manifest import digest, engines_root
from loadtests.compare.doors import Absent
from loadtests.compare.effort import Effort
from loadtests.compare.entrants import Entrant
from loadtests.compare.hidden import Hidden, hidden
from loadtests.load.workload import QUESTIONS, read_prompts

_WINDOW = 192  # tokens
_BEGINS = 8  # tokens of a window that say too little of what follows


@dataclass(frozen=True)
class Position:
    """A place in a text, and the token that the reference finds most likely after it."""

    prompt: list[int]
    token: int


@dataclass(frozen=True)
class Reference:
    """What one checkpoint says of all that engines are asked."""

    tokenizer: Tokenizer
    prompts: list[list[int]]
    greedy: list[list[int]]  # what follows each prompt
    positions: list[Position]
    hidden: list[Hidden]
    recalled: list[str]  # the reference's own answers

    def text(self, ids: list[int]) -> str:
        """As servers show it."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


def reference_of(entrant: Entrant, effort: Effort, folder: Path) -> Reference:
    """The reference of an entrant's checkpoint.

    Args:
        folder: keeps what was asked once.

    Raises:
        Absent: there is none.
        ServeError: it could not be run.
    """
    if entrant.why_no_reference:
        raise Absent(entrant.why_no_reference)
    assert entrant.engine is not None
    checkpoint = _checkpoint(entrant.engine, entrant.name)
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    questions = read_prompts(QUESTIONS)
    prompts = [_ids(tokenizer, question) for question in questions[: effort.greedy]]
    text = _ids(tokenizer, " ".join(questions))
    windows = [text[at : at + _WINDOW] for at in range(0, len(text) - _BEGINS, _WINDOW)]
    places = [hidden(tokenizer, length, depth) for length in _fitting(effort, entrant) for depth in (0.1, 0.5, 0.9)]
    script = {
        "windows": windows,
        "prompts": [*prompts, *(each.prompt for each in places)],
        "max_tokens": effort.greedy_tokens,
    }
    said = _replay(checkpoint, script, folder)
    top1 = [{int(at): token for at, token in row.items()} for row in said["top1"]]
    everywhere = [
        Position(window[: at + 1], row[at])
        for window, row in zip(windows, top1, strict=True)
        for at in range(_BEGINS, len(window))
    ]
    step = max(1, len(everywhere) // effort.windows)
    recalled = [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in said["greedy"][len(prompts) :]]
    return Reference(
        tokenizer, prompts, said["greedy"][: len(prompts)], everywhere[::step][: effort.windows], places, recalled
    )


def _fitting(effort: Effort, entrant: Entrant) -> list[int]:
    """Lengths that the deployment takes."""
    return [length for length in effort.recall if length <= entrant.spec.limits.max_input_len]


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def _checkpoint(engine: Path, name: str) -> Path:
    """The engine's folder, where the engine is the checkpoint itself; else what it was built from."""
    if any(engine.glob("*.safetensors")):
        return engine
    found = sorted((engines_root(ROOT, name) / ".work").glob("convert-*"), key=lambda folder: folder.stat().st_mtime)
    if not found:
        raise ServeError(f"the checkpoint of {name} is gone", fix="Remove its engine and run make engine again")
    return found[-1]


def _replay(checkpoint: Path, script: dict[str, object], folder: Path) -> dict[str, Any]:
    asked = json.dumps(script)
    key = hashlib.sha256(f"{digest(checkpoint / 'config.json')}{_weights(checkpoint)}{asked}".encode()).hexdigest()[:12]
    kept = folder / f"reference-{key}.json"
    if not kept.exists():
        print("asking the fp32 reference", flush=True)
        own = ROOT / ".venv-build" / "bin" / "python"
        python = own if own.exists() else Path(sys.executable)
        run = subprocess.run(
            [python, *programs.REFERENCE, str(checkpoint)],
            input=asked, capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        if run.returncode:
            last = (run.stderr.strip().splitlines() or ["no word of why"])[-1]
            raise ServeError(f"the fp32 reference could not be run: {last}")
        kept.write_text(run.stdout.splitlines()[-1])
    said: dict[str, Any] = json.loads(kept.read_text())
    return said


def _weights(checkpoint: Path) -> list[tuple[str, int]]:
    return sorted((file.name, file.stat().st_size) for file in checkpoint.glob("*.safetensors"))
