"""Run the real supervisor over the stand-in: ``supervise_standin.py CONFIG ROOT POLICY_JSON BEHAVIOUR [NUMBER]``."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from contract.errors import ServeError
from contract.spec import Deployment, load_spec
from serving.canary import Pace
from serving.lifecycle import supervise
from serving.screen import Screen, refuse
from serving.supervision import Policy
from serving.triton import Launch

DIES = """print('E1124 04:17:55.000000 1 standin.cc:2] "something broke in here"'); raise SystemExit(9)"""


def launcher(spec: Deployment, root: Path, exit_timeout_s: int) -> Launch:
    if sys.argv[4] == "dies":  # five times in a row: without the imports of a real one
        return Launch([sys.executable, "-I", "-S", "-c", DIES], dict(os.environ))
    standin = str(Path(__file__).with_name("standin.py"))
    ports = [str(spec.ports.grpc), str(spec.ports.metrics)]
    return Launch([sys.executable, standin, *ports, *sys.argv[4:]], dict(os.environ))


if __name__ == "__main__":
    given = json.loads(sys.argv[3])
    policy = Policy(pace=Pace(**given.pop("pace", {})), **given)
    config = Path(sys.argv[1])
    try:
        sys.exit(
            supervise(load_spec(config), Path(sys.argv[2]), str(config), Screen(), policy=policy, launcher=launcher)
        )
    except ServeError as error:
        refuse(error)
        sys.exit(1)
