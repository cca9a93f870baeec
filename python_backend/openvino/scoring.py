"""How likely a prompt's own tokens are: the engine's model once more, compiled when the first prompt is to be scored.

The pipeline cannot tell: it has no alternatives, and nothing at all of tokens that its prefix cache had. This model
reads a prompt in pieces, which bounds its memory and lets a client leave, and only what is asked for leaves its graph.
A thread of its own scores one prompt after the other, beside the pipeline's steps.
"""

import os
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import psutil
from openvino import opset13 as ops

from contract.sampling import SamplingParams
from contract.wire import TopLogprob

_PIECE = 128  # tokens; their logits are the largest thing here
_COPIES = 2.5  # of the weights, at most, in memory while a model is compiled


@dataclass
class Scores:
    """Of each token of a prompt but the first, and of whatever follows the last."""

    log_probs: list[float] = field(default_factory=list)
    top: list[list[TopLogprob]] = field(default_factory=list)  # as many alternatives as were asked for
    next: list[TopLogprob] = field(default_factory=list)  # the likeliest tokens after the prompt


Told = Callable[[int, list[int], SamplingParams, Scores | str], None]  # scores, or why there are none


class ScoringModel:
    """A language model whose outputs are log probabilities."""

    def __init__(self, engine: Path, threads: int) -> None:
        """
        Raises:
            MemoryError: there is no room for it.
        """
        path = engine / "openvino_model.xml"
        needed = int(path.with_suffix(".bin").stat().st_size * _COPIES)
        if psutil.virtual_memory().available < needed:
            raise MemoryError(f"scoring prompts takes up to {needed / 2**30:.1f} GiB, and this machine has less left")
        core = ov.Core()
        properties = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "KV_CACHE_PRECISION": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",  # with int8 activations a score depends on the pieces
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled: Any = core.compile_model(_telling(core.read_model(path)), "CPU", properties)
        self._request = compiled.create_infer_request()

    def scores(self, ids: list[int], alternatives: int, after: int, wanted: Callable[[], bool]) -> Scores | None:
        """Score a prompt.

        Args:
            alternatives: a token of the prompt.
            after: how many of the tokens that may follow it; at least one is told.
            wanted: asked before each piece.

        Returns:
            None where it was no longer wanted.
        """
        self._request.reset_state()
        found = Scores()
        for start in range(0, len(ids), _PIECE):
            if not wanted():
                return None
            piece = ids[start : start + _PIECE]
            end = start + len(piece)
            following = [*ids[start + 1 : end + 1], *([0] if end == len(ids) else [])]  # of the last, none is known
            told = self._infer(piece, start, following, max(1, alternatives, after))
            known = len(piece) - (end == len(ids))
            found.log_probs += told["log_probs"][0, :known, 0].tolist()
            if alternatives:
                found.top += [_ranked(told, at, alternatives) for at in range(known)]
            found.next = _ranked(told, len(piece) - 1, max(1, after))
        return found

    def _infer(self, piece: list[int], start: int, following: list[int], most: int) -> dict[str, Any]:
        end = start + len(piece)
        inputs = {
            "input_ids": np.array([piece], dtype=np.int64),
            "attention_mask": np.ones((1, end), dtype=np.int64),
            "position_ids": np.arange(start, end, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
            "following": np.array([following], dtype=np.int64)[..., None],
            "most": np.array(most, dtype=np.int64),
        }
        self._request.infer({port: inputs[port.any_name] for port in self._request.model_inputs})
        return {name: self._request.get_tensor(name).data for name in ("log_probs", "top_values", "top_ids")}


def _telling(model: ov.Model) -> ov.Model:
    """The same model, with log probabilities for outputs: of the tokens that follow, and the highest."""
    following, most = ops.parameter([-1, -1, 1], np.int64), ops.parameter([], np.int64)
    following.output(0).get_tensor().set_names({"following"})
    most.output(0).get_tensor().set_names({"most"})
    (logits,) = (result for result in model.get_results() if "logits" in result.output(0).get_names())
    log_probs = ops.log_softmax(ops.convert(logits.input_value(0), "f32"), axis=-1)
    own = ops.gather_elements(log_probs, following, axis=2)
    # Among equals the lowest id comes first, as the sampler takes it.
    top = ops.topk(log_probs, most, axis=2, mode="max", sort="value", index_element_type="i64", stable=True)
    model.add_parameters([following, most])
    model.remove_result(logits)
    outputs = {"log_probs": own.output(0), "top_values": top.output(0), "top_ids": top.output(1)}
    for name, output in outputs.items():
        output.get_tensor().set_names({name})
    model.add_results([ops.result(output) for output in outputs.values()])
    return model


def _ranked(told: dict[str, Any], at: int, most: int) -> list[TopLogprob]:
    values, ids = told["top_values"][0, at, :most].tolist(), told["top_ids"][0, at, :most].tolist()
    return [TopLogprob(token, value) for token, value in zip(ids, values, strict=True)]


class Scorer:
    """Scores prompts in the order of their arrival, one at a time."""

    def __init__(self, engine: Path, threads: int, told: Told) -> None:
        """
        Args:
            told: is told of each prompt's scores, in this object's thread.
        """
        self._engine, self._threads, self._told = engine, threads, told
        self._model: ScoringModel | None = None
        self._waiting: OrderedDict[int, tuple[list[int], SamplingParams]] = OrderedDict()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)
        self._thread.start()

    def submit(self, key: int, input_ids: list[int], sampling: SamplingParams) -> None:
        """Queue a prompt."""
        with self._changed:
            self._waiting[key] = input_ids, sampling
            self._changed.notify()

    def cancel(self, key: int) -> None:
        """Forget a prompt; its scores may be on their way all the same."""
        with self._changed:
            self._waiting.pop(key, None)

    def stop(self) -> None:
        """End after the piece at hand."""
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._stopping):
                    self._changed.wait()
                if self._stopping:
                    return
                key, (input_ids, sampling) = next(iter(self._waiting.items()))
            found = self._scores(key, input_ids, sampling)
            with self._changed:
                if self._waiting.pop(key, None) is None or found is None:  # it left meanwhile
                    continue
            self._told(key, input_ids, sampling, found)

    def _scores(self, key: int, input_ids: list[int], sampling: SamplingParams) -> Scores | str | None:
        try:
            if self._model is None:
                self._model = ScoringModel(self._engine, self._threads)
            alternatives = sampling.prompt_logprobs or 0
            return self._model.scores(input_ids, alternatives, sampling.logprobs, lambda: key in self._waiting)
        except Exception as error:  # whatever it is, the pipeline beside it runs on
            traceback.print_exc()
            return f"the prompt could not be scored: {error}"


def scoring_threads(asked: int) -> int:
    """How many threads score: half of the engine's, which its streams have the better use for.

    Args:
        asked: the spec's engine.threads; 0: every core.
    """
    return max(1, (asked or len(os.sched_getaffinity(0))) // 2)
