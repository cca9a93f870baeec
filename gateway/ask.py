"""What a body asks of the ensemble: input tensors, and the body's own name for each."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clients.request import Inputs
from gateway.errors import refuse
from gateway.prefix import Affinity
from gateway.schema.common import Choices, Sampling, StructuredOutputs
from gateway.tracing.trace import Spoken

TIMEOUT_HEADER = "X-Request-Timeout"
OUTPUTS = ("text_output", "finish_reason", "num_input_tokens", "num_output_tokens", "num_cached_tokens")


@dataclass(frozen=True)
class Ask:
    """One answer to be generated."""

    inputs: Inputs
    names: Mapping[str, str]  # tensor → the body's field
    outputs: tuple[str, ...]  # the tensors wanted back
    prompt_bytes: int
    prompt_tokens: int | None = None  # where the client counted them itself
    context_may_end: bool = False  # max_tokens is a bound: an answer that the context ends is one too
    affinity: Affinity = field(default_factory=Affinity)
    client: str = ""  # what its id begins with: whose it is, for engines to let clients take turns
    trace: Spoken | None = None  # of the answer, where the request is traced


@dataclass(frozen=True)
class Guide:
    """What the answer's text must be."""

    type: str  # one of contract.sampling.GUIDE_TYPES
    text: str
    field: str  # the body's field that asks for it


def sampling_inputs(body: Sampling) -> tuple[Inputs, dict[str, str]]:
    """The tensors of the sampling fields, and the field of each; what the body does not give is left out.

    OpenAI's default temperature is 1, where the ensemble's own default is greedy.
    """
    given: dict[str, tuple[str, Any]] = {
        "temperature": ("temperature", 1.0 if body.temperature is None else body.temperature),
        "top_p": ("top_p", body.top_p),
        "top_k": ("top_k", None if body.top_k is None else max(0, body.top_k)),
        "repetition_penalty": ("repetition_penalty", body.repetition_penalty),
        "min_tokens": ("min_tokens", body.min_tokens),
        "ignore_eos": ("ignore_eos", body.ignore_eos),
        "stop_token_ids": ("stop_token_ids", body.stop_token_ids or None),
        "min_p": ("min_p", body.min_p or None),
        "skip_special_tokens": ("skip_special_tokens", body.skip_special_tokens),
    }
    if isinstance(body, Choices):
        given |= {
            "seed": ("seed", None if body.seed is None else body.seed % 2**64),
            "stop_words": ("stop", [each for each in _listed(body.stop) if each] or None),
            "include_stop_str_in_output": ("include_stop_str_in_output", body.include_stop_str_in_output),
            "bad_words": ("bad_words", [each for each in body.bad_words or () if each] or None),
            "presence_penalty": ("presence_penalty", body.presence_penalty),
            "frequency_penalty": ("frequency_penalty", body.frequency_penalty),
            "logit_bias": ("logit_bias", json.dumps(body.logit_bias) if body.logit_bias else None),
            "max_tokens": ("max_tokens", body.max_tokens),
        }
    inputs = {tensor: value for tensor, (_, value) in given.items() if value is not None}
    return inputs, {"timeout_ms": TIMEOUT_HEADER} | {tensor: name for tensor, (name, _) in given.items()}


def check_answers(body: Choices, prompts: int, most: int) -> None:
    """Refuse more answers than there is ever room for, before one is asked for.

    Raises:
        Refused: there are.
    """
    n = body.n or 1
    if prompts * n > most:
        message = f"asks for {prompts * n} answers at once; the limit is {most}"
        raise refuse(message, param="n" if n > 1 else "prompt")


def guides_of(body: Choices) -> list[Guide]:
    """What vLLM's and SGLang's fields for guided decoding ask for."""
    guides = []
    if body.guided_json is not None:
        guides.append(Guide("json_schema", _schema(body.guided_json), "guided_json"))
    if body.guided_choice is not None:
        guides.append(Guide("regex", _one_of(body.guided_choice), "guided_choice"))
    texts = {
        "guided_regex": ("regex", body.guided_regex),
        "regex": ("regex", body.regex),
        "guided_grammar": ("ebnf_grammar", body.guided_grammar),
        "ebnf": ("ebnf_grammar", body.ebnf),
    }
    guides += [Guide(kind, text, name) for name, (kind, text) in texts.items() if text is not None]
    return guides + (_structured(body.structured_outputs) if body.structured_outputs else [])


def put_guide(inputs: Inputs, names: dict[str, str], guides: list[Guide]) -> None:
    """Add the one guide that a request may have; it may say it twice.

    Raises:
        Refused: it has two.
    """
    for other in guides[1:]:
        if (other.type, other.text) != (guides[0].type, guides[0].text):
            raise refuse(f"contradicts {guides[0].field}: give one of them", param=other.field)
    for guide in guides[:1]:
        if not guide.text and guide.type != "json":
            raise refuse("is empty", param=guide.field)
        inputs["guided_decoding_guide_type"] = guide.type
        if guide.text:
            inputs["guided_decoding_guide"] = guide.text
        names["guided_decoding_guide_type"] = names["guided_decoding_guide"] = guide.field


def counts_on_the_way(body: Choices) -> bool:
    """Whether the tokens are wanted before the last response, which has their number."""
    return body.stream_options is not None and body.stream_options.continuous_usage_stats


def with_seed(inputs: Inputs, number: int) -> Inputs:
    """The inputs of the ``number``-th answer to one request: the same seed would give the same answer."""
    if number and "seed" in inputs:
        return {**inputs, "seed": (inputs["seed"] + number) % 2**64}
    return inputs


def _structured(wanted: StructuredOutputs) -> list[Guide]:
    found = []
    if wanted.json_ is not None:
        found.append(Guide("json_schema", _schema(wanted.json_), "structured_outputs.json"))
    if wanted.regex is not None:
        found.append(Guide("regex", wanted.regex, "structured_outputs.regex"))
    if wanted.grammar is not None:
        found.append(Guide("ebnf_grammar", wanted.grammar, "structured_outputs.grammar"))
    if wanted.choice is not None:
        found.append(Guide("regex", _one_of(wanted.choice), "structured_outputs.choice"))
    if wanted.structural_tag is not None:
        found.append(Guide("structural_tag", wanted.structural_tag, "structured_outputs.structural_tag"))
    if wanted.json_object:
        found.append(Guide("json", "", "structured_outputs.json_object"))
    return found


def _one_of(texts: list[str]) -> str:
    """An expression that these texts match, and nothing else."""
    return f"({'|'.join(_META.sub(_escaped, text) for text in texts)})"


# What an expression reads as something else; blanks that are no space are written as they are read best.
_META = re.compile(r"[\\^$.|?*+()\[\]{}/\n\r\t-]")
_BLANKS = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def _escaped(found: re.Match[str]) -> str:
    return _BLANKS.get(found[0], f"\\{found[0]}")


def _listed(given: str | list[str] | None) -> list[str]:
    return [given] if isinstance(given, str) else given or []


def _schema(schema: dict[str, Any] | str) -> str:
    return schema if isinstance(schema, str) else json.dumps(schema)
