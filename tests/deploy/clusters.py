"""The clusters that the tests render; ``python -m tests.deploy.clusters`` writes their golden files anew."""

from pathlib import Path
from typing import Any

from contract.spec import Deployment, load_spec
from deploy.cluster import Target, render_cluster
from tests.deploy.cases import CODE, GOLDEN, TORCH, site

R1 = "configs/deepseek-r1-bf16-sglang.yaml"
FABRIC = {"interface": "bond0", "rdma": ["mlx5_0", "mlx5_1"], "gid_index": 3}


def over(nodes: int, runtime: str, parallel: dict[str, int], cluster: dict[str, Any] | None = None, **more: Any) -> Any:
    """A deployment over so many machines of eight GPUs, behind a gateway for others."""
    named = [{"name": f"gpu-{number}", "address": f"10.0.0.{number}"} for number in range(1, nodes + 1)]
    return {
        "name": "large",
        "source": {"kind": "huggingface", "repo": "Qwen/Qwen3-235B-A22B"},
        "engine": {"runtime": runtime, "precision": "bf16", "parallel": parallel, **more},
        "gateway": {"host": "0.0.0.0", "keys": "keys"},
        "verify": {"reference": "none"},
        "cluster": {"nodes": named, "fabric": FABRIC, **(cluster or {})},
    }


def spec(case: str) -> Deployment:
    """A case's deployment."""
    return load_spec(CODE / R1) if case == "r1" else Deployment.model_validate(CASES[case])


KEDA = {"by": "keda", "max_servers": 3, "tokens": 400_000, "prometheus": "http://prometheus.monitoring:9090"}
HPA = {"by": "hpa", "min_servers": 2, "max_servers": 4, "waiting": 8}
RAY = {"distributed_executor_backend": "ray"}
CASES: dict[str, Any] = {
    "r1": None,  # the configuration that is shipped
    "vllm-native": over(2, "vllm", {"tensor": 8, "pipeline": 2}),
    "vllm-ray": over(2, "vllm", {"tensor": 16}, {"fabric": None}, vllm=RAY),
    "ktransformers": over(
        1,
        "sglang",
        {"tensor": 2},
        {"gpus_per_node": 2, "fabric": None},
        sglang={"kt": {"weight_path": "/models/experts-amxint4", "num_gpu_experts": 8, "cpuinfer": 60}},
    ),
    "vllm-scaled": over(2, "vllm", {"tensor": 16}, {"fabric": None, "scale": KEDA}),
    "sglang-scaled": over(1, "sglang", {"tensor": 8}, {"fabric": None, "scale": HPA}),
    "trtllm-nodes": over(2, "trtllm", {"tensor": 16, "expert": 16}, trtllm={"backend": "pytorch", "gpu": "h100"}),
}
# By case, what is reviewed of each target.
REVIEWED: dict[str, dict[Target, tuple[str, ...]]] = {
    "r1": {
        "shell": ("node-0.sh", "node-3.sh"),
        "compose": ("node-3/compose.yaml",),
        "slurm": ("job.sbatch",),
        "kubernetes": ("kubernetes.yaml",),
    },
    "vllm-native": {"shell": ("node-0.sh", "node-1.sh"), "compose": ("node-1/compose.yaml",)},
    "vllm-ray": {"shell": ("node-0.sh", "node-1.sh"), "kubernetes": ("kubernetes.yaml",)},
    "vllm-scaled": {"kubernetes": ("kubernetes.yaml",)},
    "sglang-scaled": {"kubernetes": ("kubernetes.yaml",)},
    "ktransformers": {"shell": ("node-0.sh",)},
    "trtllm-nodes": {
        "shell": ("node-0.sh", "node-1.sh", "rank.sh", "requirements.txt"),
        "slurm": ("job.sbatch", "hosts"),
        "kubernetes": ("kubernetes.yaml",),
    },
}


def files(case: str, target: Target) -> dict[str, str]:
    """A case's rendered files, as if for ``/srv/conch``."""
    deployment = spec(case)
    assert deployment.cluster
    where = site(deployment.name, CODE)
    config = R1 if case == "r1" else "configs/large.yaml"
    found = render_cluster(deployment, deployment.cluster, where, config, target, engine="docker", torch=TORCH)
    return {name: text.replace(str(CODE), "/srv/conch") for name, text in found.items()}


def golden(case: str) -> dict[str, str]:
    """What is reviewed of a case, by its name without folders."""
    return {
        f"{target}-{Path(name).name}": files(case, target)[name]
        for target, names in REVIEWED[case].items()
        for name in names
    }


if __name__ == "__main__":
    for case in CASES:
        for name, text in golden(case).items():
            path = GOLDEN / case / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
