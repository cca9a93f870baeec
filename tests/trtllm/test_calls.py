"""Every argument that TensorRT-LLM ever gets from us exists in the recorded API, and is of its type."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from contract.engines.kinds import Precision
from contract.engines.trtllm.api import arguments, members, misfit, unknown
from contract.engines.trtllm.arguments import build_call, serve_call
from contract.engines.trtllm.calls import Call, Member, from_json, to_json, walk
from contract.engines.trtllm.options import GpuName, TrtllmSpec
from contract.engines.trtllm.rules import ENGINE_PRECISIONS, PYTORCH_PRECISIONS
from contract.gpus import GPUS
from contract.sampling import GUIDE_TYPES, SamplingParams
from contract.spec import Deployment, load_spec
from python_backend.trtllm.sampling import sampling_call
from tests.trtllm.specs import OPTIONS, spec

CODE = Path(__file__).resolve().parents[2]
PRESETS = sorted((CODE / "configs").glob("*-trtllm.yaml"))
SAMPLINGS = (
    SamplingParams(max_tokens=4),
    SamplingParams(max_tokens=4, temperature=0.7, top_k=5, top_p=0.9, seed=3, min_tokens=2, ignore_eos=True),
    SamplingParams(max_tokens=4, repetition_penalty=1.1, presence_penalty=0.5, frequency_penalty=0.5),
    SamplingParams(max_tokens=4, end_id=7, stop_token_ids=(1, 2), return_log_probs=True, logprobs=3),
    *(
        SamplingParams(max_tokens=4, guided_decoding_guide_type=kind, guided_decoding_guide=guide)
        for kind in GUIDE_TYPES
        for guide in ("{}", "")
    ),
)


def faults(call: Call) -> Iterator[str]:
    """What of a call, and of the calls within it, the recording does not have."""
    for part in walk(call):
        for name, value in part.arguments.items():
            if wrong := unknown(part.name, name):
                yield wrong
            elif isinstance(value, Call | Member):
                wanted = value.name if isinstance(value, Call) else value.enum
                if not re.search(rf"\b{wanted}\b", arguments(part.name)[name]["type"]):
                    yield f"{part.name} wants {arguments(part.name)[name]['type']} for {name}, got a {wanted}"
                if isinstance(value, Member) and value.name not in members(value.enum):
                    yield f"{value.enum} has no member {value.name}"
            elif wrong := misfit(part.name, name, value):
                yield wrong


def calls(deployment: Deployment) -> Iterator[Call]:
    """All that a deployment's build and server call."""
    folder = PurePosixPath("/engine")
    if deployment.engine.trtllm.backend == "tensorrt":
        for kernels in ("", "/kernels"):
            yield build_call(
                deployment,
                checkpoint="/hf",
                folder=folder,
                workspace="/w",
                kernels=kernels,
                new_kernels="/new",
                adapted=["attn_q"],
            )
    yield serve_call(deployment, folder, ["attn_q"])


def every_spec() -> Iterator[tuple[str, Deployment | Path]]:
    """Presets are read by the test, so that a fault in one is that preset's."""
    for path in PRESETS:
        yield path.stem, path
    for number, options in enumerate(OPTIONS):
        yield f"options {number}", spec(options)
    for backend, precisions in (("tensorrt", ENGINE_PRECISIONS), ("pytorch", PYTORCH_PRECISIONS)):
        for precision in precisions:
            yield f"{backend} {precision}", spec({"backend": backend, "gpu": "b200"}, precision=precision)
    parallel = {"parallel": {"tensor": 8, "pipeline": 2, "expert": 4}}
    yield "16 GPUs", spec({"backend": "pytorch"}, engine=parallel | {"trtllm": {"backend": "pytorch"}})


