"""``make tune``: search within the time, compare the best found with the default afresh, write it as a deployment.

Every trial is kept as it ends. Ctrl-C writes the report of what was found by then, and the same command goes on; a
search that came to its end gets more minutes.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from contract.checkout import ROOT
from contract.errors import ServeError
from contract.manifest import engines_root, load_manifest
from contract.spec import Deployment
from loadtests.command import ended
from loadtests.load.__main__ import aimed, listens, parsed, parser
from loadtests.load.fault import LoadError
from loadtests.load.options import Plan, plan_of
from loadtests.tune.search import Search
from loadtests.tune.space import space_of
from loadtests.tune.study import Study, as_json
from loadtests.tune.trial import Bench
from loadtests.tune.workloads import choose

_SHORTEST_S, _LONGEST_S = 8.0, 24.0  # of a load test: a fiftieth of the time, but not outside of these
# More than a load test allows: latencies count from when a request was due, so a client that is late on the cores of an
# engine makes it look worse, never better.
_LAG_MS = 250.0
# What may differ between two runs of one search.
_OF_A_RUN = {"minutes", "builder", "config", "out", "deployment", "seconds", "warm_up", "cool_down"}


def main(arguments: Sequence[str]) -> int:
    """Tune; exit code 1 where no setting meets the objectives.

    Raises:
        ConchError: it cannot be run as asked, or the default itself does not run.
    """
    begun = time.monotonic()
    own = parser()
    own.prog, own.description = "python -m loadtests.tune", __doc__
    own.set_defaults(seconds=0.0, canary_every=0.0, slo_percentile=90.0, max_lag_ms=_LAG_MS, out="")
    own.add_argument("--minutes", type=float, default=30.0, help="that all of it may take")
    own.add_argument("--workload", default="questions", help="questions, chat, documents, or a file of prompts")
    own.add_argument("--builder", type=Path, default=ROOT / ".venv-build/bin/python", help="the Python of make engine")
    options, rest = parsed(own, arguments)
    spec, plan = _asked(options)
    budget_s = 60 * options.minutes
    space = space_of(
        spec,
        gateway=not plan.triton,
        seconds=budget_s,
        builds=options.builder.exists(),
        build_s=_build_s(spec),
    )
    if listens(spec):
        raise LoadError(
            f"a server of {options.config} runs already, and would be measured too",
            fix=f"make down CONFIG={options.config}",
        )
    out = plan.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    about = {name: value for name, value in vars(options).items() if name not in _OF_A_RUN}
    about |= {"spec": spec.model_dump(mode="json"), "knobs": [(knob.field, knob.values) for knob in space.knobs]}
    first_s = min((each.limit_s for each in plan.slo if each.name != "tpot"), default=1.0)
    study = Study(out, space, as_json(about), plan.seed, wait_s=first_s / 2)
    bench = Bench(options, rest, options.config.resolve(), out / "trials", space, options.builder)
    return Search(plan, space, study, bench, out, budget_s, begun + budget_s).run()


def _asked(options: argparse.Namespace) -> tuple[Deployment, Plan]:
    """Fill in what was left to us; the deployment and the plan of its load tests.

    Raises:
        ConchError: naming what is wrong.
    """
    if options.minutes <= 0:
        raise LoadError(f"--minutes: must be above 0, got {options.minutes:g}")
    if options.host or options.config is None:
        raise LoadError(
            "only a deployment can be tuned: its server is started anew for every trial", fix="Give a config"
        )
    choose(options, options.workload)
    options.seconds = options.seconds or min(max(60 * options.minutes / 50, _SHORTEST_S), _LONGEST_S)
    options.warm_up = options.cool_down = 0.0  # each load test has its own share of these
    spec = aimed(options)
    assert spec is not None
    options.out = options.out or f".conch/tune/{spec.name}"
    options.metrics_url = options.fail_on = ""
    plan = plan_of(options)
    if plan.closed or not plan.slo:
        raise LoadError("goodput is an open loop's, within objectives", fix="Leave out --loop, give SLO")
    return spec, plan


def _build_s(spec: Deployment) -> float:
    """What the deployment's engine took to build and verify.

    Raises:
        ServeError: it has none yet.
    """
    if spec.source is None:
        return 0.0
    try:
        return load_manifest(engines_root(ROOT, spec.name) / "current").build_seconds
    except ServeError as missing:
        raise ServeError(missing.message, fix="Run make engine first") from None


if __name__ == "__main__":
    ended(main)
