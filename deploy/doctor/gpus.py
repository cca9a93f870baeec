"""NVIDIA's driver and GPUs, from ``nvidia-smi -q -x``: versions, and what makes a GPU unfit to be used."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from contract.driver import driver_caution, driver_fault
from contract.engines.trtllm.images import oldest_driver
from deploy.doctor.case import Case, Said
from deploy.doctor.result import Result

SMI = ("nvidia-smi", "-q", "-x")
_SLOWED = {
    "hw_thermal_slowdown": "is slowed by heat",
    "hw_power_brake_slowdown": "is slowed by its power supply",
}


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver describes it."""

    name: str
    memory_mib: int  # 0 where the driver does not tell, as of GPUs that share the host's
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Smi:
    """What nvidia-smi says of a node."""

    driver: str
    cuda: str  # the newest CUDA that the driver runs
    gpus: tuple[Gpu, ...]


def parse(text: str) -> Smi | None:
    """The answer to :data:`SMI`; None where it is none."""
    try:
        log = ET.fromstring(text)  # noqa: S314  # the driver's own program wrote it
    except ET.ParseError:
        return None
    gpus = tuple(
        Gpu(_text(gpu, "product_name"), _number(_text(gpu, "fb_memory_usage/total")), tuple(_faults(gpu)))
        for gpu in log.findall("gpu")
    )
    return Smi(_text(log, "driver_version"), _text(log, "cuda_version"), gpus)


def checks(case: Case, answer: Said) -> list[Result]:
    """The driver and the GPUs."""
    smi = parse(answer.text) if answer.text else None
    if smi is None:
        return [_no_driver(case, answer)]
    return [_driver(case, smi), _gpus(case, smi)]


def _no_driver(case: Case, answer: Said) -> Result:
    reason = answer.error or "nvidia-smi said nothing that is XML"
    if not case.on_gpus:
        return Result("driver", "skipped", f"{reason}; runtime {case.spec.engine.runtime} needs no GPU")
    todo = "install NVIDIA's driver, and start a container with --gpus all"
    return Result("driver", "fail", reason, todo if answer.absent else f"{todo}; nvidia-smi says what is wrong with it")


def _driver(case: Case, smi: Smi) -> Result:
    seen, same = f"{smi.driver}, for CUDA up to {smi.cuda}", {"driver": smi.driver, "cuda": smi.cuda}
    engine, names = case.spec.engine, [gpu.name for gpu in smi.gpus]
    oldest = oldest_driver(engine.image)
    if driver_fault(smi.driver, oldest, names):
        todo = f"update it to {oldest} or newer, which {engine.image} needs"
        return Result("driver", "fail", seen, todo, same)
    if caution := driver_caution(smi.driver, oldest, names):
        return Result("driver", "warn", seen, caution, same)
    return Result("driver", "ok", seen, "", same)


def _gpus(case: Case, smi: Smi) -> Result:
    kinds: dict[str, int] = {}
    for gpu in smi.gpus:
        kind = f"{gpu.name} ({gpu.memory_mib / 1024:.0f} GiB)" if gpu.memory_mib else gpu.name
        kinds[kind] = kinds.get(kind, 0) + 1
    seen = ", ".join(f"{count} × {kind}" for kind, count in kinds.items()) or "none"
    same = {"gpus": seen}
    faults = [f"GPU {number} {fault}" for number, gpu in enumerate(smi.gpus) for fault in gpu.faults]
    if not smi.gpus:
        todo = "see nvidia-smi -L, and start a container with --gpus all"
        return Result("GPUs", "fail" if case.on_gpus else "skipped", seen, todo, same)
    if faults:
        todo = "nvidia-smi -q shows more; take the GPU out of service, or reset it when nothing uses it"
        return Result("GPUs", "fail" if case.on_gpus else "warn", f"{seen}; {'; '.join(faults)}", todo, same)
    if len(smi.gpus) < case.gpus and case.spec.cluster:
        return Result(
            "GPUs", "fail", seen, f"cluster.gpus_per_node is {case.gpus}: correct it, or start with all of them", same
        )
    if len(smi.gpus) < case.gpus:
        todo = f"engine.parallel takes {case.gpus}: other nodes must have the rest"
        return Result("GPUs", "warn", seen, todo, same)
    if len(kinds) > 1:
        return Result("GPUs", "warn", seen, "one engine's GPUs should be alike: set CUDA_VISIBLE_DEVICES", same)
    return Result("GPUs", "ok", seen, "", same)


def _faults(gpu: ET.Element) -> Iterator[str]:
    volatile = gpu.find("ecc_errors/volatile")
    for count in volatile if volatile is not None else ():
        if "uncorrectable" in count.tag and _number(count.text or ""):
            yield f"has uncorrectable memory errors ({count.tag} {count.text})"
    if _text(gpu, "remapped_rows/remapped_row_failure") == "Yes":
        yield "could not replace a bad row of its memory: it belongs to the vendor"
    if _text(gpu, "remapped_rows/remapped_row_pending") == "Yes":
        yield "replaces a bad row of its memory with its next reset"
    action = _text(gpu, "gpu_recovery_action")
    if action not in ("", "None", "N/A"):
        yield f"asks for recovery: {action}"
    for reason, words in _SLOWED.items():
        if _text(gpu, f"clocks_event_reasons/clocks_event_reason_{reason}") == "Active":
            yield words
    now, most = (_text(gpu, f"pci/pci_gpu_link_info/link_widths/{which}_link_width") for which in ("current", "max"))
    if _number(now) < _number(most):
        yield f"has {now} of {most} PCIe lanes"
    state, status = _text(gpu, "fabric/state"), _text(gpu, "fabric/status")
    if state not in ("", "N/A") and (state != "Completed" or status != "Success"):
        yield f"is not in its NVLink fabric ({state}, {status}): start nvidia-fabricmanager"
    if _text(gpu, "mig_mode/current_mig") == "Enabled":
        yield "is divided (MIG): engines of several GPUs need whole ones"


def _text(element: ET.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(text: str) -> int:
    """The number that a text begins with; 0 for none."""
    digits = text.strip().partition(" ")[0].partition(".")[0].removesuffix("x")
    return int(digits) if digits.isdecimal() else 0
