"""An engine that says what its prompt scripts: the agents' whole loops, where a 135M model could not choose a tool.

A user's message has ``[[first answer|next answer|…]]``; the last such script holds, and each turn of the assistant
behind it takes it one answer further. The last answer is said as long as it is asked for.
"""

import re

import python_backend.engine_model
from contract.sampling import SamplingParams
from contract.stage import StageConfig
from contract.tensors import FinishReason
from python_backend import openvino, synthetic
from python_backend.protocol import Output, Sink, Stats

SCRIPT = re.compile(r"\[\[(.+?)\]\]", re.DOTALL)
TURN = "\nassistant: "  # of the synthetic engine's chat template
STEP = 16  # bytes, its tokens


class ScriptedEngine:
    """Ids in and out are bytes."""

    name = "synthetic"
    features = synthetic.FEATURES | openvino.FEATURES  # a script is its own guide

    def start(self, sink: Sink) -> None:
        """Begin."""
        self._sink = sink

    def submit(self, key: int, input_ids: list[int], sampling: SamplingParams) -> None:
        """Say the whole answer in steps."""
        answer = list(scripted(bytes(each for each in input_ids if each < 256).decode()).encode())
        said = answer[: sampling.max_tokens]
        for at in range(0, len(said), STEP):
            self._sink([Output(key, said[at : at + STEP])])
        self._sink([Output(key, finish=FinishReason.STOP if said == answer else FinishReason.LENGTH)])

    def abort(self, key: int) -> None:
        """What was asked has been said by now."""

    def stats(self) -> Stats:
        """Nothing is ever in flight."""
        return Stats()

    def stop(self) -> None:
        """Nothing runs."""


def scripted(prompt: str) -> str:
    """The answer that a prompt has at this point of its script."""
    scripts = list(SCRIPT.finditer(prompt))
    if not scripts:
        return "No script."
    answers = scripts[-1][1].split("|")
    turn = prompt.count(TURN, scripts[-1].end())
    return answers[min(turn, len(answers) - 1)]


def make_engine(config: StageConfig) -> ScriptedEngine:
    """In the place of the synthetic engine."""
    return ScriptedEngine()


python_backend.engine_model.make_engine = make_engine
TritonPythonModel = python_backend.engine_model.TritonPythonModel
