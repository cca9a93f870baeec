"""Sampling parameters of one request: their defaults, their bounds, and which engine features they need."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from contract.errors import InvalidRequest, UnsupportedByEngine

GUIDE_TYPES = ("json", "json_schema", "regex", "ebnf_grammar", "structural_tag")
GUIDES = frozenset(f"guided_decoding_guide_type:{kind}" for kind in GUIDE_TYPES)


class SamplingParams(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a request asks of the engine. Names are the ensemble's tensor names.

    ``None`` means "not given". Sampling is greedy unless ``temperature``, ``top_p`` or ``top_k`` asks
    otherwise, as in TensorRT-LLM.
    """

    max_tokens: int | None = None  # None: what the context leaves
    min_tokens: int = 0
    temperature: float | None = None
    top_k: int = 0  # 0: off
    top_p: float = 1.0
    min_p: float = 0.0  # 0: off
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    ignore_eos: bool = False
    end_id: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    logit_bias: dict[int, float] = {}
    beam_width: int = 1
    return_log_probs: bool = False
    logprobs: int = 0  # how many alternatives a token
    prompt_logprobs: int | None = None  # the same of the prompt's tokens; None: those are not scored
    guided_decoding_guide_type: str = ""
    guided_decoding_guide: str = ""
    lora_name: str = ""
    resumed_ids: tuple[int, ...] = ()  # what the answer has already, of a server that is gone

    @property
    def ends(self) -> tuple[int, ...]:
        """The end-of-sequence tokens that the request names."""
        return self.stop_token_ids if self.end_id is None else (self.end_id, *self.stop_token_ids)

    @property
    def greedy(self) -> bool:
        """True when the most likely token is always taken."""
        if self.temperature == 0 or self.top_k == 1:
            return True
        return self.temperature is None and self.top_k == 0 and self.top_p == 1.0

    @property
    def told_by_the_prompt(self) -> bool:
        """True when the whole answer is the likeliest token after a prompt that is scored anyway."""
        plain = self.repetition_penalty == 1.0 and not (self.min_tokens or self.bad_words or self.logit_bias)
        unguided = not (self.guided_decoding_guide_type or self.lora_name)
        return self.prompt_logprobs is not None and self.max_tokens == 1 and self.greedy and plain and unguided


# field -> (lowest, highest, whether the lowest itself is allowed)
BOUNDS: dict[str, tuple[float, float, bool]] = {
    "max_tokens": (0, 2**31 - 1, True),
    "min_tokens": (0, 2**31 - 1, True),
    "temperature": (0, 2, True),
    "top_k": (0, 2**31 - 1, True),
    "top_p": (0, 1, False),
    "min_p": (0, 1, True),
    "repetition_penalty": (0, 2, False),
    "presence_penalty": (-2, 2, True),
    "frequency_penalty": (-2, 2, True),
    "seed": (0, 2**64 - 1, True),
    "end_id": (0, 2**31 - 1, True),
    "beam_width": (1, 64, True),
    "logprobs": (0, 20, True),
    "prompt_logprobs": (0, 20, True),
}


def check_bounds(params: SamplingParams) -> None:
    """Refuse values that no engine could accept.

    Raises:
        InvalidRequest: naming the field, its bounds and the value given.
    """
    for field, (low, high, inclusive) in BOUNDS.items():
        value = getattr(params, field)
        if value is None:
            continue
        # A NaN fails both comparisons, so the test is written to accept and not to reject.
        if not ((low <= value if inclusive else low < value) and value <= high):
            opening = "[" if inclusive else "("
            raise InvalidRequest(f"must be in {opening}{low}, {high}], got {value}", field=field)
    if params.max_tokens is not None and params.min_tokens > params.max_tokens:
        raise InvalidRequest(
            f"must not exceed max_tokens ({params.max_tokens}), got {params.min_tokens}", field="min_tokens"
        )
    for token in params.stop_token_ids:
        if token < 0:
            raise InvalidRequest(f"must hold token ids of 0 or more, got {token}", field="stop_token_ids")
    for token, bias in params.logit_bias.items():
        if token < 0 or not -100 <= bias <= 100:
            raise InvalidRequest(
                f"must hold token ids of 0 or more with biases in [-100, 100], got {token}: {bias}", field="logit_bias"
            )
    guide_type = params.guided_decoding_guide_type
    if guide_type and guide_type not in GUIDE_TYPES:
        raise InvalidRequest(
            f"must be one of {', '.join(GUIDE_TYPES)}, got {guide_type!r}", field="guided_decoding_guide_type"
        )
    if guide_type and guide_type != "json" and not params.guided_decoding_guide:
        raise InvalidRequest(f"is needed with guide type {guide_type!r}", field="guided_decoding_guide")
    if params.guided_decoding_guide and not guide_type:
        raise InvalidRequest("is needed with guided_decoding_guide", field="guided_decoding_guide_type")


