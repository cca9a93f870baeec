"""The NGC images that carry Triton and TensorRT-LLM, and what is inside (Triton's own compatibility matrix)."""

import re
from dataclasses import dataclass

REPOSITORY = "nvcr.io/nvidia/tritonserver"
SUFFIX = "-trtllm-python-py3"
PINNED = f"{REPOSITORY}:26.07{SUFFIX}"
# pip's requirements. TensorRT-LLM 1.2's PyTorch path imports tensorrt_llm.serve, which needs names that the openai
# 1.107.3 of Triton's own front end has not; openai 3 brings dependencies that the image has not.
LACKS = ("openai>=2,<3",)


@dataclass(frozen=True)
class Image:
    """One release."""

    tensorrt_llm: str
    tensorrt: str = ""  # '' where the matrix does not tell
    driver: int = 0  # the oldest branch that runs its CUDA by minor-version compatibility


RELEASES = {
    "25.10": Image("1.0.0", "10.11.0.33", 575),
    "25.11": Image("1.0.3.2510", "10.13.3.9"),
    "25.12": Image("1.1.0", "", 580),
    "26.01": Image("1.1.0"),
    "26.02": Image("1.1.0", "10.13.3.9", 580),
    "26.03": Image("1.2.0"),
    "26.04": Image("1.2.1", "10.14.1.48", 580),
    "26.05": Image("1.2.1", "10.14.1.48", 580),
    "26.06": Image("1.2.1", "10.14.1.48", 580),
    "26.07": Image("1.2.1", "10.14.1.48", 580),
}

_TAG = re.compile(r":(\d\d\.\d\d)-trtllm-python-py3(@sha256:[0-9a-f]{64})?$")


def release(image: str) -> str:
    """``26.07`` of an image's full name; '' for a name that says nothing of it."""
    found = _TAG.search(image)
    return found[1] if found else ""


def oldest_driver(image: str, label: str = "") -> int:
    """The oldest branch that runs an image without more; 0 where that is not known.

    Args:
        label: the release that the container calls itself; '' outside.
    """
    listed = RELEASES.get(label) or inside(image)
    return listed.driver if listed else 0


def inside(image: str) -> Image | None:
    """What an image has inside, by its tag."""
    return RELEASES.get(release(image))
