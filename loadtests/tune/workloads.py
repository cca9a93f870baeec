"""What is asked while a deployment is tuned: a shape of traffic by its name, or a file of prompts."""

import argparse
from pathlib import Path

from loadtests.load.fault import LoadError

# Options of the load test that a name stands for.
WORKLOADS: dict[str, dict[str, str | int]] = {
    "questions": {},  # the load test's own: short questions, answers of 64 tokens
    "chat": {"prompt_tokens": "lognormal:120,0.8", "answer_tokens": "lognormal:120,0.6", "shared_prefixes": 4},
    "documents": {"prompt_tokens": "uniform:512-1024", "answer_tokens": "uniform:32-128"},
}


def choose(options: argparse.Namespace, name: str) -> None:
    """Fill in the options of a workload.

    Raises:
        LoadError: there is none of that name.
    """
    if name in WORKLOADS:
        vars(options).update(WORKLOADS[name])
    elif Path(name).is_file():
        options.prompts = name
    else:
        known = ", ".join(WORKLOADS)
        raise LoadError(
            f"--workload: {name!r} is neither one of {known} nor a file of prompts", fix="Give one of these"
        )
