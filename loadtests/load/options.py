"""The options of a load test, each named once: a field of the plan is an option of our own commands and of Locust's."""

import argparse
import dataclasses
import json
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, model_validator

from contract.frozen import Frozen
from loadtests.load.fault import LoadError
from loadtests.load.lengths import Lengths, lengths
from loadtests.load.schedule import Arrival, schedule
from loadtests.load.slo import Objective, objectives
from loadtests.load.streams.target import Stream, Target
from loadtests.load.streams.triton import check_extra
from loadtests.load.workload import QUESTIONS, Workload, read_prompts

Transport = Literal["openai", "openai-text", "triton-http", "triton-grpc"]
TRANSPORTS: tuple[str, ...] = get_args(Transport)
SLO = "ttft<500ms,tpot<60ms"


def flag(name: str | None) -> str:
    """The option of a field."""
    return f"--{(name or '').replace('_', '-')}"


def _must(holds: Callable[[float], bool], said: str) -> AfterValidator:
    def checked(value: float, info: ValidationInfo) -> float:
        if not holds(value):
            raise LoadError(f"{flag(info.field_name)}: must {said}, got {value:g}")
        return value

    return AfterValidator(checked)


def _lengths(text: str, info: ValidationInfo) -> Lengths:
    return lengths(text, flag(info.field_name))


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise LoadError(f"--extra: {text!r} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise LoadError(f"--extra: must be a JSON object, got {text}")
    return value


def _file(text: str, info: ValidationInfo) -> Path | None:
    if text and not Path(text).is_file():
        raise LoadError(f"{flag(info.field_name)}: no file {text}")
    return Path(text) if text else None


def _gates(text: str) -> frozenset[str]:
    named = frozenset(_words(text))
    if unknown := named - {"slo", "regression"}:
        raise LoadError(f"--fail-on: {sorted(unknown)[0]!r} is neither slo nor regression")
    return named


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _option(default: object, about: str) -> Any:
    """A field by its default as it is typed, and its help."""
    return Field(default, description=about)


_Above0 = Annotated[float, _must(lambda value: value > 0, "be above 0")]
_NotBelow0 = Annotated[float, _must(lambda value: value >= 0, "not be below 0")]
_Share = Annotated[float, _must(lambda value: 0 <= value <= 1, "be from 0 to 1")]
_Percentile = Annotated[float, _must(lambda value: 0 < value <= 100, "be above 0 and at most 100")]
_Count = Annotated[int, _must(lambda value: value >= 0, "not be below 0")]
_Turns = Annotated[int, _must(lambda value: value >= 1, "be 1 or more")]
_File = Annotated[Path | None, BeforeValidator(_file)]
_Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
_Gates = Annotated[frozenset[str], BeforeValidator(_gates)]
_Object = Annotated[dict[str, Any], BeforeValidator(_object)]
_Lengths = Annotated[Lengths, BeforeValidator(_lengths)]
_LengthsIfAny = Annotated[Lengths | None, BeforeValidator(lambda text, info: _lengths(text, info) if text else None)]
_Prompts = Annotated[tuple[str, ...], BeforeValidator(lambda text: read_prompts(Path(text)))]
_Objectives = Annotated[tuple[Objective, ...], BeforeValidator(objectives)]


class _Loaded(Frozen):
    """what is loaded"""

    transport: Transport = _option("openai", "how it is asked")
    model: str = _option("", "default: the first of /v1/models; ensemble for Triton")
    timeout: _Above0 = _option(60.0, "seconds until a request is given up")


class _Load(Frozen):
    """the load"""

    loop: Literal["open", "closed"] = _option("open", "closed: --users ask when answered")
    arrivals: str = _option("poisson", "constant, poisson, gamma:SHAPE, ramp:FROM-TO, trace:FILE")
    rate: float = _option(2.0, "requests a second of the open loop")
    think: _NotBelow0 = _option(0.0, "seconds between an answer and its user's next request")
    seconds: _Above0 = _option(60.0, "length of the schedule")
    warm_up: _NotBelow0 = _option(5.0, "seconds at the beginning that do not count")
    cool_down: _NotBelow0 = _option(5.0, "seconds at the end that do not count")
    seed: int = 1


class _Asked(Frozen):
    """what is asked"""

    prompts: _Prompts = _option(str(QUESTIONS), "a file of prompts")
    prompt_tokens: _LengthsIfAny = _option("", "prose of such lengths instead: 64, uniform:16-256, …")
    answer_tokens: _Lengths = _option("64", "max_tokens: 64, uniform:16-256, normal:128,32, …")
    same_prompts: bool = _option(False, "let prompts repeat, for prefix caches")
    shared_prefixes: _Count = _option(0, "so many system prompts, shared by all")
    shared_prefix_tokens: int = 256
    turns: _Turns = _option(1, "of each conversation; each carries what was said")
    json_share: _Share = _option(0.0, "share of requests with a JSON schema")
    tool_share: _Share = _option(0.0, "share of requests that must call a tool")
    cancel_share: _Share = _option(0.0, "share that leaves after a few chunks")
    extra: _Object = _option("", 'further fields of every request: {"ignore_eos": true}')


class _Judged(Frozen):
    """how it is judged"""

    slo: _Objectives = _option(SLO, "limits that a good answer keeps")
    slo_percentile: _Percentile = 95.0
    max_lag_ms: _NotBelow0 = _option(50.0, "of the schedule at p99; beyond it: INVALID")
    max_cpu: float = _option(80.0, "percent of a core a worker; beyond it: INVALID")
    canary_every: _NotBelow0 = _option(5.0, "seconds between known questions; 0: none")
    canaries: _File = _option("", 'a file of {"prompt": …, "answer": …} lines')
    baseline: _File = _option("", "a report.json to compare with")
    tolerance: _NotBelow0 = _option(10.0, "percent worse than the baseline that is let pass")
    fail_on: _Gates = _option("", "slo, regression or both (slo,regression): exit code 1")


class _Kept(Frozen):
    """what is kept"""

    metrics_url: _Words = _option("", "pages of metrics read each second, by commas")
    deployment: _File = _option("", "the config that serves, for the report")
    out: Path = _option(".conch/loadtests/last", "folder of rows.jsonl, report.html, report.json")


_GROUPS = (_Loaded, _Load, _Asked, _Judged, _Kept)
NAMES = tuple(name for group in _GROUPS for name in group.model_fields)


class Plan(_Loaded, _Load, _Asked, _Judged, _Kept):
    """What a run does, as its options say."""

    host: str

    @property
    def triton(self) -> bool:
        """Whether it is asked as Triton is."""
        return self.transport.startswith("triton")

    @property
    def closed(self) -> bool:
        """Whether users ask when answered."""
        return self.loop == "closed"

    @property
    def target(self) -> Target:
        """Where the load goes."""
        key = os.environ.get("CONCH_API_KEY")
        headers = {"authorization" if self.triton else "Authorization": f"Bearer {key}"} if key else {}
        return Target(self.host, self.model or ("ensemble" if self.triton else ""), self.timeout, headers)

    @cached_property
    def workload(self) -> Workload:
        """What is asked."""
        return Workload(**{each.name: getattr(self, each.name) for each in dataclasses.fields(Workload)})

    def schedule(self) -> list[Arrival]:
        """The whole run's arrivals."""
        return schedule(self.arrivals, self.rate, self.seconds, self.seed)

    def stream(self) -> Stream:
        """The transport, ready to ask."""
        from loadtests.load.streams.openai import OpenAI
        from loadtests.load.streams.triton_http import TritonHttp

        if self.transport == "triton-grpc":
            from loadtests.load.streams.triton_grpc import TritonGrpc  # only who uses it has gRPC on gevent

            return TritonGrpc(self.target)
        if self.transport == "triton-http":
            return TritonHttp(self.target)
        return OpenAI(self.target, chat=self.transport == "openai")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.json_share + self.tool_share > 1:
            raise LoadError("--json-share and --tool-share are more than the whole together")
        if self.warm_up + self.cool_down >= self.seconds:
            raise LoadError(
                f"--warm-up and --cool-down leave nothing of --seconds {self.seconds:g}", fix="Make the run longer"
            )
        if self.tool_share and self.transport != "openai":
            whose = "Triton's tensors" if self.triton else "completions"
            raise LoadError(f"--tool-share: {whose} know no tools", fix="Use --transport openai")
        if "regression" in self.fail_on and not self.baseline:
            raise LoadError("--fail-on regression needs --baseline")
        if self.triton:
            check_extra(self.extra)
        _ = self.target.address  # refuses one that is none
        if not self.closed:
            self.schedule()  # refuses one that cannot be drawn
        return self


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Ours; ``--host``, ``--users`` and the rest are Locust's."""
    for each in _GROUPS:
        group = parser.add_argument_group(each.__doc__)
        for name, field in each.model_fields.items():
            kind: Any = field.annotation
            how: dict[str, Any] = {"action": "store_true"} if kind is bool else {"default": field.default}
            if get_origin(kind) is Literal:
                how["choices"] = get_args(kind)
            elif kind in {int, float}:
                how["type"] = kind
            group.add_argument(flag(name), help=field.description, **how)


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan of these options.

    Raises:
        LoadError: naming the first option that is wrong.
    """
    try:
        return Plan(host=options.host or "", **{name: getattr(options, name) for name in NAMES})
    except ValidationError as refused:  # Locust's page may send what no command line takes
        first = refused.errors()[0]
        raise LoadError(f"{flag(str(first['loc'][0]))}: {first['msg']}, got {first['input']!r}") from None
