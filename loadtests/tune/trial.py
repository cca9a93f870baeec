"""A setting on trial: a real server under the open-loop load test, started for it and stopped after it."""

import argparse
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract import programs
from contract.engines.knobs import Settings, Value
from contract.errors import BuildError, ConchError
from loadtests.load.__main__ import reported
from loadtests.served import served
from loadtests.tune.climb import Ask, Offer, climbed, found, hopeless, offer_of
from loadtests.tune.document import written
from loadtests.tune.space import Space
from loadtests.tune.study import Record

OVERHEAD_S = 5.0  # of a load test, beyond its schedule: starting, reading the last answers
SHORT = 0.5  # of a load test that is only a look
STOP_S = 3.0  # of a server
_WARM_UP, _COOL_DOWN = 1 / 6, 1 / 12  # of its length
_COLD_S = 4.0  # more of the first one on a fresh server: what is loaded and compiled when it is first needed
_SAID = 600  # characters of a failure
_MAKE_ENGINE = "make engine: "


@dataclass
class Bench:
    """Where trials run.

    Args:
        options: of the load test; ``seconds`` is the length of one that is not short.
        rest: for Locust.
        original: the deployment that is tuned.
        builder: the Python that make engine runs in.
    """

    options: argparse.Namespace
    rest: Sequence[str]
    original: Path
    folder: Path
    space: Space
    builder: Path
    _engine: tuple[Value, ...] | None = None  # that make engine made current; None: not known
    _refused: dict[tuple[Value, ...], str] = field(default_factory=dict)

    @contextmanager
    def serving(self, settings: Settings, folder: Path) -> Iterator[Ask]:
        """A server with these settings; yields what offers it a rate.

        Raises:
            ConchError: the settings contradict each other, their engine does not pass, or the server does not start.
        """
        config = folder / "config.yaml"
        written(self.original, self.space.changed(settings), config)
        self.use_engine(settings, config)
        before: list[float] = []

        def ask(rate: float, short: bool) -> Offer:
            load = load_of(self.options, rate, short, before)
            before.append(rate)
            return self._offered(load, config, folder / f"{rate:.3f}{'-look' * short}")

        with served(config):
            yield ask

    def use_engine(self, settings: Settings, config: Path) -> None:
        """Have the engine of these settings built, verified and made current, unless it is; one is built once.

        Raises:
            BuildError: it cannot be built, or does not pass.
        """
        wanted = self.space.engine(settings)
        if not wanted or wanted == self._engine:
            return
        if why := self._refused.get(wanted):
            raise BuildError(why)
        self._engine = None
        try:
            programs.built(self.builder, config)
        except BuildError as error:
            self._refused[wanted] = f"{_MAKE_ENGINE}{error}"
            raise BuildError(self._refused[wanted]) from error
        self._engine = wanted

    def remember(self, records: Sequence[Record]) -> None:
        """Which engines did not pass in an earlier run."""
        for each in records:
            if each.failed.startswith(_MAKE_ENGINE):
                self._refused[self.space.engine(each.settings)] = each.failed

    def _offered(self, load: dict[str, Any], config: Path, out: Path) -> Offer:
        out.mkdir(parents=True, exist_ok=True)
        asked = argparse.Namespace(**vars(self.options) | load | {"out": str(out), "deployment": str(config)})
        report = reported(asked, self.rest, out / "locust.log")
        return offer_of(load["rate"], self.options.slo_percentile, report["summary"])


def load_of(options: argparse.Namespace, rate: float, short: bool, before: Sequence[float]) -> dict[str, Any]:
    """A load test's own options. Its questions are every setting's at this rate, and new to the server.

    Args:
        before: rates that this server was offered: its prefix cache knows those questions.
    """
    length = options.seconds * (SHORT if short else 1.0)
    cold_s = 0.0 if before else _COLD_S
    return {
        "rate": rate,
        "seed": random.Random(f"{options.seed}-{rate:.3f}-{before.count(rate)}").getrandbits(31),
        "seconds": cold_s + length,
        "warm_up": cold_s + _WARM_UP * length,
        "cool_down": _COOL_DOWN * length,
    }


def tried(bench: Bench, number: int, settings: Settings, best: Offer | None, say: Callable[[str], None]) -> Record:
    """One trial to its end; what fails is told, not raised.

    Args:
        best: of the best setting so far; None: this is the default, whose rates are looked for from ``--rate`` on.
    """
    begun = time.monotonic()
    start_s, offers, failed = 0.0, list[Offer](), ""
    try:
        with bench.serving(settings, bench.folder / f"{number:03d}") as ask:
            start_s = time.monotonic() - begun
            lowest = 5 / bench.options.seconds  # requests/s; of fewer than five nothing is told
            for offer in climbed(ask, best) if best else found(ask, bench.options.rate, lowest):
                offers.append(offer)
                say(line(offer))
    except ConchError as refusal:
        failed = _short(str(refusal))
    if offers and all(offer.doubts for offer in offers):
        failed = offers[-1].doubts[0]
    given_up = best is not None and len(offers) == 1 and not failed and hopeless(offers[0], best)
    return Record(number, settings, offers, failed, given_up, start_s, time.monotonic() - begun)


def line(offer: Offer) -> str:
    """An offer in words."""
    said = f"{offer.rate:8.2f} requests/s: {100 * offer.share:3.0f} % good"
    return f"{said} (INVALID: {offer.doubts[0]})" if offer.doubts else said


def _short(text: str) -> str:
    """The end of a long text: a log's last lines say most."""
    return text if len(text) <= _SAID else f"… {text[-_SAID:]}"
