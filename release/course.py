"""A release under way: what it is for, what it has found, and who is told."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contract.rollout import release_folder
from release.history import Report
from release.live import Live


@dataclass(frozen=True)
class Course:
    """One release."""

    live: Live
    report: Report
    say: Callable[[str], None]

    @property
    def folder(self) -> Path:
        """What is kept of it."""
        return release_folder(self.live.run_dir, self.report.release)
