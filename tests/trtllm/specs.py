"""Specs for runtime trtllm, and every option of it at least once."""

from typing import Any

from contract.spec import Deployment

BASE: dict[str, Any] = {
    "name": "model",
    "source": {"kind": "huggingface", "repo": "Qwen/Qwen3-0.6B"},
    "engine": {"runtime": "trtllm", "precision": "bf16", "trtllm": {"gpu": "h100"}},
    "limits": {"max_seq_len": 4096, "max_input_len": 2048, "max_num_tokens": 8192, "max_batch_size": 64},
}

# Every option in a spec that is valid with it: an option that no spec here has fails a test.
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"backend": "pytorch", "attention_dp": True, "cuda_graphs": False},
    {"backend": "pytorch", "cuda_graphs": True, "kv_cache": {"precision": "fp8"}},
    {"backend": "pytorch", "speculative": {"kind": "eagle", "model": "/draft", "max_draft_len": 4}},
    {"kv_cache": {"precision": "fp8", "memory_fraction": 0.8, "reuse": False, "tokens_per_block": 64, "host_gib": 4}},
    {"kv_cache": {"precision": "int8"}, "chunked_context": False, "log_probs": True, "guided_decoding": False},
    {"scheduler": "max_utilization", "cuda_graphs": True, "multiple_profiles": False, "fast_build": True},
    {
        "kv_cache": {"precision": "fp8"},
        "calibration": {"dataset": "/data", "batches": 8, "batch_size": 2, "max_seq_len": 256},
        "container": {
            "image": "mirror.example/tritonserver:26.05-trtllm-python-py3",
            "program": "podman",
            "network": False,
            "pull": "never",
            "proxy": False,
        },
    },
    {
        "lora": {"adapters": {"sea": "/adapters/sea", "land": "/adapters/land"}, "max_rank": 16},
        "gpus_per_node": 4,
        "load_timeout_s": 60,
    },
    {"speculative": {"kind": "lookahead", "window": 5, "ngram": 4, "verification": 6}},
    {"speculative": {"kind": "medusa", "model": "/draft", "heads": 2, "choices": [[0], [0, 0], [1]]}},
    {"speculative": {"kind": "eagle", "model": "/draft", "max_draft_len": 3, "choices": [[0], [0, 0]]}},
    {
        "kv_cache": {"precision": "fp8"},
        "extra": {
            "llm": {"enable_tqdm": True, "embedding_parallel_mode": "NONE"},
            "build": {"profiling_verbosity": "detailed", "opt_batch_size": 4},
            "plugin": {"reduce_fusion": True, "gemm_plugin": "auto"},
            "kv_cache": {"sink_token_length": 4, "max_attention_window": [512]},
            "scheduler": {"context_chunking_policy": "EQUAL_PROGRESS"},
            "quant": {"exclude_modules": ["lm_head"]},
            "calibration": {"random_seed": 7},
        },
    },
)


def spec(trtllm: dict[str, Any] | None = None, *, precision: str = "bf16", **sections: Any) -> Deployment:
    """A deployment with these options of ``engine.trtllm``; other sections replace BASE's."""
    engine = {"runtime": "trtllm", "precision": precision, "trtllm": {"gpu": "h100", **(trtllm or {})}}
    engine |= sections.pop("engine", {})
    limits = BASE["limits"] | sections.pop("limits", {})
    return Deployment.model_validate(BASE | {"engine": engine, "limits": limits} | sections)
