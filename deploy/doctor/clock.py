"""Whether something keeps this node's clock right: the kernel's own word for it, and chrony's where it runs.

How far it is from the head's is measured by ``deploy.doctor.comm``, which has somebody to ask there.
"""

import ctypes
import re
from dataclasses import dataclass

from deploy.doctor.case import Case, Said, ask
from deploy.doctor.result import Result

_UNSYNCHRONIZED = 0x40  # STA_UNSYNC of linux/timex.h
_CHRONY = ("chronyc", "-n", "tracking")
_WARN_S = 0.1  # beyond it logs and traces of two nodes cannot be put in order


class _Timex(ctypes.Structure):
    """The beginning of the kernel's struct timex on 64 bits, and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


@dataclass(frozen=True)
class Kernel:
    """What the kernel knows of its clock."""

    synchronized: bool
    max_error_s: float


def kernel() -> Kernel | None:
    """The kernel's word, without changing anything; None where a sandbox forbids to ask."""
    timex = _Timex(modes=0)
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
        return None
    return Kernel(not timex.status & _UNSYNCHRONIZED, timex.maxerror / 1e6)


def check(case: Case) -> Result:
    """The clock of this node."""
    return judge(kernel(), ask(*_CHRONY), several=bool(case.head))


def judge(found: Kernel | None, chrony: Said, *, several: bool) -> Result:
    """The verdict, from what the kernel and chrony say."""
    offset = re.search(r"^System time\s*: ([0-9.]+) seconds (slow|fast)", chrony.text, re.MULTILINE)
    leap = re.search(r"^Leap status\s*: (.+)$", chrony.text, re.MULTILINE)
    todo = "run chrony or systemd-timesyncd, on every node from one source"
    if offset and leap and leap[1].strip() != "Not synchronised":
        seen = f"chrony: {float(offset[1]) * 1e3:.3g} ms {offset[2]} of its source"
        return Result("clock", "warn", seen, todo) if float(offset[1]) > _WARN_S else Result("clock", "ok", seen)
    if found is None:
        return Result("clock", "skipped", "the kernel does not let this process ask (adjtimex)")
    if found.synchronized:
        return Result("clock", "ok", f"synchronized, within {found.max_error_s * 1e3:.3g} ms")
    return Result("clock", "warn" if several else "ok", "nothing synchronizes it", todo if several else "")
