"""What the bodies of all endpoints share: sampling, and the fields that are accepted because they change nothing."""

from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from contract.sampling import BOUNDS
from gateway.schema.decisions import HONOURED, Accepted, Honoured, Refused

T = TypeVar("T")
Many = Annotated[list[T], Field(fail_fast=True)]  # the faults of one element are told, not those of all

_MOST_FIELDS = 256
_MOST_TOKENS = 1024  # that a request may name one by one


class Body(BaseModel):
    """Base of every part of a body: unknown fields are refused, "5" is no 5, NaN is no number, null is "not given"."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > _MOST_FIELDS:
            raise ValueError(f"{len(given)} fields are more than there are")
        if isinstance(given, dict) and None in given.values():
            return {name: value for name, value in given.items() if value is not None}
        return given


def bounds(name: str) -> tuple[Ge | Gt, Le]:
    """The bounds that the contract gives a sampling parameter."""
    low, high, inclusive = BOUNDS[name]
    return (Ge(low) if inclusive else Gt(low)), Le(high)


AT_LEAST_ONE = (Ge(1), bounds("max_tokens")[1])  # of what an answer may have


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _few_biases(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > _MOST_TOKENS:
        raise ValueError(f"has {len(value)} tokens, the most are {_MOST_TOKENS}")
    return value


WHOLE = BeforeValidator(_whole)  # JSON has one kind of number: 1.0 is 1
Choice = Annotated[str, Field(min_length=1)]
TokenId = Annotated[int, Field(ge=0, lt=2**31), WHOLE]

_BLANKS = "blanks are the engine's choice; send a regex"
NO_BEAMS = "beam search is not supported; send n to choose among several answers"


class Common(Body):
    """What says nothing of the answer: who asks, and how it is to be handled."""

    model: Annotated[str, Honoured("a deployment's name; `ensemble` where there is one deployment")]
    stream: Annotated[bool | None, HONOURED] = None
    user: Annotated[str | None, Accepted("names the end user to the provider; nothing is kept here")] = None
    metadata: Annotated[dict[str, Any] | None, Accepted("tags of stored answers; none are stored")] = None
    store: Annotated[Any, Refused("answers are never stored here; leave it out", False)] = None
    service_tier: Annotated[Any, Refused("there is one tier; leave it out", "auto", "default")] = None
    safety_identifier: Annotated[str | None, Accepted("names the end user to the provider")] = None
    prompt_cache_key: Annotated[str | None, Accepted("names what belongs together, for one of several servers")] = None
    prompt_cache_retention: Annotated[str | None, Accepted("the prefix cache keeps what it has room for")] = None
    prompt_cache_options: Annotated[dict[str, Any] | None, Accepted("the prefix cache is always on")] = None


class Sampling(Common):
    """How to sample; the names are OpenAI's, then vLLM's."""

    temperature: Annotated[float | None, *bounds("temperature"), Honoured("1 where it is not given, as OpenAI's")] = (
        None
    )
    top_p: Annotated[float | None, *bounds("top_p"), HONOURED] = None
    top_k: Annotated[int | None, Ge(-1), Le(2**31 - 1), WHOLE, Honoured("-1 and 0: off")] = None
    ignore_eos: Annotated[bool | None, HONOURED] = None
    min_tokens: Annotated[int | None, *bounds("min_tokens"), WHOLE, HONOURED] = None
    repetition_penalty: Annotated[float | None, *bounds("repetition_penalty"), HONOURED] = None
    stop_token_ids: Annotated[Many[TokenId] | None, Field(max_length=_MOST_TOKENS), HONOURED] = None
    min_p: Annotated[float | None, *bounds("min_p"), HONOURED] = None
    skip_special_tokens: Annotated[bool | None, HONOURED] = None
    use_beam_search: Annotated[Any, Refused(NO_BEAMS, False)] = None
    length_penalty: Annotated[Any, Refused(NO_BEAMS, 1, 0)] = None
    typical_p: Annotated[Any, Refused("is not supported; use top_p", 1)] = None
    top_a: Annotated[Any, Refused("is not supported; use min_p", 0)] = None
    no_repeat_ngram_size: Annotated[Any, Refused("is not supported; use repetition_penalty", 0)] = None
    priority: Annotated[Any, Refused("requests are served in the order of their arrival", 0)] = None


class StreamOptions(Body):
    """What a stream carries beside the answer."""

    include_usage: Annotated[bool, HONOURED] = False
    continuous_usage_stats: Annotated[bool, Honoured("each chunk has the usage so far")] = False
    include_obfuscation: Annotated[Any, Refused("streams are not padded", False)] = None


class StructuredOutputs(Body):
    """vLLM's name for guided decoding; give one."""

    json_: Annotated[dict[str, Any] | str | None, HONOURED] = Field(None, alias="json")
    regex: Annotated[str | None, HONOURED] = None
    grammar: Annotated[str | None, Honoured("EBNF as GBNF has it")] = None
    json_object: Annotated[bool | None, HONOURED] = None
    choice: Annotated[Many[Choice] | None, Field(min_length=1), HONOURED] = None
    structural_tag: Annotated[str | None, Honoured("as xgrammar has it")] = None
    disable_fallback: Annotated[bool | None, Accepted("there is one compiler of guides, and no fallback")] = None
    disable_any_whitespace: Annotated[Any, Refused(_BLANKS, False)] = None
    disable_additional_properties: Annotated[Any, Refused("say additionalProperties in the schema", False)] = None
    whitespace_pattern: Annotated[Any, Refused(_BLANKS)] = None


