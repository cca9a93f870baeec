"""How many processes answer for one gateway."""

from contract.cores import cores
from contract.spec import Deployment

_SHARED = 8  # cores, from which on it is more than one: below, the engine and its stages want them
_MOST = 4  # one answers some 1,200 requests a second, or sends 8,500 chunks (docs/performance.md)


def process_count(spec: Deployment) -> int:
    """As the spec has it, or by the cores that this process may use."""
    wanted = spec.gateway.processes
    if wanted != "auto":
        return wanted
    available = cores()
    return 1 if available < _SHARED else min(_MOST, available // 4)
