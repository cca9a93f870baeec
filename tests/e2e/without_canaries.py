"""``python -m serving serve`` with no canary after the first: one that joins a batch can turn a near-tie of int8."""

import math
import sys
from pathlib import Path

from contract.spec import load_spec
from serving.canary import Pace
from serving.lifecycle import supervise
from serving.screen import Screen
from serving.supervision import Policy

if __name__ == "__main__":
    _, _, config, _, root = sys.argv  # serve CONFIG --root ROOT
    policy = Policy(pace=Pace(interval_s=math.inf))
    sys.exit(supervise(load_spec(Path(config)), Path(root), config, Screen(), policy=policy))
