"""The fetched files → a genuine Hugging Face checkpoint. GGUF is dequantized; a checkpoint passes as it is.

What a GGUF conversion gets wrong elsewhere is proved right here, on the result: every
tensor against gguf's own dequantization, the vocabulary id by id, and the chat template.
"""

import json
from pathlib import Path
from typing import Any

from build.fetch import check_checkpoint
from build.steps import console, quiet, reason
from contract.errors import BuildError

# What the checkpoint's bytes depend on, besides the source.
PACKAGES = ("gguf", "safetensors", "tokenizers", "transformers")
RECIPE = 1  # raised whenever convert() changes what it writes


def convert(fetched: Path, folder: Path) -> None:
    """Write the checkpoint into ``folder``.

    Raises:
        BuildError: the files cannot be converted, or the result is not what the source says.
    """
    files = sorted(fetched.glob("*.gguf"))
    if len(files) > 1:
        raise BuildError(f"{len(files)} GGUF files where one is wanted", fix="Narrow source.file in the config")
    if files:
        _from_gguf(files[0].resolve(), folder)
    else:
        for file in sorted(fetched.glob("[!.]*")):
            (folder / file.name).symlink_to(file.resolve())
    check_checkpoint(folder)


def _from_gguf(file: Path, folder: Path) -> None:
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, GenerationConfig

    from build.gguf_tokenizer import tokenizer_of

    try:
        reader = GGUFReader(file)
        fields: dict[str, Any] = {key: field.contents() for key, field in reader.fields.items()}
    except (ValueError, IndexError, KeyError) as error:
        raise BuildError(f"{file} is truncated or no GGUF file: {error}", fix="Fetch it again") from None
    try:
        tokenizer = tokenizer_of(fields)
    except KeyError as missing:
        raise BuildError(f"{file} has no {missing.args[0]}", fix="Fetch it again") from None
    console.print(f"dequantizing {file.name}")
    with quiet():
        try:
            model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        except Exception as error:  # what it raises has no common base
            raise BuildError(f"transformers cannot load {file}: {reason(error)}") from None
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    # transformers 4 reads only the flat key, and would silently take 10000.
    model.config.rope_theta = model.config.rope_parameters["rope_theta"]
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    with quiet():
        model.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # safetensors keeps them from others; a container's user is another
        weights.chmod(0o644)
    tokenizer.save_pretrained(folder)
    _name_portable_class(folder / "tokenizer_config.json")
    prove(reader, fields, folder)


def _name_portable_class(path: Path) -> None:
    """transformers 5 writes a class name that 4 does not know."""
    config = json.loads(path.read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False))


def prove(reader: Any, fields: dict[str, Any], folder: Path) -> None:
    """Compare the written checkpoint with the GGUF file.

    Raises:
        BuildError: naming the first thing that differs.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = fields["tokenizer.ggml.tokens"]
    if len(tokenizer) != len(tokens):
        raise BuildError(f"the converted tokenizer has {len(tokenizer)} tokens, the GGUF file {len(tokens)}")
    converted = tokenizer.convert_ids_to_tokens(range(len(tokens)))
    for index, (ours, theirs) in enumerate(zip(converted, tokens, strict=True)):
        if ours != theirs:
            raise BuildError(f"token {index} of the converted tokenizer is {ours!r}, the GGUF file says {theirs!r}")
    for role, key in (("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")):
        wanted = fields.get(f"tokenizer.ggml.{key}_token_id")
        if wanted is not None and getattr(tokenizer, role) != wanted:
            raise BuildError(f"the converted {role} is {getattr(tokenizer, role)}, the GGUF file says {wanted}")
    for index in tokenizer.all_special_ids:
        if tokenizer.encode(tokens[index], add_special_tokens=False) != [index]:
            raise BuildError(f"special token {tokens[index]!r} does not encode to its id {index}")
    if tokenizer.chat_template != fields.get("tokenizer.chat_template"):
        raise BuildError("the converted chat template differs from the GGUF file's")
    _prove_tensors(reader, fields, folder)


def _prove_tensors(reader: Any, fields: dict[str, Any], folder: Path) -> None:
    """Every GGUF tensor, dequantized by gguf, is in the checkpoint bit for bit (attention rows reordered)."""
    import numpy as np
    from gguf import dequantize
    from safetensors import safe_open

    architecture = fields["general.architecture"]
    heads = fields[f"{architecture}.attention.head_count"]
    kv_heads = fields.get(f"{architecture}.attention.head_count_kv", heads)
    with safe_open(folder / "model.safetensors", framework="np") as checkpoint:
        known = set(checkpoint.keys())
        for tensor in reader.tensors:
            name = _hf_name(tensor.name)
            if name not in known:
                raise BuildError(f"GGUF tensor {tensor.name} has no counterpart {name} in the checkpoint")
            wanted = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            if architecture == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
                wanted = _unpermuted(wanted, heads if "q_proj" in name else kv_heads)
            if not np.array_equal(checkpoint.get_tensor(name), wanted):
                raise BuildError(f"{name} differs from GGUF tensor {tensor.name}")
            known.remove(name)
    if known:
        raise BuildError(f"the GGUF file has no tensor for {min(known)}", fix="Fetch it again")


_HF_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}


def _hf_name(name: str) -> str:
    """blk.3.attn_q.weight → model.layers.3.self_attn.q_proj.weight."""
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{_HF_NAMES.get(parts[2], parts[2])}.{parts[3]}"
    return f"{_HF_NAMES.get(parts[0], parts[0])}.{parts[1]}"


def _unpermuted(weights: Any, heads: int) -> Any:
    """Undo llama.cpp's interleaving of the two rotary halves of each head."""
    rows, columns = weights.shape
    return weights.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
