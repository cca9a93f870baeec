"""An engine of the protocol, bare: what an engine is verified through, without Triton.

``python -m python_backend.raw ENGINE`` takes JSON lines on stdin and answers each with one line on stdout. Every
question has ``spec`` (a deployment; the first one's counts, as the engine is started once) and ``prompts``, pairs of
ids and the number of tokens to generate greedily after them, whatever comes; the answer has the ``ids``.
"""

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from contract.errors import ConchError, from_wire
from contract.sampling import SamplingParams
from contract.spec import Deployment
from python_backend.engines import make
from python_backend.protocol import Output


class Asker:
    """One engine, asked for many answers at once."""

    def __init__(self, engine: Path, spec: Deployment) -> None:
        self._changed = threading.Condition()
        self._ids: dict[int, list[int]] = {}
        self._left: set[int] = set()
        self._error = ""
        self._engine = make(engine, spec)
        self._engine.start(self._take)

    def greedy(self, prompts: list[tuple[list[int], int]]) -> list[list[int]]:
        """The ids after each prompt.

        Raises:
            RequestError: the engine failed on one.
        """
        self._ids = {key: [] for key in range(len(prompts))}
        self._left = set(self._ids)
        for key, (ids, most) in enumerate(prompts):
            self._engine.submit(key, ids, SamplingParams(max_tokens=most, ignore_eos=True))
        with self._changed:
            self._changed.wait_for(lambda: not self._left or self._error)
        if self._error:
            raise from_wire(self._error)
        return [self._ids[key] for key in range(len(prompts))]

    def stop(self) -> None:
        """End the engine and its processes."""
        self._engine.stop()

    def _take(self, outputs: Sequence[Output]) -> None:
        with self._changed:
            for output in outputs:
                self._ids[output.key] += output.ids
                if output.finish:
                    self._left.discard(output.key)
                    self._error = self._error or output.error
            self._changed.notify()


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")  # engines and their processes write to the old one
    os.dup2(2, 1)
    asker = None
    try:
        for line in sys.stdin:
            question = json.loads(line)
            asker = asker or Asker(Path(sys.argv[1]), Deployment.model_validate(question["spec"]))
            print(json.dumps({"ids": asker.greedy(question["prompts"])}), file=answers, flush=True)
    except ConchError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    if asker:
        asker.stop()
    os._exit(0)


if __name__ == "__main__":
    main()
