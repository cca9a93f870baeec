"""``python -m serving serve`` that starts a dead server again at once, how often it died before."""

import sys
from pathlib import Path

from contract.spec import load_spec
from serving.lifecycle import supervise
from serving.screen import Screen
from serving.supervision import Policy

if __name__ == "__main__":
    _, _, config, _, root = sys.argv  # serve CONFIG --root ROOT
    sys.exit(supervise(load_spec(Path(config)), Path(root), config, Screen(), policy=Policy(backoff_s=(0.25,))))
