"""docs/engines.md from the code's own declarations: ``python -m python_backend.engines_page`` (make engines-page).

What requests may ask for is the word of the engines' own folders. What a deployment may be is asked of the spec itself:
each cell is a small spec that is accepted or refused.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import ValidationError

from contract.checkout import ROOT
from contract.engines.kinds import KINDS, Precision, Runtime
from contract.sampling import feature_names
from contract.sections import EngineSpec
from contract.spec import Deployment
from python_backend.engines import features_of

PAGE = ROOT / "docs" / "engines.md"

_HEAD = """# What each engine can do
`make engines-page` writes this page from the code that serves; a test fails where the two differ.

**yes**: as the spec's defaults are. **by option**: where the deployment's spec turns it on. **–**: refused by name, a
request's parameter before prefill and a deployment's when its config is read.
"""
# Streams, stop strings, cancellation, deadlines, admission and metrics are above the engines.
_EVERYWHERE = """
Every engine with a model has `max_tokens`, `end_id`, `stop_words`, streams, cancellation, deadlines, chat templates,
tools and metrics: those are written once, above the engines.
"""


@dataclass(frozen=True)
class Column:
    """A runtime, or one of its backends."""

    title: str
    runtime: Runtime
    engine: dict[str, Any]  # of its spec, beyond runtime and precision
    everything_on: dict[str, Any]  # the same with every option that gives requests more

    def accepts(self, **engine: Any) -> bool:
        """Whether there can be such a deployment."""
        try:
            self.spec(**engine)
        except ValidationError:
            return False
        return True

    def spec(self, **engine: Any) -> Deployment:
        """A deployment of it in the first precision that it knows."""
        wanted = {"runtime": self.runtime, **self.engine, **engine}
        source = {"kind": "path", "path": "/checkpoint"} if KINDS[self.runtime].weights else None
        if "precision" in wanted:
            return Deployment.model_validate({"name": "model", "source": source, "engine": wanted})
        return self.spec(**engine, precision=next(each for each in _PRECISIONS if self.accepts(precision=each)))


_PRECISIONS: tuple[str, ...] = get_args(Precision)
# Options that give requests more, where an engine has them.
_MORE = {"log_probs": True, "guided_decoding": True, "deterministic": True, "lora": {"adapters": {"name": "/adapter"}}}


def columns() -> list[Column]:
    """One for each runtime and backend."""
    found = []
    for runtime in sorted(KINDS):
        section = EngineSpec.model_fields.get(runtime)
        fields = type(section.default).model_fields if section else {}
        more = {name: value for name, value in _MORE.items() if name in fields}
        # Backends differ like two engines.
        for backend in get_args(fields["backend"].annotation) if "backend" in fields else ("",):
            options = {"backend": backend} if backend else {}
            title = f"{runtime}, {backend}" if backend else runtime
            plain = Column(title, runtime, {runtime: options} if options else {}, {})
            most = {runtime: options | more} if more else {}
            found.append(replace(plain, everything_on=most) if plain.accepts(**most) else plain)
    return found


def page() -> str:
    """The whole file."""
    shown = columns()
    return "\n".join(
        [
            _HEAD,
            "## What a request may ask for",
            *_table("parameter", shown, [(_named(feature), _marks(feature, shown)) for feature in feature_names()]),
            _EVERYWHERE,
            "## What a deployment may be",
            *_table("`engine.`", shown, _deployments(shown)),
            "",
        ]
    )


def _marks(feature: str, shown: list[Column]) -> list[str]:
    marks = []
    for column in shown:
        plain, most = (features_of(column.spec(**each).engine) for each in ({}, column.everything_on))
        marks.append("yes" if feature in plain else "by option" if feature in most else "–")
    return marks


def _named(feature: str) -> str:
    field, _, value = feature.partition(":")
    return f"`{field}: {value}`" if value else f"`{field}`"


def _deployments(shown: list[Column]) -> Iterable[tuple[str, list[str]]]:
    weighty = [column for column in shown if KINDS[column.runtime].weights]

    def row(name: str, **engine: Any) -> tuple[str, list[str]]:
        can = {column.title: column.accepts(**engine) for column in weighty}
        return f"`{name}`", [("yes" if can[each.title] else "–") if each.title in can else "" for each in shown]

    for precision in _PRECISIONS:
        yield row(f"precision: {precision}", precision=precision)
    for way, parallel in (
        ("tensor", {"tensor": 2}),
        ("pipeline", {"pipeline": 2}),
        ("expert", {"tensor": 2, "expert": 2}),
    ):
        yield row(f"parallel.{way}: 2", parallel=parallel)


def _table(corner: str, shown: list[Column], rows: Iterable[tuple[str, list[str]]]) -> Iterable[str]:
    yield "| " + " | ".join([corner, *(column.title for column in shown)]) + " |"
    yield "|" + "---|" * (len(shown) + 1)
    for name, cells in rows:
        yield "| " + " | ".join([name, *cells]) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
