"""A pipeline around a model without weights: it compiles guides exactly as the engine does, and can be lost."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from openvino import opset13 as ops

from contract.sampling import SamplingParams
from python_backend.openvino.sampling import guide_config

ONE_TOKEN = ov.Tensor(np.ones((1, 1), dtype=np.int64))


class ScratchPipeline:
    """Generates one meaningless token under a guide, which compiles it."""

    def __init__(self, engine: Path) -> None:
        tokenizer = genai.Tokenizer(str(engine))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scratch.xml"
            ov.save_model(_model(len(tokenizer.get_vocab())), path)
            weights = ov.Tensor(np.fromfile(path.with_suffix(".bin"), dtype=np.uint8))
            self._pipeline = genai.LLMPipeline(path.read_text(), weights, tokenizer, "CPU", ATTENTION_BACKEND="SDPA")

    def compile(self, sampling: SamplingParams) -> None:
        """Compile a request's guide; the pipeline raises for what it cannot."""
        config = genai.GenerationConfig()
        config.max_new_tokens = 1
        config.structured_output_config = guide_config(sampling)
        self._pipeline.generate(genai.TokenizedInputs(ONE_TOKEN, ONE_TOKEN), config)


def _model(vocab_size: int) -> ov.Model:
    """Logits of 0 for every token, with the inputs and the state of a language model."""
    inputs = {
        name: ops.parameter([-1, -1], np.int64, name=name) for name in ("input_ids", "attention_mask", "position_ids")
    }
    beam = ops.parameter([-1], np.int32, name="beam_idx")
    for name, node in {**inputs, "beam_idx": beam}.items():
        node.output(0).get_tensor().set_names({name})
    ids = inputs["input_ids"]
    shape = ops.shape_of(ids, "i64")
    batch = ops.gather(shape, _int([0]), _int(0))
    empty = ops.broadcast(ops.constant(np.float32(0)), ops.concat([batch, _int([1, 0, 1])], 0))
    past: Any = ov.opset6.read_value(empty, "past", ov.Type.f32, ov.PartialShape([-1, 1, -1, 1]))
    gained = ops.unsqueeze(ops.unsqueeze(ops.convert(ids, "f32"), _int(1)), _int(3))
    kept = ov.opset6.assign(ops.concat([ops.gather(past, beam, _int(0)), gained], 2), "past")
    zeros = ops.unsqueeze(ops.multiply(ops.convert(ids, "f32"), ops.constant(np.float32(0))), _int(2))
    logits = ops.result(ops.broadcast(zeros, ops.concat([shape, _int([vocab_size])], 0), "BIDIRECTIONAL"))
    logits.output(0).get_tensor().set_names({"logits"})
    return ov.Model([logits], [kept], [*inputs.values(), beam], "scratch")


def _int(value: Any) -> Any:
    return ops.constant(np.array(value, dtype=np.int64))
