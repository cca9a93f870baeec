"""Which container image runs what, pinned by tag and, where it is known, by digest.

No image registry can be asked from where this was written. A digest stands here when independent public
sources name the same one for the tag; where they do not, the tag alone is the pin.
"""

from dataclasses import dataclass, replace

from contract.engines.trtllm.images import LACKS, PINNED
from contract.errors import SpecError


@dataclass(frozen=True)
class Image:
    """One image, and what it already has."""

    name: str  # with its tag
    digest: str = ""
    triton: bool = False  # NVIDIA's, with a Triton server in it
    packages: bool = False  # has a Python environment of its own, which ours must be laid over
    starts: bool = False  # starts a program of its own, whatever command it is given
    lacks: tuple[str, ...] = ()  # pip's requirements: what its own packages import and is too old there

    @property
    def reference(self) -> str:
        """What a container engine is given."""
        return f"{self.name}@{self.digest}" if self.digest else self.name


# A small Python with uv: all else that the CPU runtimes and the gateway need comes from uv.lock.
PYTHON = Image(
    "ghcr.io/astral-sh/uv:0.12.0-python3.12-trixie-slim",
    "sha256:837853d0f4703dbada56fd0807ea1db01eccca02db0af3b1f0cee5e902077107",
)
_TRTLLM = Image(PINNED, triton=True, packages=True, lacks=LACKS)
_VLLM = Image("nvcr.io/nvidia/tritonserver:26.08-vllm-python-py3", triton=True, packages=True)  # vLLM 0.27.1
_VLLM_OPENAI = Image(  # no Triton in it: the one in the wheel
    "vllm/vllm-openai:v0.26.0",
    "sha256:ffb2d59b1c059a5bd8d781320c9f5189de8293693b7d95da54befddaa54abf52",
    packages=True,
    starts=True,
)
# Each has its engine's release of contract/; Triton comes out of the wheel, and TurboMind is CUDA 12's in any image.
_SGLANG = Image("lmsysorg/sglang:v0.5.17", packages=True, starts=True)
_LMDEPLOY = Image("openmmlab/lmdeploy:v0.18.0-cu12.8", packages=True, starts=True)

# By runtime, as contract.engines.kinds names it; the first is the default.
SERVERS: dict[str, tuple[Image, ...]] = {
    "openvino": (PYTHON,),
    "synthetic": (PYTHON,),
    "trtllm": (_TRTLLM,),
    "vllm": (_VLLM, _VLLM_OPENAI),
    "sglang": (_SGLANG,),
    "lmdeploy": (_LMDEPLOY,),
}

PROMETHEUS = Image("prom/prometheus:v3.13.3", "sha256:6976aa8a60fec930796ce5772b8d12da7a318a5daa8d40d69c5c7819a05eeed7")
GRAFANA = Image("grafana/grafana:13.2.3", "sha256:b28bae15e219c998fb0e0424ed724930cc61b1f61fb404d47c862f9a23f9e572")
DCGM = Image("nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3-4.8.2-distroless")
WEBUI = Image(
    "ghcr.io/open-webui/open-webui:v0.11.3", "sha256:41daa0cf2561a5d4c8d1ff31ee2a98d93ab4d3ac2605cac69366ff6a3374a933"
)


def server_image(runtime: str, chosen: str = "") -> Image:
    """The image of a runtime's server.

    Args:
        chosen: another than the first: one of the table's, or one of the same program from a mirror or with another
            tag; '' for the first.

    Raises:
        SpecError: the table has none.
    """
    known = SERVERS.get(runtime)
    if known is None:
        raise SpecError(f"engine.runtime: no image is known for {runtime}", fix=f"Known: {', '.join(SERVERS)}")
    if not chosen:
        return known[0]
    for image in known:
        if chosen == image.name:
            return image
        if _program(chosen) == _program(image.name):
            return replace(image, name=chosen, digest="")
    raise SpecError(
        f"image {chosen} is none that runs {runtime}", fix=f"Known: {', '.join(image.name for image in known)}"
    )


def _program(image: str) -> str:
    """What an image's name calls the program: without registry, owner, tag and digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]
