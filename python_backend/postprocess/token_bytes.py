"""The bytes that one token stands for, which is what log probabilities are reported with.

A token is often no text of its own: a character may span tokens. So these are bytes, read off the
vocabulary in the way of its family; joined over an answer they are the answer's UTF-8.
"""

import json
import re
from collections.abc import Callable

from tokenizers import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


def byte_alphabet() -> list[str]:
    """The character that stands for each byte in byte-level BPE (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    stand_ins = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(stand_ins)) for byte in range(256)]


def token_bytes(tokenizer: Tokenizer) -> Callable[[int], bytes]:
    """A function from a token id to its bytes; ids without a token have none."""
    added: dict[int, str] = {index: token.content for index, token in tokenizer.get_added_tokens_decoder().items()}
    decoder = json.dumps(json.loads(tokenizer.to_str())["decoder"] or {})
    byte_level = {character: byte for byte, character in enumerate(byte_alphabet())} if "ByteLevel" in decoder else {}

    def bytes_of(token_id: int) -> bytes:
        if token_id in added:
            return added[token_id].encode()
        token: str = tokenizer.id_to_token(token_id) or ""
        if byte_level:
            return b"".join(
                bytes([byte_level[character]]) if character in byte_level else character.encode() for character in token
            )
        byte = _BYTE_TOKEN.fullmatch(token)
        return bytes.fromhex(byte[1]) if byte else token.replace("▁", " ").encode()

    return bytes_of
