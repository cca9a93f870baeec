"""Whether NVIDIA's driver runs what an image was made with, by CUDA's own rules of compatibility."""

from collections.abc import Sequence

COMPATIBLE = (535, 550, 570)  # older branches for which CUDA 13 has compat libraries
_NO_DATA_CENTRE = ("GeForce", "RTX", "Quadro", "TITAN")


def driver_fault(driver: str, oldest: int, gpus: Sequence[str]) -> str:
    """Why a driver cannot run an image, and what to do; '' if it can, or if nothing is known of either.

    Args:
        driver: its version; '' where there is none.
        oldest: the oldest branch that runs the image by itself; 0 where that is not known.
        gpus: the GPUs' names.
    """
    if not driver or branch(driver) >= oldest or driver_caution(driver, oldest, gpus):
        return ""
    return f"the driver is {driver}, the container needs {oldest} or newer. Update the driver"


def driver_caution(driver: str, oldest: int, gpus: Sequence[str]) -> str:
    """What to know of a driver that runs an image by CUDA's compat libraries alone; '' for any other."""
    bridged = branch(driver) in COMPATIBLE and not any(word in gpu for gpu in gpus for word in _NO_DATA_CENTRE)
    if not bridged or branch(driver) >= oldest:
        return ""
    return (
        f"the driver is {driver}, older than the container's {oldest}: data-centre GPUs run it by the image's CUDA "
        "compat libraries (/usr/local/cuda/compat). Update the driver if CUDA does not start"
    )


def branch(driver: str) -> int:
    """``580`` of ``580.159.04``; 0 where it has none."""
    number = driver.strip().partition(".")[0]
    return int(number) if number.isdecimal() else 0
