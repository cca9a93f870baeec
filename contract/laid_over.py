"""What goes over the packages of an image that has its own: of pyproject.toml's requirements, those that it may lack.

numpy, transformers and torch are the image's, and stay as they are. ``python3 -m contract.laid_over`` prints what make
lays over TensorRT-LLM's, which has a Triton too. Standard library only.
"""

import tomllib
from pathlib import Path

from contract.engines.trtllm.images import LACKS

SERVER = ("msgspec", "prometheus-client", "psutil", "pydantic", "pyyaml", "rich", "tritonclient", "typer")
GATEWAY = (
    *("backports.zstd", "httptools", "jinja2", "starlette", "uvicorn", "uvloop"),
    *("opentelemetry-exporter-otlp-json-file", "opentelemetry-exporter-otlp-proto-http", "opentelemetry-sdk"),
)
# Where the image has no Triton: the wheel's, and its filter.
WHEEL = ("hpack", "httptools", "nvidia-pytriton", "uvloop")
BUILD = ("gguf", "modelscope-hub", "safetensors")
_LOAD = ("jsonschema-rs", "locust", "optuna")


def requirements(pyproject: Path, names: tuple[str, ...]) -> list[str]:
    """pip's requirements of these packages, as the project has them."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    return [
        line
        for line in (*project["project"]["dependencies"], *groups["build"], *groups["load"])
        if line.startswith(names)
    ]


if __name__ == "__main__":
    wanted = requirements(Path("pyproject.toml"), (*SERVER, *GATEWAY, *BUILD, *_LOAD))
    print(*wanted, *LACKS, sep="\n")