def without_answer(params: SamplingParams) -> SamplingParams:
    """What of a request concerns its prompt, for an engine, which cannot but generate one token."""
    return SamplingParams(max_tokens=1, prompt_logprobs=params.prompt_logprobs, lora_name=params.lora_name)


# What depends on how an answer began, of which an engine that goes on with it knows no more than of a prompt.
_OF_THE_WHOLE_ANSWER = (
    *("repetition_penalty", "presence_penalty", "frequency_penalty", "bad_words", "beam_width"),
    *("guided_decoding_guide_type", "prompt_logprobs"),
)


def bar_to_resuming(given: Mapping[str, Any]) -> str:
    """Which of these parameters keeps an answer from going on at another server; '' where none does."""
    defaults = SamplingParams()
    stands = (name for name in _OF_THE_WHOLE_ANSWER if given.get(name, (d := getattr(defaults, name))) != d)
    return next(stands, "")


def resumed(params: SamplingParams) -> SamplingParams:
    """What is left to ask an engine for, where the answer has its first tokens already.

    Raises:
        InvalidRequest: it has too many, or cannot go on.
    """
    done = len(params.resumed_ids)
    if not done or params.max_tokens is None:
        return params
    if bar := bar_to_resuming(msgspec.structs.asdict(params)):
        raise InvalidRequest(f"cannot go on with an answer that has {bar}", field="resumed_ids")
    if done > params.max_tokens:
        raise InvalidRequest(f"has {done} tokens, of at most {params.max_tokens} (max_tokens)", field="resumed_ids")
    left = {"max_tokens": params.max_tokens - done, "min_tokens": max(0, params.min_tokens - done)}
    return msgspec.structs.replace(params, **left)


# What every engine does: it is no feature.
_EVERY_ENGINE = ("max_tokens", "guided_decoding_guide", "end_id")


def feature_names() -> Iterator[str]:
    """Every feature that a request can ask for, in the order of the fields."""
    for field in SamplingParams.__struct_fields__:
        if field == "guided_decoding_guide_type":
            yield from (f"{field}:{kind}" for kind in GUIDE_TYPES)
        elif field not in _EVERY_ENGINE:
            yield field


def features(params: SamplingParams) -> Iterator[tuple[str, str]]:
    """Pairs (field, feature) of what a request asks for beyond greedy decoding.

    An engine declares the features it has; a feature is the field's name, or ``field:value`` for guides. Whoever scores
    a prompt knows the log probabilities of the token after it, too.
    """
    defaults = SamplingParams()
    scored = ("return_log_probs", "logprobs") if params.told_by_the_prompt else ()
    for field in params.__struct_fields__:
        if field in _EVERY_ENGINE or field in scored or getattr(params, field) == getattr(defaults, field):
            continue
        if field == "guided_decoding_guide_type":
            yield field, f"{field}:{params.guided_decoding_guide_type}"
        else:
            yield field, field


def check_supported(params: SamplingParams, supported: frozenset[str], engine: str) -> None:
    """Refuse what this engine cannot do, by name.

    Raises:
        UnsupportedByEngine: naming the field and the engine.
    """
    for field, feature in features(params):
        if feature not in supported:
            wanted = feature.partition(":")[2]
            raise UnsupportedByEngine(
                f"{wanted + ' ' if wanted else ''}is not supported by the {engine} engine",
                field=field,
                fix="Leave it out, or use a deployment whose engine has it",
            )
