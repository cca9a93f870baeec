"""A control token that a request's text names is text: only the template writes turn markers.

Whose a control token is can be seen in the rendered prompt alone, where a template may have trimmed, cased or escaped
what it was given. So each one named by the request is broken up by a random number before rendering: what is whole
afterwards is the template's own. Those are encoded under other names, which no text can guess, while the tokenizer
takes its control tokens for text; the prompt is still encoded at once, so every merge is as it would be anyway.
"""

import re
import secrets
from typing import Any

from tokenizers import AddedToken, Tokenizer

from python_backend.preprocess.chat import Arguments

_TURN_MARKER = re.compile(r"<[|｜].+[|｜]>")
# What splits an assistant's text in its own template, which looks for them there.
_OF_ASSISTANTS = ("<think>", "</think>", "[THINK]", "[/THINK]")
_DIGITS = 20


class ControlTokens:
    """The control tokens of one tokenizer: its special tokens, and added ones of a turn marker's form.

    A control token of one character cannot be broken up and stays what it is.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = {
            index: token
            for index, token in tokenizer.get_added_tokens_decoder().items()
            if len(token.content) > 1 and (token.special or _TURN_MARKER.fullmatch(token.content))
        }
        tokenizer.add_special_tokens([token.content for token in added.values() if not token.special])
        self._content = {index: token.content for index, token in added.items()}
        secret = _number()
        self._names = {token.content: f"{secret}{index:09}" for index, token in added.items()}
        # Under other names, and found where the token itself would be found.
        tokenizer.add_tokens(
            [
                AddedToken(
                    self._names[token.content],
                    single_word=token.single_word,
                    lstrip=token.lstrip,
                    rstrip=token.rstrip,
                    normalized=token.normalized,
                )
                for token in added.values()
            ]
        )
        self._meant = {tokenizer.token_to_id(self._names[token.content]): index for index, token in added.items()}
        self._any = _one_of(self._names)
        self._foreign_to_assistants = _one_of(set(self._names) - set(_OF_ASSISTANTS))
        normalized = any(token.normalized for token in added.values())
        self._normalizer = tokenizer.normalizer if normalized else None

    def broken_up(self, value: Any) -> tuple[Any, str]:
        """Messages, tools or variables in which no control token is whole.

        Returns:
            the value, and the number that breaks up its control tokens; '' where it has none.
        """
        breaker = _Breaker(_number(), self._normalizer)
        broken = breaker.broken(value, self._any, self._foreign_to_assistants)
        return (broken, breaker.mark) if breaker.found else (value, "")

    def encode(self, text: str, mark: str) -> list[int]:
        """The ids of a rendered prompt in which ``mark`` breaks up what is text."""
        named = self._any.sub(lambda found: self._names[found[0]], text).replace(mark, "")
        self._tokenizer.encode_special_tokens = True
        try:
            ids = self._tokenizer.encode(named, add_special_tokens=False).ids
        finally:
            self._tokenizer.encode_special_tokens = False
        return [piece for index in ids for piece in self._as_text(index)]

    def _as_text(self, index: int) -> list[int]:
        """What was meant by a token of a prompt whose control tokens have other names."""
        if index in self._content:  # a Unigram model has them among its pieces
            return self._spelt(self._content[index])
        return [self._meant.get(index, index)]

    def _spelt(self, text: str) -> list[int]:
        """A control token's name in tokens that are text."""
        ids = [token.id for part in (text[:1], text[1:]) for token in self._tokenizer.model.tokenize(part)]
        return [piece for index in ids for piece in self._as_text(index)]


class _Breaker:
    """Breaks up the control tokens in one request's values."""

    def __init__(self, mark: str, normalizer: Any) -> None:
        self.mark = mark
        self.found = False
        self._normalizer = normalizer

    def broken(self, value: Any, tokens: re.Pattern[str], of_assistants: re.Pattern[str]) -> Any:
        """The value with all that it holds."""

        def within(part: Any) -> Any:
            return self.broken(part, tokens, of_assistants)

        match value:
            case str():
                return self._text(value, tokens)
            case Arguments():
                return Arguments(within(str(value)), within(dict(value)))
            case dict():
                if value.get("role") == "assistant":
                    tokens = of_assistants
                return {within(name): within(item) for name, item in value.items()}
            case list() | tuple():
                return type(value)(within(item) for item in value)
            case _:
                return value

    def _text(self, text: str, tokens: re.Pattern[str]) -> str:
        if self._normalizer and tokens.search(self._normalizer.normalize_str(text)):
            self.found = True
        while tokens.search(text):
            self.found = True
            text = tokens.sub(lambda token: token[0][0] + self.mark + token[0][1:], text)
        return text


def _number() -> str:
    """A number that no text has; digits are what templates change least."""
    return f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}}"


def _one_of(texts: Any) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)) or r"(?!)")
