"""Tiny random checkpoints with tiny trained tokenizers: every architecture we claim, whole, in well under a MiB each.

They need torch, so only the build environment can make them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from tests import tokenizers_zoo as zoo

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
CONTEXT = 512  # above verify's window and prompts

_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    # Wide enough that the most likely token is no near tie, which rounding would decide.
    "initializer_range": 0.3,
}

_KINDS: dict[str, tuple[type[Any], type[Any], Callable[[], Tokenizer], dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, zoo.byte_level, {"tie_word_embeddings": True}),
    "mistral": (MistralConfig, MistralForCausalLM, zoo.byte_fallback, {"sliding_window": None}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, zoo.tiktoken_style, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, zoo.tiktoken_style, {}),
    "qwen3_moe": (
        Qwen3MoeConfig,
        Qwen3MoeForCausalLM,
        zoo.tiktoken_style,
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ),
}

ARCHITECTURES = tuple(_KINDS)


def write_checkpoint(folder: Path, architecture: str = "llama", **overrides: Any) -> Path:
    """A Hugging Face checkpoint in ``folder``: weights, tokenizer, chat template, generation config.

    Args:
        overrides: values of the architecture's config.
    """
    config_class, model_class, make_tokenizer, own = _KINDS[architecture]
    tokenizer = tokenizer_of(make_tokenizer())
    config = config_class(
        **_SIZES | own | overrides,
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = model_class(config).eval()
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tokenizer_of(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """A zoo tokenizer as transformers has it; its one special token ends a sequence and pads."""
    end = "<|end|>" if backend.token_to_id("<|end|>") is not None else "</s>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=end, pad_token=end, clean_up_tokenization_spaces=False
    )
    tokenizer.model_max_length = CONTEXT
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def greedy(checkpoint: Path, prompt: list[int], count: int) -> list[int]:
    """What Hugging Face's own fp32 greedy search says next, through any end of sequence."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.inference_mode():
        ids = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    answer: list[int] = ids[0, len(prompt) :].tolist()
    return answer


def log_probs(checkpoint: Path, ids: list[int]) -> list[list[float]]:
    """Hugging Face's own fp32 log probabilities of every token after each of these ids."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.inference_mode():
        found: list[list[float]] = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1).tolist()
    return found
