"""What the doctor is asked about, and how it asks the machine's programs."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from contract.spec import Deployment


@dataclass(frozen=True)
class Case:
    """One node and the deployment that shall run on it.

    Args:
        head: the address of the first node; '' for a deployment of one node.
        engines: the folder that engines are read from.
    """

    spec: Deployment
    head: str
    engines: Path

    @property
    def on_gpus(self) -> bool:
        """Whether the deployment needs GPUs at all."""
        return self.spec.engine.kind.on_gpus

    @property
    def gpus(self) -> int:
        """How many its engine takes on this node, as far as the spec says."""
        cluster = self.spec.cluster
        return cluster.gpus_per_node if cluster else self.spec.engine.parallel.gpus if self.on_gpus else 0

    @property
    def several_gpus(self) -> bool:
        """Whether its GPUs talk to each other."""
        return self.on_gpus and self.spec.engine.parallel.gpus > 1


@dataclass(frozen=True)
class Said:
    """What a program said."""

    text: str = ""
    error: str = ""  # why it said nothing: '' where it did
    absent: bool = False  # it is not installed


def ask(*words: str) -> Said:
    """Run a program that reads something, and no more, for at most twenty seconds."""
    try:
        run = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return Said(error=f"{words[0]} is not installed", absent=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Said(error=f"{words[0]}: {error}")
    if run.returncode:
        last = (run.stderr or run.stdout).strip().splitlines() or [f"exit status {run.returncode}"]
        return Said(error=f"{words[0]}: {last[-1]}")
    return Said(text=run.stdout)
