"""OpenVINO GenAI has no server of its own: its bare pipeline, as the engine stage loads it, in a process."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from contract import programs
from contract.checkout import ROOT
from contract.errors import ServeError
from loadtests.fleet import Requests
from loadtests.lean import Timeline


class RawEngine:
    """python_backend.openvino.raw, idle between its rounds."""

    def __init__(self, config: Path, engine: Path) -> None:
        command = [sys.executable, *programs.RAW_OPENVINO, str(config), str(engine)]
        self._tokenizer = Tokenizer.from_file(str(engine / "tokenizer.json"))
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
        )
        if self._line() != "ready":
            raise ServeError("the raw engine did not start")

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, requests: Requests, streams: int) -> list[Timeline]:
        """Bursts of so many.

        Raises:
            ServeError: the engine died.
        """
        bursts = [requests[at : at + streams] for at in range(0, len(requests), streams)]
        return [timeline for each in bursts for timeline in self._burst(each)]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _burst(self, requests: Requests) -> list[Timeline]:
        """All at once, and of as many tokens as the first."""
        asked = {"prompts": [each["prompt"] for each in requests], "max_tokens": requests[0]["max_tokens"]}
        assert self._process.stdin is not None
        sent = time.time()
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            said: dict[str, Any] = json.loads(self._line())
        except (OSError, ValueError):
            raise ServeError("the raw engine died") from None
        return [
            Timeline(sent, [(sent + at, 1) for at in times], self._tokenizer.decode(ids), "length")
            for ids, times in zip(said["ids"], said["times"], strict=True)
        ]

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()
