"""The plan of a run under Locust, and which model is asked where none was named."""

import argparse
import json

from locust.env import Environment

from loadtests.load.fault import LoadError
from loadtests.load.get import get
from loadtests.load.options import Plan, plan_of


def planned(environment: Environment) -> Plan:
    """The plan of Locust's options, with a model: where none is named, the first that an OpenAI server lists.

    Raises:
        LoadError: an option is wrong, or there is no such server.
    """
    plan = plan_of(argparse.Namespace(**vars(environment.parsed_options) | {"host": environment.host}))
    target = plan.target
    if plan.transport == "triton-grpc":
        from loadtests.load.streams.triton_grpc import init_grpc_for_gevent  # to import gRPC takes half a second

        init_grpc_for_gevent()
    if target.model:
        return plan
    url = target.host.rstrip("/").removesuffix("/v1") + "/v1/models"
    try:
        model = json.loads(get(url, min(10, target.timeout_s), target.headers))["data"][0]["id"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise LoadError(f"--model: {url} names none ({error})", fix="Start the server, or give --model") from None
    return plan.model_copy(update={"model": model})
