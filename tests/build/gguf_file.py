"""A tiny checkpoint as a GGUF file, so that its conversion back has a known answer."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

from tests.tiny import CHAT_TEMPLATE

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(
    path: Path,
    checkpoint: Path,
    *,
    tokenizer: str = "gpt2",
    split: str = "gpt-2",
    architecture: str = "llama",
    without: str = "",
    rename: dict[str, str] | None = None,
) -> Path:
    """Write a Llama checkpoint of tests.tiny as llama.cpp's converter would, in fp32.

    Args:
        tokenizer: what the file calls its kind of tokenizer.
        split: what it calls its pre-tokenizer.
        without: the metadata key or tensor to leave out.
        rename: other words for some tokens.
    """
    config = json.loads((checkpoint / "config.json").read_text())
    words = json.loads((checkpoint / "tokenizer.json").read_text())
    tokens = sorted(words["model"]["vocab"], key=words["model"]["vocab"].__getitem__)
    special = {added["content"] for added in words["added_tokens"]}
    fields: dict[str, Any] = {
        "llama.context_length": np.uint32(config["max_position_embeddings"]),
        "llama.embedding_length": np.uint32(config["hidden_size"]),
        "llama.block_count": np.uint32(config["num_hidden_layers"]),
        "llama.feed_forward_length": np.uint32(config["intermediate_size"]),
        "llama.rope.dimension_count": np.uint32(config["head_dim"]),
        "llama.rope.freq_base": np.float32(config["rope_parameters"]["rope_theta"]),
        "llama.attention.head_count": np.uint32(config["num_attention_heads"]),
        "llama.attention.head_count_kv": np.uint32(config["num_key_value_heads"]),
        "llama.attention.layer_norm_rms_epsilon": np.float32(config["rms_norm_eps"]),
        "llama.vocab_size": np.uint32(len(tokens)),
        "tokenizer.ggml.model": tokenizer,
        "tokenizer.ggml.pre": split,
        "tokenizer.ggml.tokens": [(rename or {}).get(token, token) for token in tokens],
        "tokenizer.ggml.token_type": [
            int(gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL) for token in tokens
        ],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in words["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": np.uint32(config["eos_token_id"]),
        "tokenizer.ggml.padding_token_id": np.uint32(config["pad_token_id"]),
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in fields.items():
        if key != without:
            _add(writer, key, value)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, weights in load_file(checkpoint / "model.safetensors").items():
        count = next((heads[part] for part in heads if part in name), None)
        if _gguf_name(name) != without:
            writer.add_tensor(_gguf_name(name), _interleaved(weights, count) if count else weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, np.uint32):
        writer.add_uint32(key, int(value))
    else:
        writer.add_float32(key, float(value))


def _gguf_name(name: str) -> str:
    """model.layers.3.self_attn.q_proj.weight → blk.3.attn_q.weight."""
    stem, _, kind = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, layer, part = stem.split(".", 3)
        return f"blk.{layer}.{_NAMES[part]}.{kind}"
    return f"{_NAMES[stem]}.{kind}"


def _interleaved(weights: Any, heads: int) -> Any:
    """llama.cpp's order of the rows: the two rotary halves of each head, interleaved."""
    rows, columns = weights.shape
    halves = weights.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))
