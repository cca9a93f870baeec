"""A tokenizer made in memory for the synthetic engine: one token a byte, and an end-of-sequence token."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from python_backend.postprocess.token_bytes import byte_alphabet

EOS_TOKEN = "<eos>"  # noqa: S105
EOS_ID = 256

CHAT_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def synthetic_backend() -> Tokenizer:
    """Token ids 0 to 255 are bytes; 256 is the special <eos>."""
    alphabet = byte_alphabet()
    tokenizer = Tokenizer(models.BPE(vocab={character: byte for byte, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(EOS_TOKEN, special=True)])
    return tokenizer
