"""What the bodies of all endpoints share: sampling, and the fields that are accepted because they change nothing."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, Field

from contract.sampling import BOUNDS


class Body(BaseModel):
    """Base of every part of a body: unknown fields are refused, "5" is no 5, NaN is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _bounds(name: str) -> tuple[Ge | Gt, Le]:
    """The bounds that the contract gives a sampling parameter."""
    low, high, inclusive = BOUNDS[name]
    return (Ge(low) if inclusive else Gt(low)), Le(high)


class Harmless(Body):
    """Accepted, and without effect on the answer; each with the reason why that is true."""

    user: str | None = Field(None, description="Names the end user to the provider; nothing is kept here.")
    metadata: dict[str, str] | None = Field(None, description="Tags for stored answers; none are stored.")
    store: Literal[False] | None = Field(None, description="Answers are never stored.")
    service_tier: Literal["auto", "default"] | None = Field(None, description="There is one tier.")
    safety_identifier: str | None = Field(None, description="Names the end user to the provider.")
    prompt_cache_key: str | None = Field(None, description="The prefix cache needs no key.")
    prompt_cache_retention: Literal["in_memory"] | None = Field(None, description="The prefix cache is in memory.")


def why_harmless(field: str) -> str:
    """Why only some values of a harmless field are accepted; '' for other fields."""
    known = Harmless.model_fields.get(field)
    return (known.description or "") if known else ""


class StreamOptions(Body):
    """What a stream carries beside the answer."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class StructuredOutputs(Body):
    """vLLM's name for guided decoding; give one."""

    json_: dict[str, Any] | str | None = Field(None, alias="json")
    regex: str | None = None
    grammar: str | None = None
    json_object: Literal[True] | None = None


Stop = Annotated[str, Field(min_length=1)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class Sampling(Harmless):
    """How to sample; the names are OpenAI's, then vLLM's."""

    model: str
    temperature: Annotated[float, *_bounds("temperature")] | None = None
    top_p: Annotated[float, *_bounds("top_p")] | None = None
    stream: bool | None = None
    top_k: Annotated[int, Ge(-1), Le(2**31 - 1)] | None = Field(None, description="-1 or 0: off.")
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, *_bounds("min_tokens")] | None = None
    repetition_penalty: Annotated[float, *_bounds("repetition_penalty")] | None = None
    stop_token_ids: list[TokenId] | None = None


class Choices(Sampling):
    """What chat and text completions have in common beyond that."""

    n: Annotated[int, Ge(1), Le(128)] | None = None
    seed: Annotated[int, Ge(-(2**63)), Le(2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    presence_penalty: Annotated[float, *_bounds("presence_penalty")] | None = None
    frequency_penalty: Annotated[float, *_bounds("frequency_penalty")] | None = None
    logit_bias: dict[str, Annotated[float, Ge(-100), Le(100)]] | None = None
    max_tokens: Annotated[int, *_bounds("max_tokens")] | None = None
    stream_options: StreamOptions | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    structured_outputs: StructuredOutputs | None = None
