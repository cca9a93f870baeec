"""Prompt → token ids, by the model's own tokenizer and chat template. Nothing is ever truncated."""

import inspect
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from contract.errors import ContextTooLong, InvalidRequest, UnsupportedByEngine
from contract.sampling import SamplingParams
from contract.sections import Limits
from contract.wire import EngineRequest, Tokenized
from python_backend.preprocess.chat import for_template
from python_backend.preprocess.control_tokens import ControlTokens
from python_backend.preprocess.inputs import Prompt
from python_backend.synthetic.tokenizer import SyntheticTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Of what is only to be tokenized: other prompts wait for it, half a second.
_MOST_BYTES = 2**20
_MOST_IDS = 2**18


class PromptTokenizer:
    """The tokenizer of one deployment, with the limits it checks."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerFast | SyntheticTokenizer", limits: Limits, *, text_stays_text: bool = True
    ) -> None:
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._limits = limits
        # The words by which clients know an overflow: OpenAI's, which litellm and others look for.
        self._context = f"This model's maximum context length is {limits.max_seq_len} tokens"
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values()) + 1
        self._longest_token = max(len(token.encode()) for token in vocabulary)
        self._control_tokens = ControlTokens(self._backend) if text_stays_text else None

    @classmethod
    def load(cls, engine: Path, limits: Limits, *, text_stays_text: bool = True) -> "PromptTokenizer":
        """The tokenizer that lies beside an engine.

        Args:
            text_stays_text: a control token that a message names is text; false: it is that control token.
        """
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(engine, local_files_only=True)
        return cls(tokenizer, limits, text_stays_text=text_stays_text)

    @classmethod
    def synthetic(cls, limits: Limits) -> "PromptTokenizer":
        """The synthetic engine's tokenizer."""
        return cls(SyntheticTokenizer(), limits)

    def encode(self, prompt: Prompt) -> list[int]:
        """The prompt's token ids.

        Raises:
            InvalidRequest, ContextTooLong, UnsupportedByEngine: naming the tensor and the numbers.
        """
        if prompt.input_ids is not None:
            self._check_ids(prompt.input_ids, "input_ids")
            return self._fitting(prompt.input_ids, "input_ids")
        text, mark, field = self._text(prompt)
        self._refuse_hopeless(text.replace(mark, "") if mark else text, field)
        return self._fitting(self._encode(text, mark, add_special_tokens=field == "text_input"), field)

    def tokenized(self, prompt: Prompt, *, add_special_tokens: bool) -> EngineRequest:
        """The prompt's ids, and what they are, more than the context has too: nothing is to be generated.

        Args:
            add_special_tokens: a text has those of the model; a chat has its template's anyway.

        Raises:
            InvalidRequest, UnsupportedByEngine: naming the tensor.
        """
        ids = prompt.input_ids
        if ids is None:
            text, mark, field = self._text(prompt)
            _check_size(_check_text(text, field), _MOST_BYTES, "bytes", field)
            ids = self._encode(text, mark, add_special_tokens=add_special_tokens and field == "text_input")
        else:
            _check_size(len(ids), _MOST_IDS, "tokens", "input_ids")
            self._check_ids(ids, "input_ids")
        tokens = [self._backend.id_to_token(index) or "" for index in ids]
        told = Tokenized(self._backend.decode(ids, skip_special_tokens=False), tokens)
        return EngineRequest(ids, prompt.sampling, tokenized=told)

    def _text(self, prompt: Prompt) -> tuple[str, str, str]:
        """The prompt as text, the mark that breaks up what in it is no control token, and the tensor it came in."""
        return (prompt.text or "", "", "text_input") if prompt.messages is None else (*self._render(prompt), "messages")

    def _encode(self, text: str, mark: str, *, add_special_tokens: bool) -> list[int]:
        if mark and self._control_tokens:
            return self._control_tokens.encode(text, mark)
        return list(self._backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def answer_room(self, prompt: Prompt, prompt_tokens: int) -> int:
        """max_tokens of this request: as asked, else what the context leaves.

        Raises:
            ContextTooLong: prompt and max_tokens together exceed the context.
        """
        left = self._limits.max_seq_len - prompt_tokens
        wanted = prompt.sampling.max_tokens
        if wanted is None:
            wanted = left
        if wanted > left:
            raise ContextTooLong(
                f"{self._context}; the {wanted} after a prompt of {prompt_tokens} exceed it",
                field="max_tokens",
                fix=f"Ask for at most {left}",
            )
        if prompt.sampling.min_tokens > wanted:
            raise InvalidRequest(
                f"must not exceed the {wanted} tokens that the context leaves, got {prompt.sampling.min_tokens}",
                field="min_tokens",
            )
        self._check_ids(list(prompt.sampling.stop_token_ids), "stop_token_ids")
        self._check_ids(list(prompt.sampling.logit_bias), "logit_bias")
        self._check_ids(list(prompt.sampling.resumed_ids), "resumed_ids")
        return wanted

    def with_a_real_end(self, sampling: SamplingParams) -> SamplingParams:
        """NVIDIA's clients say "never end" with an end_id that no token has; an engine gets it as ignore_eos.

        Where no token ends the answer, min_tokens asks for nothing.
        """
        if sampling.end_id is not None and sampling.end_id >= self.vocab_size:
            sampling = msgspec.structs.replace(sampling, end_id=None, ignore_eos=True)
        if sampling.ignore_eos and not sampling.ends:
            sampling = msgspec.structs.replace(sampling, min_tokens=0)
        return sampling

    def with_words(self, prompt: Prompt, sampling: SamplingParams) -> tuple[SamplingParams, tuple[str, ...]]:
        """The sampling and the stop strings, with NVIDIA's lists of words: those that are ids become text, and back.

        Raises:
            InvalidRequest: a list has an id that no token has, or the weights of a token's words add up to too much.
        """
        biases = dict(sampling.logit_bias)
        for word, weight in prompt.biased_words:
            for token in self._backend.encode(word, add_special_tokens=False).ids:
                biases[token] = biases.get(token, 0.0) + weight
        if not all(-100 <= bias <= 100 for bias in biases.values()):
            raise InvalidRequest("must add up to a bias in [-100, 100] for each token", field="embedding_bias_weights")
        ends = tuple(ids[0] for ids in prompt.stop_ids if len(ids) == 1)
        stops = self._texts([ids for ids in prompt.stop_ids if len(ids) > 1], "stop_words_list")
        self._check_ids(list(ends), "stop_words_list")
        sampling = msgspec.structs.replace(
            sampling,
            logit_bias=biases,
            stop_token_ids=(*sampling.stop_token_ids, *ends),
            bad_words=(*sampling.bad_words, *self._texts(prompt.bad_ids, "bad_words_list")),
        )
        return sampling, (*prompt.stop, *stops)

    def _texts(self, lists: Collection[Sequence[int]], field: str) -> tuple[str, ...]:
        for ids in lists:
            self._check_ids(list(ids), field)
        return tuple(self._backend.decode(list(ids), skip_special_tokens=False) for ids in lists)

    def _render(self, prompt: Prompt) -> tuple[str, str]:
        """The template's text, and the mark that breaks up the control tokens that it did not write; '' for none."""
        if not self._tokenizer.chat_template:
            raise UnsupportedByEngine("this model has no chat template", field="messages", fix="Send text_input")
        for name in prompt.template_kwargs:
            if name in _reserved():
                raise InvalidRequest(f"{name} is not for a request to set", field="chat_template_kwargs")
        variables: dict[str, Any] = {"add_generation_prompt": True, **prompt.template_kwargs}
        template = self._tokenizer.get_chat_template(tools=prompt.tools or None)
        messages, tools = for_template(template, prompt.messages or [], prompt.tools)
        mark = ""
        if self._control_tokens:
            (messages, tools, variables), mark = self._control_tokens.broken_up((messages, tools, variables))
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tools=tools, chat_template=template, tokenize=False, **variables
            )
        except Exception as error:  # a template is a program, and what makes it fail is the client's data
            said = str(error).replace(mark, "") if mark else error
            raise InvalidRequest(f"the model's chat template refused it: {said}", field="messages") from None
        return str(text), mark

    def _refuse_hopeless(self, text: str, field: str) -> None:
        """Refuse a text that cannot fit however well it tokenizes, before spending a second on it."""
        least = _check_text(text, field) // self._longest_token
        if least > self._limits.max_input_len:
            raise ContextTooLong(
                f"{self._context}, {self._limits.max_input_len} of them for the prompt, which has {len(text)} "
                f"characters: at least {least} tokens",
                field=field,
                fix="Shorten it",
            )

    def _fitting(self, ids: list[int], field: str) -> list[int]:
        if not ids:
            raise InvalidRequest("has no tokens", field=field)
        if len(ids) > self._limits.max_input_len:
            raise ContextTooLong(
                f"{self._context}, {self._limits.max_input_len} of them for the prompt, which has {len(ids)}",
                field=field,
                fix=f"Shorten it by {len(ids) - self._limits.max_input_len}",
            )
        return ids

    def _check_ids(self, ids: list[int], field: str) -> None:
        for token in ids:
            if not 0 <= token < self.vocab_size:
                raise InvalidRequest(f"must hold token ids below {self.vocab_size}, got {token}", field=field)


@cache
def _reserved() -> set[str]:
    """A client may set a template's variables, but neither replace the template nor change what comes of it."""
    from transformers import PreTrainedTokenizerBase

    told = {"messages", *inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters}
    return told - {"add_generation_prompt", "continue_final_message", "documents"}


def _check_text(text: str, field: str) -> int:
    """Its size in bytes.

    Raises:
        InvalidRequest: JSON can escape what UTF-8 cannot say.
    """
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"has half a surrogate pair: {error.object[error.start]!a}", field=field) from None


def _check_size(size: int, most: int, unit: str, field: str) -> None:
    if size > most:
        raise InvalidRequest(f"has {size} {unit}, of at most {most}", field=field, fix="Send it in parts")