@pytest.mark.parametrize(("name", "deployment"), [pytest.param(*each, id=each[0]) for each in every_spec()])
def test_every_argument_is_recorded(name: str, deployment: Deployment | Path) -> None:
    deployment = load_spec(deployment) if isinstance(deployment, Path) else deployment
    assert deployment.engine.runtime == "trtllm"
    found = [fault for call in calls(deployment) for fault in faults(call)]
    assert not found, f"{name}: {found}"


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=range(len(SAMPLINGS)))
def test_every_sampling_argument_is_recorded(sampling: SamplingParams) -> None:
    call = sampling_call(sampling, (2, 3), seed=1)
    assert not list(faults(call))
    assert call.arguments["end_id"] in (2, 7)  # TensorRT-LLM insists on one without a tokenizer


def written_calls(path: Path) -> Iterator[tuple[str, list[ast.expr], set[str]]]:
    """The calls of TensorRT-LLM that a module writes out: what is called, positions, keywords."""
    methods = ("generate_async", "save", "shutdown", "get_stats")
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ""
        if isinstance(node.func, ast.Attribute) and node.func.attr in methods:
            name = node.func.attr
        elif isinstance(node.func, ast.Call) and isinstance(node.func.func, ast.Name) and node.func.func.id == "find":
            name = ast.literal_eval(node.func.args[0])
        elif isinstance(node.func, ast.Name) and node.func.id == "sampling":  # inside.py's find("SamplingParams")
            name = "SamplingParams"
        if name:
            yield name, node.args, {str(keyword.arg) for keyword in node.keywords}


@pytest.mark.parametrize("module", ["python_backend/trtllm/engine.py", "build/trtllm/inside.py"])
def test_calls_that_are_written_out_are_recorded(module: str) -> None:
    """By keyword: NVIDIA's own model.py passes ``streaming`` by position, where it is taken for an adapter."""
    found = list(written_calls(CODE / module))
    assert {name for name, _, _ in found} >= {"generate_async", "shutdown"}
    for name, positions, keywords in found:
        assert keywords <= arguments(name).keys(), name
        assert not positions or name == "save", name


def test_a_fault_is_found_by_name() -> None:
    """The walk above is worth something: a misspelt, a mistyped and an impossible argument are each told."""
    wrong = {
        "enable_blok_reuse": True,
        "free_gpu_memory_fraction": "much",
        "onboard_blocks": 1,
        "max_tokens": Member("QuantAlgo", "FP9"),
    }
    assert list(faults(Call("KvCacheConfig", wrong))) == [
        "KvCacheConfig has no argument enable_blok_reuse; did you mean enable_block_reuse?",
        "KvCacheConfig wants Optional[float] for free_gpu_memory_fraction, got 'much'",
        "KvCacheConfig wants bool for onboard_blocks, got 1",
        "KvCacheConfig wants Optional[int] for max_tokens, got a QuantAlgo",
        "QuantAlgo has no member FP9",
    ]


def test_every_option_is_in_some_spec() -> None:
    """So that no option escapes the walk."""

    def keys(model: BaseModel, prefix: str = "") -> set[str]:
        return {
            found
            for name in model.model_fields_set
            for value in [getattr(model, name)]
            for found in [prefix + name, *(keys(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else ())]
        }

    def all_keys(kind: Any, prefix: str = "") -> set[str]:
        found = set()
        for name, field in kind.model_fields.items():
            found.add(prefix + name)
            for part in (field.annotation, *get_args(field.annotation), *_deep(field.annotation)):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    found |= all_keys(part, f"{prefix}{name}.")
        return found

    given = {key for options in OPTIONS for key in keys(spec(options).engine.trtllm)}
    assert all_keys(TrtllmSpec) == given


def _deep(annotation: Any) -> list[Any]:
    return [found for part in get_args(annotation) for found in (part, *_deep(part))]


def test_calls_survive_json() -> None:
    for options in OPTIONS:
        for call in calls(spec(options)):
            assert from_json(to_json(call)) == call


def test_names_agree() -> None:
    assert set(get_args(GpuName)) == GPUS.keys()
    assert set(ENGINE_PRECISIONS) | set(PYTORCH_PRECISIONS) <= set(get_args(Precision))
