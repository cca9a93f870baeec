"""NVIDIA's C++ ensemble becomes a deployment spec; what cannot is told, one line each, and nothing is dropped."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml

from build.import_repository import Import, translate
from build.inflight_batcher import MODELS, read_repository
from build.inflight_batcher_table import BLS, ENGINE, ENGINE_ELSEWHERE, TEXT, TEXT_ELSEWHERE
from contract.errors import BuildError
from contract.spec import load_spec

TEMPLATES = Path(__file__).with_name("inflight_batcher_llm")
CODE = Path(__file__).resolve().parents[2]
USUAL = {
    "triton_backend": "tensorrtllm",
    "triton_max_batch_size": "128",
    "decoupled_mode": "true",
    "max_queue_delay_microseconds": "0",
    "max_queue_size": "256",
    "logits_datatype": "TYPE_FP32",
    "prompt_embedding_table_data_type": "TYPE_FP16",
    "tokenizer_dir": "/models/Qwen2-7B-Instruct",
    "batching_strategy": "inflight_fused_batching",
    "max_beam_width": "1",
    "kv_cache_free_gpu_mem_fraction": "0.85",
    "enable_kv_cache_reuse": "true",
    "enable_chunked_context": "false",
    "batch_scheduler_policy": "max_utilization",
    "exclude_input_in_output": "true",
    "decoding_mode": "top_k_top_p",
    "skip_special_tokens": "true",
    "add_special_tokens": "true",
    "preprocessing_instance_count": "1",
    "postprocessing_instance_count": "1",
    "bls_instance_count": "1",
    "accumulate_tokens": "true",
    "tensorrt_llm_model_name": "tensorrt_llm",
}

Filled = Callable[..., Path]


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    """A repository whose templates were filled, as NVIDIA's fill_template.py fills them."""

    def fill(**values: str) -> Path:
        folder = tmp_path / "inflight_batcher_llm"
        for name in MODELS:
            text = Template((TEMPLATES / name / "config.pbtxt").read_text()).safe_substitute(values)
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / "config.pbtxt").write_text(text)
        return folder

    return fill


def engine(tmp_path: Path, *, quant: str | None = None, **build: int) -> str:
    """An engine's config.json, as trtllm-build leaves it beside the engine."""
    folder = tmp_path / "engine"
    folder.mkdir()
    mapping = {"world_size": 8, "tp_size": 4, "pp_size": 2, "cp_size": 1}
    model = {"architecture": "QWenForCausalLM", "dtype": "bfloat16", "mapping": mapping}
    model["quantization"] = {"quant_algo": quant, "kv_cache_quant_algo": "FP8" if quant == "FP8" else None}
    built = {
        "max_seq_len": 8192,
        "max_input_len": 4096,
        "max_num_tokens": 8192,
        "plugin_config": {"tokens_per_block": 64},
    }
    config = {"version": "1.2.1", "pretrained_config": model, "build_config": built | build}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def imported(folder: Path) -> Import:
    return translate(read_repository(folder))


def said(found: Import, what: str) -> str:
    """The one note about something."""
    (note,) = [note for note in found.notes if note.startswith(what)]
    return note


def test_what_is_usual(filled: Filled, tmp_path: Path) -> None:
    found = imported(filled(**USUAL, engine_dir=engine(tmp_path, quant="FP8")))
    assert found.spec == {
        "name": "qwen2-7b-instruct",
        "source": {"kind": "path", "path": "/models/Qwen2-7B-Instruct"},
        "engine": {
            "runtime": "trtllm",
            "precision": "fp8",
            "parallel": {"tensor": 4, "pipeline": 2},
            "trtllm": {
                "kv_cache": {"precision": "fp8", "tokens_per_block": 64, "reuse": True, "memory_fraction": 0.85},
                "scheduler": "max_utilization",
                "chunked_context": False,
            },
        },
        "limits": {
            "max_seq_len": 8192,
            "max_input_len": 4096,
            "max_num_tokens": 8192,
            "max_batch_size": 128,
            "max_queue_size": 256,
        },
    }
    # Nothing to tell of the parameters but where the engine comes from: the rest is of clients.
    parameters = [note for note in found.notes if note.startswith(("preprocessing", "postprocessing", "tensorrt_llm "))]
    assert [note.partition("=")[0] for note in parameters] == ["tensorrt_llm gpt_model_path"]


