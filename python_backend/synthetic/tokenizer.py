"""A tokenizer made in memory for the synthetic engine: one token a byte, and an end-of-sequence token."""

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from python_backend.postprocess.token_bytes import byte_alphabet

EOS_TOKEN = "<eos>"  # noqa: S105
EOS_ID = 256


class SyntheticTokenizer:
    """As much of transformers' tokenizer as a prompt needs: to import the real one takes each stage two seconds."""

    chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"

    def __init__(self) -> None:
        self.backend_tokenizer = synthetic_backend()

    def get_chat_template(self, tools: object = None) -> str:
        """Of transformers."""
        return self.chat_template

    def apply_chat_template(
        self, messages: list[dict[str, Any]], *, continue_final_message: bool = False, **_: object
    ) -> str:
        """What the template says of a conversation."""
        text = "".join(f"{each['role']}: {each.get('content', '')}\n" for each in messages)
        return text.removesuffix("\n") if continue_final_message else text


def synthetic_backend() -> Tokenizer:
    """Token ids 0 to 255 are bytes; 256 is the special <eos>."""
    alphabet = byte_alphabet()
    tokenizer = Tokenizer(models.BPE(vocab={character: byte for byte, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(EOS_TOKEN, special=True)])
    return tokenizer
