"""Incremental detokenization: the deltas of a stream, joined, are the one-shot decode of all its ids.

Decoding each token alone is wrong in every tokenizer family: a character may span tokens, a leading
space may depend on the token before, and a run of byte tokens is valid or not as a whole. So a window
of the last ids is decoded together with the ids before it, and only text that no later token can
change is given out:

- byte-level BPE (GPT-2, Llama 3, Qwen: tiktoken-style too): an incomplete UTF-8 sequence decodes to
  one U+FFFD at the end, so that character waits;
- SentencePiece with byte fallback: the decoder makes a whole run of byte tokens valid or makes every
  byte of it U+FFFD, so the run waits for its first ordinary token.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from tokenizers import Tokenizer

_REPLACEMENT = "\ufffd"
_LONGEST = 64  # ids of a window; of these
_TAIL = 8  # the last hold a character's beginning: four bytes at most, a byte a token
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Vocabulary:
    """What the detokenizer must know of a tokenizer, read once."""

    tokenizer: Tokenizer
    silent: frozenset[int]  # special tokens: no text
    ends: frozenset[int]  # end of sequence: no text, even where special tokens are shown
    byte_tokens: frozenset[int]  # of a byte-fallback decoder
    size: int  # ids from here on have no token

    @classmethod
    def of(cls, tokenizer: Tokenizer, ends: Iterable[int] = ()) -> "Vocabulary":
        """Read a tokenizer; ``ends`` are the model's end-of-sequence tokens."""
        added = tokenizer.get_added_tokens_decoder()
        decoder = json.loads(tokenizer.to_str())["decoder"] or {}
        byte_tokens: frozenset[int] = frozenset()
        if "ByteFallback" in json.dumps(decoder):
            vocab = tokenizer.get_vocab(with_added_tokens=True)
            byte_tokens = frozenset(index for token, index in vocab.items() if _BYTE_TOKEN.fullmatch(token))
        return cls(
            tokenizer=tokenizer,
            silent=frozenset(index for index, token in added.items() if token.special),
            ends=frozenset(ends),
            byte_tokens=byte_tokens,
            size=max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1,
        )

    def decode(self, ids: list[int]) -> str:
        """One-shot decode."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))


@dataclass(slots=True)
class Detokenizer:
    """The text of one stream. Memory and time per token do not grow with the stream."""

    vocabulary: Vocabulary
    skip_special_tokens: bool = True
    _window: list[int] = field(default_factory=list)  # context, then ids whose text is not all out
    _context: int = 0  # how many ids of the window are context: their text is out
    _sent: int = 0  # characters of the window's text that are out, the context's included

    def push(self, ids: list[int]) -> str:
        """The text that these ids settle; may be ''."""
        vocabulary = self.vocabulary
        window = self._window
        silent = vocabulary.silent if self.skip_special_tokens else vocabulary.ends
        window.extend(i for i in ids if i < vocabulary.size and i not in silent)
        if len(window) == self._context or window[-1] in vocabulary.byte_tokens:
            return ""
        text = vocabulary.decode(window)
        whole = not text.endswith(_REPLACEMENT)
        settled = len(text) if whole else len(text) - 1
        delta = text[self._sent : settled]
        self._sent = max(self._sent, settled)
        if whole and text:
            self._slide()
        elif len(window) > _LONGEST:
            self._cut()
        return delta

    def flush(self) -> str:
        """The text still held, at the end of the stream."""
        return self.vocabulary.decode(self._window)[self._sent :] if self._window else ""

    def _cut(self) -> None:
        """Forget what cannot belong to the character that waits: bytes of no character may come for ever."""
        self._window = self._window[-_TAIL:]
        self._sent = len(self.vocabulary.decode(self._window)) - 1
        self._context = 0

    def _slide(self) -> None:
        """Forget all of the window but the ids that the next ones need before them."""
        fresh = self._window[self._context :]
        context = self.vocabulary.decode(fresh)
        # Ids without text (a stripped leading space) are no context: the next id would be stripped too.
        if context:
            self._window = fresh
            self._sent = len(context)
        self._context = len(self._window)
