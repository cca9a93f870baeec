"""Hugging Face checkpoint → OpenVINO engine, through optimum-intel's exporter."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

from build.replay import Replay, Script
from build.steps import quiet, reason
from build.tokenizer import load_fast_tokenizer
from contract import programs
from contract.checkout import ROOT
from contract.errors import BuildError
from contract.manifest import this_machine
from contract.spec import Deployment

# What the engine's bytes depend on, besides the checkpoint and the precision.
PACKAGES = ("nncf", "openvino", "openvino-tokenizers", "optimum", "optimum-intel", "torch", "transformers")
RECIPE = 2  # raised whenever build() changes what it writes
SIZE = 2
# What OpenVINO wants of a CPU before its paged attention computes in bf16 and keeps a bf16 cache (paged_attn.cpp,
# getRuntimePrecision): AVX-512 alone is not enough, nor is AMX needed.
BF16 = "avx512_bf16"
TASK = "text-generation-with-past"


def key(spec: Deployment) -> tuple[Any, ...]:
    """An engine is verified on the machine that runs it.

    Raises:
        BuildError: precision bf16, on a CPU that OpenVINO does not compute it on.
    """
    machine = this_machine()
    if spec.engine.precision == "bf16" and BF16 not in machine.instruction_sets:
        raise BuildError(
            f"engine.precision is bf16, and {machine.cpu} has no {BF16}, without which OpenVINO keeps no bf16 cache",
            fix="Use fp32, int8 or int4, or a CPU that has it (Intel's since Sapphire Rapids, AMD's since Zen 4)",
        )
    return machine.arch, machine.instruction_sets


def check(checkpoint: Path, spec: Deployment) -> None:
    """Refuse a model that the exporter does not know.

    Raises:
        BuildError: naming the architecture.
    """
    import optimum.exporters.openvino.model_configs  # noqa: F401  registers OpenVINO's models
    from optimum.exporters.tasks import TasksManager

    config = json.loads((checkpoint / "config.json").read_text())
    model_type = str(config.get("model_type"))
    try:
        tasks = TasksManager.get_supported_tasks_for_model_type(
            model_type, exporter="openvino", library_name="transformers"
        )
    except KeyError:
        tasks = {}
    if TASK not in tasks:
        raise BuildError(
            f"architecture {config['architectures'][0]} (model_type {model_type}) cannot be exported to OpenVINO",
            fix="Use a decoder such as Llama, Mistral, Qwen2 or Qwen3, or another runtime",
        )


def write_tokenizer(checkpoint: Path, folder: Path) -> None:
    """Write the tokenizer, as it is and as OpenVINO models: guided decoding reads its vocabulary from those.

    The exporter can do this too, but keeps every failure to itself.

    Raises:
        BuildError: the tokenizer does not load, or has no counterpart in OpenVINO.
    """
    import openvino as ov
    from openvino_tokenizers import convert_tokenizer  # type: ignore[import-untyped]

    tokenizer = load_fast_tokenizer(checkpoint)
    tokenizer.save_pretrained(folder)
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    try:
        encoder, decoder = convert_tokenizer(tokenizer, with_detokenizer=True)
    except Exception as error:  # what it raises has no common base
        raise BuildError(f"OpenVINO has no counterpart of the checkpoint's tokenizer: {reason(error)}") from None
    ov.save_model(encoder, folder / "openvino_tokenizer.xml")
    ov.save_model(decoder, folder / "openvino_detokenizer.xml")


def command(checkpoint: Path, spec: Deployment, folder: Path) -> list[str]:
    """Nothing: the exporter runs in this process."""
    return []


def built_with(folder: Path) -> dict[str, str]:
    """PACKAGES say all."""
    return {}


def target(folder: Path, spec: Deployment) -> None:
    """None: it runs on the CPU."""


def build(checkpoint: Path, spec: Deployment, folder: Path) -> None:
    """Export and quantize. bf16 is fp32's file: the runtime computes in bf16 by a load-time hint.

    Raises:
        BuildError: the exporter refused the model.
    """
    from optimum.exporters.openvino import main_export
    from optimum.intel import OVConfig

    precision = spec.engine.precision
    for library in ("optimum", "nncf", "transformers"):
        logging.getLogger(library).setLevel(logging.ERROR)
    with quiet():
        try:
            main_export(
                str(checkpoint),
                folder,
                task=TASK,
                ov_config=OVConfig(dtype="fp32"),
                convert_tokenizer=False,
                local_files_only=True,
            )
        except Exception as error:  # what it raises has no common base
            raise BuildError(f"the OpenVINO exporter refused this checkpoint: {reason(error)}") from None
        if precision in ("int8", "int4"):
            _compress(folder, precision)
        write_tokenizer(checkpoint, folder)


def _compress(folder: Path, precision: str) -> None:
    """Quantize the weights in place: int8 per channel, int4 in groups of 32, both asymmetric."""
    import nncf
    import openvino as ov

    path = folder / "openvino_model.xml"
    model = ov.Core().read_model(path)
    if precision == "int8":
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    else:
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=32, ratio=1.0)
    compressed = folder / "compressed.xml"
    ov.save_model(model, compressed, compress_to_fp16=False)
    del model
    for suffix in (".xml", ".bin"):
        compressed.with_suffix(suffix).replace(path.with_suffix(suffix))


def replay(config: Path, spec: Deployment, engine: Path, script: Script) -> Replay:
    """Teacher forcing along the windows, and greedy search through the pipeline that serves."""
    top1, loss = forced(engine, spec.engine.precision, script.windows)
    answers = greedy(config, engine, script.prompts, script.max_tokens)
    return Replay([dict(enumerate(row)) for row in top1], loss, answers)


def forced(engine: Path, precision: str, windows: list[list[int]]) -> tuple[list[list[int]], float]:
    """The engine's most likely token at each position, and its mean loss on the text."""
    import numpy as np
    import openvino as ov

    hint = "bf16" if precision == "bf16" else "f32"
    model = ov.Core().compile_model(engine / "openvino_model.xml", "CPU", {"INFERENCE_PRECISION_HINT": hint})
    names = {name for port in model.inputs for name in port.get_names()}
    top1, losses = [], []
    for window in windows:
        request = model.create_infer_request()
        size = len(window)
        inputs: dict[str, Any] = {
            "input_ids": np.array([window], dtype=np.int64),
            "attention_mask": np.ones((1, size), dtype=np.int64),
            "position_ids": np.arange(size, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        request.infer({name: value for name, value in inputs.items() if name in names})
        logits = request.get_tensor("logits").data[0].astype(np.float64)
        top1.append(logits.argmax(-1).tolist())
        shifted = logits - logits.max(-1, keepdims=True)
        log_probs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        losses += (-log_probs[np.arange(size - 1), window[1:]]).tolist()
    return top1, sum(losses) / len(losses)


def greedy(config: Path, engine: Path, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
    """Greedy tokens through the pipeline that serves, in a process of its own.

    Raises:
        BuildError: the engine does not run.
    """
    round_ = json.dumps({"prompts": prompts, "max_tokens": max_tokens})
    run = subprocess.run(
        [sys.executable, *programs.RAW_OPENVINO, str(config), str(engine)],
        input=round_ + "\n",
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if run.returncode:
        said = run.stderr.strip().splitlines()
        raise BuildError(f"the engine does not run: {said[-1] if said else f'exit status {run.returncode}'}")
    answers: list[list[int]] = json.loads(run.stdout.splitlines()[-1])["ids"]
    return answers