def test_the_spec_is_one_of_ours(filled: Filled, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    found = imported(filled(**USUAL, engine_dir=engine(tmp_path)))
    path.write_text(yaml.safe_dump(found.spec))
    assert load_spec(path).limits.max_batch_size == 128


def test_nothing_filled(filled: Filled) -> None:
    found = imported(filled())
    assert "tensorrt_llm/config.pbtxt: ${triton_max_batch_size}" in found.unfilled
    assert "preprocessing/config.pbtxt: ${tokenizer_dir}" in found.unfilled
    assert len(found.unfilled) > 60
    assert found.spec["engine"] == {"runtime": "trtllm", "precision": "bf16"}
    assert "limits" not in found.spec
    assert "put the folder" in said(found, "preprocessing tokenizer_dir")


RARE: list[tuple[dict[str, str], str, Any]] = [
    ({"max_tokens_in_paged_kv_cache": "100000"}, "engine.trtllm.extra.kv_cache.max_tokens", 100_000),
    ({"max_attention_window_size": "4096,8192"}, "engine.trtllm.extra.kv_cache.max_attention_window", [4096, 8192]),
    ({"sink_token_length": "4"}, "engine.trtllm.extra.kv_cache.sink_token_length", 4),
    ({"kv_cache_host_memory_bytes": "5000000000"}, "engine.trtllm.kv_cache.host_gib", 5),
    ({"kv_cache_onboard_blocks": "false"}, "engine.trtllm.extra.kv_cache.onboard_blocks", False),
    ({"normalize_log_probs": "True"}, "engine.trtllm.extra.llm.normalize_log_probs", True),
    ({"iter_stats_max_iterations": "500"}, "engine.trtllm.extra.llm.iter_stats_max_iterations", 500),
    ({"guided_decoding_backend": "xgrammar"}, "engine.trtllm.guided_decoding", True),
    ({"batch_scheduler_policy": "guaranteed_no_evict"}, "engine.trtllm.scheduler", "guaranteed_no_evict"),
    ({"gpu_device_ids": "0,1,2,3"}, "engine.parallel.tensor", 4),
    (
        {"lookahead_window_size": "7", "lookahead_ngram_size": "5", "lookahead_verification_set_size": "6"},
        "engine.trtllm.speculative",
        {"kind": "lookahead", "window": 7, "ngram": 5, "verification": 6},
    ),
]


@pytest.mark.parametrize(("values", "key", "value"), RARE, ids=[row[1] for row in RARE])
def test_a_rare_one_has_its_key(values: dict[str, str], key: str, value: Any, filled: Filled) -> None:
    place: Any = imported(filled(**USUAL | values)).spec
    for part in key.split("."):
        place = place[part]
    assert place == value


TOLD = [
    ({"max_beam_width": "4"}, "tensorrt_llm max_beam_width=4", "no beam search"),
    ({"batching_strategy": "V1"}, "tensorrt_llm gpt_model_type=V1", "only in-flight batching"),
    ({"batch_scheduler_policy": "static_batch"}, "tensorrt_llm batch_scheduler_policy", "scheduler is left as it is"),
    ({"enable_chunked_context": "maybe"}, "tensorrt_llm enable_chunked_context=maybe", "true or false"),
    ({"exclude_input_in_output": "false"}, "tensorrt_llm exclude_input_in_output", "never repeats"),
    ({"decoding_mode": "beam_search"}, "tensorrt_llm decoding_mode", "only top_k, top_p"),
    ({"medusa_choices": "{0}"}, "tensorrt_llm medusa_choices", "the folder of the heads"),
    ({"lookahead_ngram_size": "5"}, "tensorrt_llm lookahead", "lookahead_window_size, .* not given"),
    ({"lora_prefetch_dir": "/loras"}, "tensorrt_llm lora_prefetch_dir", r"engine\.trtllm\.lora"),
    ({"participant_ids": "1,2"}, "tensorrt_llm participant_ids", "trtllm-llmapi-launch"),
    ({"max_queue_delay_microseconds": "500"}, "tensorrt_llm max_queue_delay", "nothing waits for a batch"),
    ({"max_queue_size": "0"}, "tensorrt_llm max_queue_size=0", r"limits\.max_queue_size is 64"),
    ({"decoupled_mode": "false"}, "tensorrt_llm decoupled=false", "whether it streams"),
    ({"bls_instance_count": "8"}, "tensorrt_llm_bls instance_group count=8", "one process"),
    ({"tensorrt_llm_draft_model_name": "draft"}, "tensorrt_llm_bls tensorrt_llm_draft", "no draft model"),
    ({"skip_special_tokens": "false"}, "postprocessing skip_special_tokens", "a request says so"),
    ({"multimodal_model_path": "/vit"}, "preprocessing multimodal_model_path", "text only"),
    ({}, "tensorrt_llm gpt_model_path=(not given)", "make engine builds one"),
    ({}, "tensorrt_llm_bls: ", "clients call ensemble"),
    ({}, "ensemble input lora_task_id", "name one in lora_name"),
    ({}, "ensemble input tenant", "there is no such input"),
    ({}, "ensemble output context_logits", "returns logits"),
    ({}, "ensemble output kv_cache_reused_blocks", "in /metrics"),
]


@pytest.mark.parametrize(("values", "what", "reason"), TOLD, ids=[row[1] for row in TOLD])
def test_what_has_no_equivalent_is_told(values: dict[str, str], what: str, reason: str, filled: Filled) -> None:
    found = imported(filled(**USUAL | values))
    notes = [note for note in found.notes if note.startswith(what)]
    assert notes and re.search(reason, notes[0]), found.notes
    assert all("\n" not in note for note in found.notes)


def test_every_parameter_of_the_templates_is_known() -> None:
    """A parameter that no table has would be told of as unknown: of NVIDIA's own, none is."""
    models = read_repository(TEMPLATES).models
    tables = {
        "tensorrt_llm": set(ENGINE) | ENGINE_ELSEWHERE,
        "preprocessing": set(TEXT) | TEXT_ELSEWHERE,
        "postprocessing": set(TEXT) | TEXT_ELSEWHERE,
        "tensorrt_llm_bls": set(BLS),
        "ensemble": set(),
    }
    for name, model in models.items():
        assert set(model.config.parameters) <= tables[name]
    assert len(models["tensorrt_llm"].config.parameters) > 40


def test_a_parameter_of_ones_own_is_told(filled: Filled) -> None:
    folder = filled(**USUAL)
    path = folder / "preprocessing" / "config.pbtxt"
    path.write_text(
        path.read_text() + 'parameters: { key: "our_switch" value: { string_value: "on" } }  # ${comment}\n'
    )
    found = imported(folder)
    assert said(found, "preprocessing our_switch=on").endswith("this parameter is not known")
    assert not [line for line in found.unfilled if "comment" in line]


def test_quantizations(filled: Filled, tmp_path: Path) -> None:
    for quant, precision in (("W4A16_AWQ", "int4_awq"), ("W8A8_SQ_PER_CHANNEL", "int8_sq"), ("W4A16_GPTQ", "bf16")):
        found = imported(filled(**USUAL, engine_dir=engine(tmp_path, quant=quant)))
        assert found.spec["engine"]["precision"] == precision
        assert bool([note for note in found.notes if "quant_algo" in note]) == (quant == "W4A16_GPTQ")
        shutil.rmtree(tmp_path / "engine")


def test_a_prompt_as_long_as_the_context(filled: Filled, tmp_path: Path) -> None:
    found = imported(filled(**USUAL, engine_dir=engine(tmp_path, max_input_len=8192)))
    assert found.spec["limits"]["max_input_len"] == 8191
    assert "the answer needs room" in said(found, "engine max_input_len")


def test_models_that_are_not_there(filled: Filled) -> None:
    folder = filled(**USUAL)
    for name in ("tensorrt_llm_bls", "postprocessing"):
        shutil.rmtree(folder / name)
    found = imported(folder.parent)  # the folder above will do too
    assert said(found, "postprocessing/config.pbtxt").endswith("nothing is taken from it")
    assert not [note for note in found.notes if note.startswith("tensorrt_llm_bls")]


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"no inflight_batcher_llm repository.*FROM= names the folder"):
        read_repository(tmp_path)


def test_a_file_that_is_no_protobuf_text_is_refused_with_its_line(filled: Filled) -> None:
    folder = filled(**USUAL)
    path = folder / "tensorrt_llm" / "config.pbtxt"
    path.write_text(path.read_text().replace("decoupled: true", "decoupled: perhaps"))
    with pytest.raises(BuildError, match=r"tensorrt_llm/config\.pbtxt:6:\d+ .*correct it first"):
        read_repository(folder)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "build.import_repository", *words]
    return subprocess.run(program, cwd=CODE, capture_output=True, text=True, timeout=60, check=False)


def test_the_command(filled: Filled, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    folder = filled(**USUAL, engine_dir=engine(tmp_path))
    done = command(str(folder), "--name", "mine", "--to", str(path))
    assert done.returncode == 0, done.stderr
    assert f"wrote {path}" in done.stdout
    assert "without equivalent: " in done.stdout and "left unfilled: " in done.stdout
    assert yaml.safe_load(path.read_text())["name"] == "mine"
    again = command(str(folder), "--to", str(path))
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "is there already" in again.stderr
    nothing = command(str(tmp_path / "engine"))
    assert nothing.stderr.startswith("error: ") and nothing.returncode == 1
