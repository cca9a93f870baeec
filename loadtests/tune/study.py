"""The search, which is Optuna's: what is tried next, and a journal of what was tried, which a later run goes on with.

A trial's sampler is seeded by the study's seed and by how many trials were finished before it: so the next trial
follows from the journal alone, whether the search was interrupted or not. A trial that an interruption cut is told as
failed and does not count: its settings are tried again.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from contract.engines.knobs import Knob, Seen, Settings, Value
from loadtests.tune.climb import Offer, best_of
from loadtests.tune.space import Space

JOURNAL = "study.journal"
_NAME = "tune"
_RECORD = "record"
_FEWEST = 6  # different goodputs that an importance may be told from
_RANDOM_FIRST = 8  # trials, the guesses among them, before the sampler has enough to learn from


@dataclass(frozen=True)
class Record:
    """A trial that came to its end."""

    number: int
    settings: Settings  # every knob's
    offers: list[Offer] = field(default_factory=list)
    failed: str = ""  # why there is no goodput
    hopeless: bool = False  # after a short look
    start_s: float = 0.0  # until its server was ready
    seconds: float = 0.0  # in all
    same_as: int | None = None  # the trial that had tried these settings before

    @property
    def goodput(self) -> float:
        """Good answers a second; of a trial that failed half way none count."""
        return 0.0 if self.failed else max((each.goodput for each in self.offers), default=0.0)

    @property
    def best(self) -> Offer:
        """Where it was at its best; a record that failed has none."""
        return best_of(self.offers)


def leading(records: Sequence[Record]) -> Record:
    """The most goodput; of equals the first, so the default where nothing carries more."""
    return max(records, key=lambda record: record.goodput)


@dataclass(frozen=True)
class Next:
    """A trial that is to be run."""

    number: int
    settings: Settings
    trial: optuna.Trial


class Study:
    """A journal in a folder.

    Args:
        asked: what the search is about; a journal about anything else is begun anew.
        wait_s: that a request may wait in a guess.
    """

    def __init__(self, folder: Path, space: Space, asked: dict[str, Any], seed: int, wait_s: float) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space, self._seed, self._wait_s = space, seed, wait_s
        journal = folder / JOURNAL
        self._study = _opened(journal)
        if self._study.user_attrs.get("asked", asked) != asked:
            journal.unlink()
            self._study = _opened(journal)
        self._study.set_user_attr("asked", asked)
        for cut in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
            self._study.tell(cut.number, state=TrialState.FAIL)

    def records(self) -> list[Record]:
        """Every trial that came to its end, in their order."""
        return [record for _, record in self._finished()]

    def next(self) -> Next:
        """What is tried next: the default, then the guesses, then what the sampler says."""
        records = self.records()
        count = len(records)
        self._study.sampler = optuna.samplers.TPESampler(
            seed=self._seed * 100_003 + count, n_startup_trials=_RANDOM_FIRST, multivariate=True
        )
        first = [self._space.default]
        if records:
            first += self._space.guesses(Seen(self._wait_s, records[0].best.crowd))
        if count < len(first):
            guess = first[count]
            self._study.enqueue_trial({knob.field: _told(knob, guess[knob.field]) for knob in self._space.knobs})
        trial = self._study.ask({knob.field: _distribution(knob) for knob in self._space.knobs})
        settings = {knob.field: _meant(knob, trial.params[knob.field]) for knob in self._space.knobs}
        return Next(count, settings, trial)

    def tell(self, asked: Next, record: Record) -> None:
        """Keep a trial's end."""
        trial = asked.trial
        trial.set_user_attr(_RECORD, asdict(record))
        if record.failed:
            self._study.tell(trial, state=TrialState.FAIL)
        elif record.hopeless:
            trial.report(record.goodput, 0)
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, record.goodput)

    def importances(self) -> dict[str, float]:
        """Each knob's share in what made the goodput differ (PED-ANOVA); a hopeless trial counts by its short look."""
        flat = optuna.create_study(direction="maximize")
        distributions = {knob.field: _distribution(knob) for knob in self._space.knobs}
        for trial, record in self._finished():
            if not record.failed and trial.distributions == distributions:
                flat.add_trial(create_trial(params=trial.params, distributions=distributions, value=record.goodput))
        if len({trial.value for trial in flat.trials}) < _FEWEST:
            return {}
        return get_param_importances(flat, evaluator=PedAnovaImportanceEvaluator())

    def _finished(self) -> Iterator[tuple[optuna.trial.FrozenTrial, Record]]:
        for trial in self._study.get_trials(deepcopy=False):
            if kept := trial.user_attrs.get(_RECORD):
                yield trial, Record(**{**kept, "offers": [Offer(**offer) for offer in kept["offers"]]})


def _opened(journal: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.create_study(storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True)


def _distribution(knob: Knob) -> BaseDistribution:
    """By its place where what lies between two values tells of a third."""
    if knob.ordered:
        return IntDistribution(0, len(knob.values) - 1)
    return CategoricalDistribution(knob.values)


def _told(knob: Knob, value: Value) -> Value:
    return knob.values.index(value) if knob.ordered else value


def _meant(knob: Knob, told: Any) -> Value:
    value: Value = knob.values[told] if knob.ordered else told
    return value


def as_json(value: Any) -> Any:
    """As the journal gives it back: tuples are lists."""
    return json.loads(json.dumps(value))
