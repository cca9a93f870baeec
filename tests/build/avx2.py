"""A CPU with AVX2 and no more, for programs started on one that has AVX-512 or AMX."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_suffix(".c")
_MORE = re.compile(r" (?:avx512|amx_|avx_vnni)\w*")


def environment(folder: Path) -> dict[str, str]:
    """The variables under which OpenVINO, oneDNN, torch and we ourselves find no more; none where that is so anyway.

    Their kernels are then those of such a CPU. The instructions are still there: what asks for none is not caught.

    Args:
        folder: where the library that is loaded first is compiled.
    """
    cpuinfo = Path("/proc/cpuinfo").read_text()
    if not _MORE.search(cpuinfo):
        return {}
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("this CPU has more than AVX2, and without a C compiler it cannot be hidden")
    library, less = folder / "avx2.so", folder / "cpuinfo"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, _SOURCE], check=True)
    less.write_text(_MORE.sub("", cpuinfo))
    return {
        "LD_PRELOAD": str(library),
        "CPUINFO": str(less),
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
    }