class Choices(Sampling):
    """What chat and text completions have in common beyond that."""

    n: Annotated[int | None, Ge(1), Le(128), WHOLE, HONOURED] = None
    seed: Annotated[int | None, Ge(-(2**63)), Le(2**63 - 1), WHOLE, HONOURED] = None
    include_stop_str_in_output: Annotated[bool | None, HONOURED] = None
    bad_words: Annotated[Many[str] | None, Field(max_length=_MOST_TOKENS), HONOURED] = None
    stop: Annotated[str | Annotated[Many[str], Field(max_length=16)] | None, Honoured('`""` is none')] = None
    presence_penalty: Annotated[float | None, *bounds("presence_penalty"), HONOURED] = None
    frequency_penalty: Annotated[float | None, *bounds("frequency_penalty"), HONOURED] = None
    logit_bias: Annotated[
        Annotated[dict[str, Annotated[float, Ge(-100), Le(100)]], Field(max_length=_MOST_TOKENS)] | None,
        BeforeValidator(_few_biases),
        HONOURED,
    ] = None
    max_tokens: Annotated[int | None, *AT_LEAST_ONE, WHOLE, HONOURED] = None
    stream_options: Annotated[StreamOptions | None, Honoured("an answer that is not streamed has its usage")] = None
    guided_json: Annotated[dict[str, Any] | str | None, HONOURED] = None
    guided_regex: Annotated[str | None, HONOURED] = None
    guided_choice: Annotated[Many[Choice] | None, Field(min_length=1), HONOURED] = None
    guided_grammar: Annotated[str | None, Honoured("EBNF as GBNF has it")] = None
    regex: Annotated[str | None, Honoured("SGLang's name for guided_regex")] = None
    ebnf: Annotated[str | None, Honoured("SGLang's name for guided_grammar")] = None
    structured_outputs: Annotated[StructuredOutputs | None, HONOURED] = None
    best_of: Annotated[Any, Refused("is not supported; ask for n answers and choose among them", 1)] = None
    truncate_prompt_tokens: Annotated[Any, Refused("a prompt is never cut; shorten it", -1)] = None
    spaces_between_special_tokens: Annotated[Any, Refused("texts are decoded as the tokenizer does", True)] = None
    guided_decoding_backend: Annotated[str | None, Accepted("each engine has its own compiler of guides")] = None
    guided_whitespace_pattern: Annotated[Any, Refused(_BLANKS)] = None
    prompt_logprobs: Annotated[Any, Refused("ask /v1/completions, with echo beside logprobs")] = None
    return_token_ids: Annotated[Any, Refused("answers are text here; the ensemble has output_ids", False)] = None
    return_tokens_as_token_ids: Annotated[Any, Refused("tokens are told as text and bytes", False)] = None
    allowed_token_ids: Annotated[Any, Refused("is not supported; use logit_bias or a regex")] = None
    cache_salt: Annotated[Any, Refused("all keys share the prefix cache; give each its deployment")] = None
    request_id: Annotated[str | None, Accepted("the header X-Request-Id names a request")] = None
    rid: Annotated[Any, Accepted("the header X-Request-Id names a request")] = None
