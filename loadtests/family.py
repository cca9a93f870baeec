"""The processes of a running deployment by what they are: whom a kill hits, and whose memory a soak watches."""

from collections.abc import Callable, Iterable
from contextlib import suppress

import psutil

from contract import programs

SUPERVISOR, SERVER, GATEWAY = "supervisor", "tritonserver", "gateway"
GUARD = "'s guard"  # ends a process of the supervisor's, and all that it started, when the supervisor dies
# What runs beside the server, or an engine beside its stage, and its module.
_PLACE = "--worker"  # and then its number, on the command line of each of several that are one
_BESIDE = {GATEWAY: programs.GATEWAY, "filter": programs.FILTER, "worker": programs.WORKER}

Family = dict[str, psutil.Process]


def family_of(supervisor_pid: int) -> Family:
    """A supervisor and all its processes; a stage has its model's name. Empty where it is gone."""
    found: Family = {}
    with suppress(psutil.NoSuchProcess):
        supervisor = psutil.Process(supervisor_pid)
        found[SUPERVISOR] = supervisor
        for process in supervisor.children(recursive=True):
            with suppress(psutil.Error):
                found[_name(process)] = process
    return found


def _name(process: psutil.Process) -> str:
    command = process.cmdline()
    if any(part.endswith("guard.py") for part in command):
        beside = (name for name in _BESIDE for part in command if part.startswith(f"{name}_"))
        return next(beside, SERVER) + GUARD
    for name, program in _BESIDE.items():
        if tuple(command[1:3]) == program:
            return f"{name}'s worker {command[-1].partition(':')[0]}" if _PLACE in command else name
    stage = next((part.split("/")[-3] for part in command if part.endswith("/1/model.py")), "")
    return stage or process.name()


def is_gateway(name: str) -> bool:
    """Whether a process is the gateway, or one of those that answer for it."""
    return name.startswith(GATEWAY) and not name.endswith(GUARD)


def replaced(supervisor_pid: int, name: str, pid: int) -> bool:
    """Whether another process is in a killed one's place."""
    family = family_of(supervisor_pid)
    return name in family and family[name].pid != pid


def with_words(*words: str) -> Callable[[], list[psutil.Process]]:
    """The processes of this machine whose command line has all of these words, whenever it is asked."""

    def find() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if all(word in process.cmdline() for word in words):
                    found.append(process)
        return found

    return find


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """CPU time that they have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def memory_mib(family: Family) -> dict[str, float]:
    """Resident memory of each process that is there."""
    memory = {}
    for name, process in family.items():
        with suppress(psutil.Error):
            memory[name] = round(process.memory_info().rss / 2**20, 1)
    return memory
