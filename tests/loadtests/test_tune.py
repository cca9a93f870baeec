"""make tune: what is searched, how a setting is measured, and that a search goes on where it was cut.

Where the servers are pretended, a function says what share of a rate's requests a setting answers well.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.engines.knobs import Seen, Settings, value_of
from contract.errors import ConchError, ServeError, SpecError
from contract.spec import Deployment, load_spec
from loadtests.load.__main__ import parser
from loadtests.load.lengths import lengths
from loadtests.load.options import plan_of
from loadtests.load.workload import Workload
from loadtests.tune import __main__ as command
from loadtests.tune.beside import Beside, Rounds, Side, rounds_of
from loadtests.tune.climb import Ask, Offer, climbed, found
from loadtests.tune.document import written
from loadtests.tune.report import Result, frontier, write_report
from loadtests.tune.search import TUNED, Search
from loadtests.tune.space import Space, declared, space_of
from loadtests.tune.study import Record, Study
from loadtests.tune.trial import Bench, load_of, tried
from tests.e2e.servers import CODE, DEFAULT, on_free_ports

CONFIGS = {  # one of each engine
    spec.engine.runtime: path for path in sorted((CODE / "configs").glob("*.yaml")) if (spec := load_spec(path)).source
}
BATCH, WAIT, THREADS = "limits.max_batch_size", "gateway.max_queue_s", "engine.threads"


def whole_space(spec: Deployment, **other: Any) -> Space:
    return space_of(spec, **{"gateway": True, "seconds": 3600, "builds": True, "build_s": 10, **other})


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_engine_declares_knobs_that_its_deployments_can_turn(config: Path, tmp_path: Path) -> None:
    spec = load_spec(config)
    fields = [knob.field for gateway in (True, False) for knob in declared(spec, gateway=gateway)]
    assert len(fields) >= 8
    taken = 0
    for knob in declared(spec, gateway=True):
        assert value_of(spec, knob.field) in knob.values
        for value in knob.values:
            try:
                turned = written(config, {knob.field: value}, tmp_path / "turned.yaml")
            except SpecError as refusal:  # by name: what contradicts the rest is a trial refused
                assert knob.field.rpartition(".")[2] in str(refusal)
                continue
            assert value_of(turned, knob.field) == value
            taken += 1
    assert taken > 20
    assert len(whole_space(spec).guesses(Seen(0.25, 20))) >= 4


def test_what_cannot_be_turned_here_is_left_out_with_its_reason() -> None:
    spec = load_spec(DEFAULT)
    precision = "engine.precision"
    assert precision in whole_space(spec).default
    for other, why in (
        ({"builds": False}, "its environment is not here"),
        ({"build_s": 900}, "it takes about 900 s each"),
    ):
        space = whole_space(spec, **other)
        assert precision not in space.default
        assert any(each.startswith(precision) and why in each for each in space.left_out), space.left_out
    unverified = spec.model_copy(update={"verify": spec.verify.model_copy(update={"reference": "none"})})
    assert any("verify.reference is none" in each for each in whole_space(unverified).left_out)


def test_guesses_are_taken_to_the_nearest_value() -> None:
    spec = load_spec(DEFAULT)
    space = whole_space(spec, builds=False)
    values = {knob.field: knob.values for knob in space.knobs}
    for guess in space.guesses(Seen(0.3, 17)):
        assert guess.keys() == values.keys()
        assert all(value in values[field] for field, value in guess.items())
    first = space.guesses(Seen(0.3, 17))[0]
    assert space.changed(first) == {BATCH: 20, WAIT: 0.25}
    assert space.guesses(Seen(0.3, 60))[0][BATCH] == 160  # its batch of 64 was full
    over_triton = whole_space(spec, gateway=False)
    assert WAIT not in over_triton.default
    assert "limits.max_queue_size" in over_triton.default


def test_a_tuned_yaml_keeps_the_comments_and_changes_only_what_differs(tmp_path: Path) -> None:
    settings: Settings = {BATCH: 16, "limits.max_num_tokens": 128, "engine.threads": 1, WAIT: 0.25}
    spec = written(DEFAULT, settings, tmp_path / "tuned.yaml")
    before, after = load_spec(DEFAULT), (tmp_path / "tuned.yaml").read_text()
    assert {field: value_of(spec, field) for field in settings} == settings
    assert spec.model_dump(exclude={"limits", "engine", "gateway"}) == before.model_dump(
        exclude={"limits", "engine", "gateway"}
    )
    gone = [line for line in DEFAULT.read_text().splitlines() if line not in after.splitlines()]
    assert gone == ["  max_batch_size: 64"]
    assert "gateway:\n  max_queue_s: 0.25\n" in after


@pytest.mark.parametrize(
    "text",
    [
        "name: a\nengine: {runtime: synthetic, threads: 2}\n",
        "name: a\nengine:\n  runtime: synthetic\n\n# of the end\n",
        "name: a\nengine:\n    runtime: synthetic # here\n    threads: 3 # why",
        "# nothing\nname: a\nengine: &x\n  runtime: synthetic\n",
    ],
)
def test_any_way_of_writing_a_deployment_can_be_followed(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    spec = written(tmp_path / "a.yaml", {"engine.threads": 1, BATCH: 7}, tmp_path / "b.yaml")
    assert (spec.engine.threads, spec.limits.max_batch_size, spec.engine.runtime) == (1, 7, "synthetic")
    assert re.findall("#.*", text) == re.findall("#.*", (tmp_path / "b.yaml").read_text())


def full(capacity: float, collapses: bool = True) -> Callable[[float, bool], Offer]:
    """A server that answers so many requests a second well, and of more than that none, or that many."""

    def ask(rate: float, short: bool) -> Offer:
        share = 1.0 if rate <= capacity else 0.0 if collapses else capacity / rate
        return Offer(rate, share, share >= 0.9)

    return ask


def test_the_default_is_bracketed_from_above_and_below() -> None:
    for start in (0.5, 2, 40):
        offers = list(found(full(7), start, 0.3))
        best = max(offers, key=lambda each: each.goodput)
        assert 7 / 1.1 <= best.goodput <= 7
        assert len(offers) < 10
    assert all(not offer.goodput for offer in found(full(0.1), 2, 0.3))


def test_another_setting_climbs_from_the_best_and_is_given_up_when_hopeless() -> None:
    best = Offer(6, 1, True)
    assert [offer.rate for offer in climbed(full(3), best)] == [6]
    assert [round(offer.rate, 2) for offer in climbed(full(9), best)] == [6, 6.9, 7.93, 9.13]
    assert [round(offer.rate, 2) for offer in climbed(full(5, collapses=False), best)] == [6, 6.9]
    doubtful = [Offer(6, 0, False, ["client-bound"]), Offer(6.9, 1, True), Offer(7.94, 0, False)]
    assert len(list(climbed(lambda rate, short: doubtful.pop(0), best))) == 3  # a look at the client says nothing


def test_every_setting_is_asked_the_same_and_no_server_the_same_twice() -> None:
    options = argparse.Namespace(seconds=8.0, seed=1)

    def questions(rate: float, before: list[float]) -> set[str]:
        seed = load_of(options, rate, True, before)["seed"]
        workload = Workload((), lengths("64", ""), prompt_tokens=lengths("uniform:60-140", ""), seed=seed)
        return {workload.opening(number).text for number in range(100)}

    assert questions(4.0, []) == questions(4.0, [8.0])
    of_one_server = [
        questions(4.0, []),
        questions(4.0, [4.0]),
        questions(8.0, [4.0, 4.0]),
        questions(4.0, [4.0, 4.0, 8.0]),
    ]
    assert len(set.union(*of_one_server)) == 400
    assert load_of(options, 4.0, True, [])["seconds"] > load_of(options, 4.0, True, [4.0])["seconds"]


@dataclass
class Pretended(Bench):
    """Servers of a known capacity; ``fails`` says what a trial meets instead."""

    fails: Callable[[Settings], BaseException | None] = lambda settings: None
    served: int = 0

    @contextmanager
    def serving(self, settings: Settings, folder: Path) -> Iterator[Ask]:
        self.served += 1
        if fault := self.fails(settings):
            raise fault
        yield full(
            float(settings[BATCH] or 0) / 8, collapses=settings[WAIT] != 0.25
        )  # 64 as the default has: 8 a second


def search(
    folder: Path,
    trials: int,
    fails: Callable[[Settings], BaseException | None] = lambda _: None,
    fields: tuple[str, ...] = (),
) -> Search:
    """One that ends when so many trials were run in it, of these fields alone where they are named."""
    space = whole_space(load_spec(DEFAULT), builds=False)
    if fields:
        knobs = tuple(replace(knob, values=knob.values[-3:]) for knob in space.knobs if knob.field in fields)
        default = {knob.field: knob.values[-1] for knob in knobs}
        space = replace(space, knobs=knobs, default=default)
    options = parser().parse_args(
        [str(DEFAULT), "--seconds=12", "--host=http://127.0.0.1:1", f"--deployment={DEFAULT}"]
    )
    folder.mkdir(exist_ok=True)
    bench = Pretended(options, [], DEFAULT, folder, space, Path(), fails=fails)
    study = Study(folder, space, {"config": "the default"}, seed=1, wait_s=0.25)

    class Limited(Search):
        def _time_for_another(self, records: list[Record]) -> bool:
            return len(records) < trials

    return Limited(plan_of(options), space, study, bench, folder, 600, 0)


def test_a_search_that_was_cut_asks_the_same_next_as_one_that_was_not(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", 16)
    assert whole.run() == 0
    wanted = [record.settings for record in whole.study.records()]

    def cut(settings: Settings) -> BaseException | None:
        return KeyboardInterrupt() if settings == wanted[at] else None

    for at in (1, 4, 9, 13):
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "cut", 16, cut).run()
        if at == 9:
            report = json.loads((tmp_path / "cut" / "tune.json").read_text())
            assert report["cut"]
            assert len(report["trials"]) == 9
            assert "not side by side" in report["sentence"]
    resumed = search(tmp_path / "cut", 16)
    assert resumed.run() == 0
    assert [record.settings for record in resumed.study.records()] == wanted
    report = json.loads((tmp_path / "cut" / "tune.json").read_text())
    assert report["sentence"].startswith(f"{report['beside']['tuned']['goodput_per_s'] / 8:.2f} × the goodput")
    assert set(report["importance"]) <= set(resumed.space.default)
    assert "the goodput of the default" in (tmp_path / "cut" / "tune.html").read_text()
    tuned = load_spec(tmp_path / "cut" / TUNED)
    assert {field: value_of(tuned, field) for field in report["changed"]} == {
        field: change["tuned"] for field, change in report["changed"].items()
    }


def test_a_trial_that_fails_is_told_so_and_the_search_goes_on(tmp_path: Path) -> None:
    def fails(settings: Settings) -> BaseException | None:
        return ServeError("no memory for this") if settings[THREADS] else None

    failing = search(tmp_path, 12, fails)
    assert failing.run() == 0
    report = json.loads((tmp_path / "tune.json").read_text())
    failed = [trial for trial in report["trials"] if trial["ended"] == "failed"]
    assert failed
    assert {trial["why"] for trial in failed} == {"no memory for this"}
    assert len(report["trials"]) == 12


def test_settings_are_tried_once_and_a_search_with_nothing_new_to_say_ends(tmp_path: Path) -> None:
    again = search(tmp_path, 1000, fields=(BATCH, WAIT))
    again.run()
    records = again.study.records()
    fresh = [record for record in records if record.same_as is None]
    assert len(fresh) < len(records) < 1000
    assert all(record.goodput == records[record.same_as].goodput for record in records if record.same_as is not None)
    assert len({json.dumps(record.settings) for record in records}) == len(fresh)


def test_a_default_that_does_not_run_ends_it_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(ConchError, match="the default itself cannot be measured: the port is taken"):
        search(tmp_path, 3, lambda _: ServeError("the port is taken")).run()
    assert not (tmp_path / "tune.json").exists()
    assert search(tmp_path, 3).run() == 0  # it is tried anew


def test_another_question_begins_another_search(tmp_path: Path) -> None:
    space = whole_space(load_spec(DEFAULT))
    first = Study(tmp_path, space, {"slo": "ttft<1s"}, 1, 0.25)
    asked = first.next()
    first.tell(asked, Record(0, asked.settings, [Offer(1, 1, True)]))
    assert Study(tmp_path, space, {"slo": "ttft<1s"}, 1, 0.25).records()
    assert not Study(tmp_path, space, {"slo": "ttft<2s"}, 1, 0.25).records()


def test_what_a_claim_rests_on() -> None:
    default = Side([Offer(2, 1, True), Offer(3, 0.5, False), Offer(2, 0.9, True), Offer(3, 0.9, False)])
    tuned = Side([Offer(3, 1, True), Offer(3, 0.2, False, ["client-bound"]), Offer(3, 0.8, True)])
    assert default.goodput == pytest.approx(2.1)  # at 3 requests/s
    assert tuned.goodput == pytest.approx(2.7)  # what the client could not ask does not count
    assert Beside(default, tuned).ratio == pytest.approx(2.7 / 2.1)
    assert rounds_of(8, 12, 3, 280) == Rounds(3, 1, 3 * (2 * 11 + 3 * (12 + 5)))
    assert rounds_of(80, 18, 3, 400) == Rounds(1, 3, 2 * 83 + 9 * (18 + 5))  # servers that start slowly
    assert rounds_of(300, 18, 3, 0) == Rounds(1, 1, 2 * 303 + 3 * (18 + 5))


def result(records: list[Record], beside: Beside | None = None) -> Result:
    options = parser().parse_args(["--host=http://127.0.0.1:1", "--slo=ttft<1s,tpot<50ms"])
    return Result(plan_of(options), whole_space(load_spec(DEFAULT), builds=False), records, {}, beside)


def test_the_sentence(tmp_path: Path) -> None:
    space = whole_space(load_spec(DEFAULT), builds=False)
    latencies = {"ttft_ms": {"p90": 800.0}, "tpot_ms": {"p90": 120.0}}
    none = result([Record(0, space.default, [Offer(0.5, 0, False, [], latencies)])])
    assert none.sentence == (
        "No setting meets TTFT < 1 s, TPOT < 50 ms (1 tried): at 0.50 requests/s the default has "
        "TTFT p90 800 ms, TPOT p90 120 ms."
    )
    records = [
        Record(0, space.default, [Offer(2, 1, True, [], latencies, 90.0)]),
        Record(1, space.guesses(Seen(0.25, 20))[0], [Offer(2, 0.5, True, [], latencies, 80.0)]),
    ]
    assert result(records).sentence.startswith("The default is within 5 % of the best found: it carries 2.00 good")
    records[1] = replace(records[1], offers=[Offer(3, 1, True, [], latencies, 99.0)])
    assert "1.50 × the goodput of the default" in result(records).sentence
    nothing = Side([Offer(2, 0, False, ["client-bound"])])
    assert result(records, Beside(nothing, nothing)).sentence.startswith("In the search alone, not side by side: 3.00")
    for good, said in ((3.2, "1.60 × the goodput of the default: 3.20 good"), (2.04, "The default is within 5 % of")):
        beside = Beside(Side([Offer(2, 1, True)]), Side([Offer(good, 1, True)]))
        assert result(records, beside).sentence.startswith(said)
    write_report(result(records), tmp_path)
    page = (tmp_path / "tune.html").read_text()
    assert not re.search(r"<script|<link|src=|url\(|@import", page)
    assert page.count("<svg") == 3


def test_the_frontier_is_what_no_other_offer_beats_in_both() -> None:
    offers = [
        Offer(1, 1, True, [], {"tpot_ms": {"p90": at}}, tokens)
        for at, tokens in ((20.0, 100.0), (30.0, 90.0), (40.0, 200.0), (45.0, 190.0))
    ]
    doubtful = Offer(1, 1, True, ["client-bound"], {"tpot_ms": {"p90": 1.0}}, 999.0)
    record = Record(0, {}, [*offers, doubtful])
    assert frontier([record], "tpot_ms") == [(100.0, 20.0), (200.0, 40.0)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "only a deployment can be tuned"),
        (["configs/synthetic.yaml"], "engine.runtime synthetic has no knobs, so there is nothing to tune"),
        (["{default}", "--workload=tides"], "--workload: 'tides' is neither one of questions, chat"),
        (["{default}", "--minutes=0"], "--minutes: must be above 0"),
        (["{default}", "--slo=swift"], "--slo: 'swift' is no objective"),
        (["{default}", "--loop=closed"], "goodput is an open loop's"),
        (["configs/qwen3-0.6b-vllm.yaml"], "Run make engine first"),
    ],
)
def test_what_cannot_be_tuned_is_said_before_anything_starts(arguments: list[str], said: str) -> None:
    with pytest.raises(ConchError, match=re.escape(said)):
        command.main([each.format(default=DEFAULT) for each in arguments])


def test_a_server_that_does_not_start_is_a_failed_trial(tmp_path: Path) -> None:
    config = tmp_path / "absent.yaml"
    config.write_text(DEFAULT.read_text().replace("name: smollm2-135m", "name: tune-absent"))
    space = whole_space(load_spec(config), builds=False)
    bench = Bench(argparse.Namespace(seconds=1), [], config, tmp_path, space, Path())
    try:
        record = tried(bench, 1, space.default, None, print)
    finally:
        for left in (CODE / "model_repository", CODE / ".conch"):
            shutil.rmtree(left / "tune-absent", ignore_errors=True)
    assert "no engine at" in record.failed
    assert not record.offers


def test_an_engine_that_did_not_pass_is_not_built_again(tmp_path: Path) -> None:
    space = whole_space(load_spec(DEFAULT))
    settings = space.default | {"engine.precision": "int4"}
    bench = Bench(argparse.Namespace(seconds=1), [], DEFAULT, tmp_path, space, Path("no-python"))
    bench.remember([Record(3, settings, failed="make engine: it does not pass"), Record(4, space.default)])
    record = tried(bench, 5, settings | {BATCH: 16}, None, print)
    assert record.failed == "make engine: it does not pass"


@pytest.mark.long
def test_objectives_that_no_setting_of_the_default_deployment_meets(tmp_path: Path) -> None:
    config = tmp_path / "default.yaml"
    spec = on_free_ports(load_spec(DEFAULT))
    config.write_text(DEFAULT.read_text() + yaml.safe_dump({"ports": spec.ports.model_dump()}))
    told = [
        "--minutes=1.5",
        "--seconds=8",
        "--rate=1",
        "--answer-tokens=8",
        "--slo=ttft<1ms",
        f"--out={tmp_path / 'out'}",
    ]
    run = subprocess.run(
        [sys.executable, "-m", "loadtests.tune", str(config), *told, "--builder=none"],
        cwd=CODE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stderr
    report = json.loads((tmp_path / "out" / "tune.json").read_text())
    assert report["sentence"].startswith("No setting meets TTFT < 1 ms (")
    assert report["sentence"] in run.stdout
    assert all(offer["latencies"]["ttft_ms"]["p90"] > 1 for offer in report["trials"][0]["offers"])
    assert not (tmp_path / "out" / TUNED).exists()
