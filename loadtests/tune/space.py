"""What is searched: the knobs of a deployment that can be turned here and now, and where the search begins."""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

from contract.engines.knobs import Knob, Seen, Settings, Value, doors, value_of
from contract.spec import Deployment
from loadtests.load.fault import LoadError

_FOR_BUILDS = 1 / 6  # of the time, at most


@dataclass(frozen=True)
class Space:
    """The knobs, the deployment's own settings, and guesses of who knows its engine."""

    spec: Deployment
    knobs: tuple[Knob, ...]
    default: Settings
    left_out: tuple[str, ...]  # each knob that is not turned, and why

    def changed(self, settings: Settings) -> Settings:
        """What differs from the deployment's own."""
        return {field: value for field, value in settings.items() if value != self.default[field]}

    def guesses(self, seen: Seen) -> list[Settings]:
        """Where the search begins once the default was measured."""
        return _distinct(
            self.default | _nearest(self.knobs, each) for each in _folder(self.spec).guesses(self.spec, seen)
        )

    def engine(self, settings: Settings) -> tuple[Value, ...]:
        """What make engine must know of the settings."""
        return tuple(settings[knob.field] for knob in self.knobs if knob.by_make_engine)


def declared(spec: Deployment, *, gateway: bool) -> tuple[Knob, ...]:
    """Every knob of the deployment's engine and of what lies before it.

    Raises:
        LoadError: its engine declares none.
    """
    return *_folder(spec).knobs(spec), *doors(spec, gateway=gateway)


def space_of(spec: Deployment, *, gateway: bool, seconds: float, builds: bool, build_s: float) -> Space:
    """The space of a deployment.

    Args:
        gateway: requests come through it.
        seconds: that the whole search has.
        builds: make engine can be run here.
        build_s: what its engine took to build.

    Raises:
        LoadError: its engine declares no knobs.
    """
    turned, left_out = [], []
    for knob in declared(spec, gateway=gateway):
        others = len(knob.values) - 1
        why = ""
        if not others:
            why = "there is nothing else to try on this machine"
        elif knob.answers and spec.verify.reference == "none":
            why = "it changes answers, and verify.reference is none"
        elif knob.by_make_engine and not builds:
            why = "make engine would have to verify it, and its environment is not here"
        elif knob.by_make_engine and others * build_s > _FOR_BUILDS * seconds:
            why = f"to build and verify it takes about {build_s:.0f} s each, and there are {seconds:.0f} s in all"
        if why:
            left_out.append(f"{knob.field}: {why}")
        else:
            turned.append(knob)
    default = {knob.field: value_of(spec, knob.field) for knob in turned}
    return Space(spec, tuple(turned), default, tuple(left_out))


def _folder(spec: Deployment) -> ModuleType:
    runtime = spec.engine.runtime
    name = f"contract.engines.{runtime}.knobs"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if not name.startswith(missing.name or ""):
            raise
        raise LoadError(f"engine.runtime {runtime} has no knobs, so there is nothing to tune") from None


def _nearest(knobs: Iterable[Knob], guess: Settings) -> Settings:
    """A guess in values that are tried; what cannot be turned is left as it is."""
    found: Settings = {}
    for knob in knobs:
        if knob.field not in guess:
            continue
        wanted = guess[knob.field]
        if knob.ordered and isinstance(wanted, int | float):
            found[knob.field] = min(knob.values, key=lambda value: abs(float(value or 0) - wanted))
        elif wanted in knob.values:
            found[knob.field] = wanted
    return found


def _distinct(settings: Iterable[Settings]) -> list[Settings]:
    found: list[Settings] = []
    for each in settings:
        if each not in found:
            found.append(each)
    return found
