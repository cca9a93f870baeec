"""Which model is asked where none was named."""

import json

from loadtests.load.fault import LoadError
from loadtests.load.get import get
from loadtests.load.options import Plan


def with_model(plan: Plan) -> Plan:
    """The same plan with a model: the first that an OpenAI server lists.

    Raises:
        LoadError: no such server.
    """
    target = plan.target
    if target.model:
        return plan
    url = target.host.rstrip("/").removesuffix("/v1") + "/v1/models"
    try:
        model = json.loads(get(url, min(10, target.timeout_s), target.headers))["data"][0]["id"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise LoadError(f"--model: {url} names none ({error})", fix="Start the server, or give --model") from None
    return plan.model_copy(update={"model": model})
