"""One node's report: every check, and the environment that follows from its network."""

import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from contract.fabric import Fabric
from deploy.doctor import clock, container, disk, gpus, memory, network, ports, topology
from deploy.doctor.case import Case, ask
from deploy.doctor.result import Result


@dataclass(frozen=True)
class Report:
    """What the doctor found on one node."""

    node: str
    deployment: str
    written: str
    results: tuple[Result, ...]
    fabric: Fabric | None

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        data = vars(self) | {"results": [asdict(result) for result in self.results]}
        return data | {"fabric": self.fabric.model_dump(mode="json") if self.fabric else None}

    @classmethod
    def load(cls, data: dict[str, Any]) -> "Report":
        """From JSON.

        Raises:
            KeyError, TypeError, ValueError: it is no report.
        """
        results = tuple(Result(**each) for each in data["results"])
        fabric = Fabric.model_validate(data["fabric"]) if data["fabric"] else None
        return cls(data["node"], data["deployment"], data["written"], results, fabric)


def examine(case: Case) -> Report:
    """Look at this node."""
    net = network.recommended(case.head)
    results: Iterable[Result] = (
        *gpus.checks(case, ask(*gpus.SMI)),
        topology.check(case, ask(*topology.TOPOLOGY)),
        container.check(case),
        memory.shm(case),
        memory.memlock(case),
        ports.check(case),
        clock.check(case),
        disk.check(case),
        *net.results,
    )
    return Report(
        node=platform.node(),
        deployment=case.spec.name,
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        results=tuple(results),
        fabric=net.fabric,
    )
