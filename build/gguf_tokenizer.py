"""A GGUF file's vocabulary → the Hugging Face tokenizer it came from, token for token.

transformers' own GGUF loader guesses the tokenizer class and loses the pre-tokenizer; the file says
both, so the tokenizer is assembled here from what it says (``tokenizer.ggml.*``, GGUF specification).
"""

from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from contract.errors import BuildError

_CONTROL, _USER_DEFINED = 3, 4  # gguf.TokenType

_byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)

# tokenizer.ggml.pre -> how text is split before BPE.
PRE_TOKENIZERS: dict[str, Callable[[], Any]] = {
    "smollm": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _byte_level]),
    "gpt-2": lambda: _byte_level,
}


def tokenizer_of(fields: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer of a GGUF file.

    Args:
        fields: the file's metadata by key.

    Raises:
        BuildError: a kind of vocabulary that is not known to convert exactly, or one that is broken.
        KeyError: the file lacks a key.
    """
    kind, split = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or split not in PRE_TOKENIZERS:
        raise BuildError(
            f"the GGUF file's tokenizer ({kind}, {split}) is not one that converts exactly",
            fix="Use the model's Hugging Face checkpoint (source.kind: path)",
        )
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    kinds: list[int] = fields["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    try:
        backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    except Exception as error:  # tokenizers raises nothing narrower
        raise BuildError(f"the GGUF file's vocabulary and merges do not fit: {error}", fix="Fetch it again") from None
    backend.pre_tokenizer = PRE_TOKENIZERS[split]()
    backend.decoder = decoders.ByteLevel()
    for token, token_kind in zip(tokens, kinds, strict=True):
        if token_kind in (_CONTROL, _USER_DEFINED):
            special = token_kind == _CONTROL
            backend.add_tokens([AddedToken(token, special=special, normalized=False)])
    roles = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    named = {
        f"{role}_token": tokens[index]
        for role, key in roles.items()
        if (index := fields.get(f"tokenizer.ggml.{key}_token_id")) is not None
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **named)
    tokenizer.model_max_length = fields[f"{fields['general.architecture']}.context_length"]
    tokenizer.chat_template = fields.get("tokenizer.chat_template")
    return tokenizer
