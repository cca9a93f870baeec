"""A cluster that contradicts itself, its engine or its ports is refused by the name of the key."""

from pathlib import Path

import pytest

from contract.errors import SpecError
from contract.spec import load_spec

GOOD = """\
name: large
source: {kind: path, path: /models/large}
engine:
  runtime: vllm
  precision: bf16
  parallel: {tensor: 8, pipeline: 2}
cluster:
  nodes:
    - {name: gpu-a, address: 10.0.0.1}
    - {name: gpu-b, address: 10.0.0.2}
  fabric: {interface: eth0}
verify: {reference: none}
"""


def read(folder: Path, *changed: tuple[str, str]) -> str:
    """What is said of a changed spec; '' where nothing is."""
    text = GOOD
    for old, new in changed:
        assert old in text
        text = text.replace(old, new)
    path = folder / "c.yaml"
    path.write_text(text)
    try:
        load_spec(path)
    except SpecError as error:
        return str(error).replace(str(path), "c.yaml")
    return ""


def test_a_good_one(tmp_path: Path) -> None:
    assert read(tmp_path) == ""
    assert read(tmp_path, ("10.0.0.1", "127.0.0.1"), ("10.0.0.2", "127.0.0.2")) == ""  # all on one machine


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("gpu-b,", "gpu-a,"), "c.yaml:10: cluster.nodes.1.name: gpu-a is nodes.0's already. Name each machine once"),
        (
            ("10.0.0.2", "10.0.0.1"),
            "c.yaml:10: cluster.nodes.1.address: 10.0.0.1 is nodes.0's already. Name each machine once",
        ),
        (
            ("10.0.0.2", "127.0.0.1"),
            "c.yaml:10: cluster.nodes.1.address: 127.0.0.1 is no address for other machines. Give the network's",
        ),
        (
            ("10.0.0.1", "0.0.0.0"),
            "c.yaml:9: cluster.nodes.0.address: 0.0.0.0 is no address for other machines. Give the network's",
        ),
        (
            ("pipeline: 2", "pipeline: 1"),
            "c.yaml:8: cluster.nodes: 2 × 8 GPUs (gpus_per_node) are 16, and engine.parallel takes 8 "
            "(tensor 8 × pipeline 1). Make them the same",
        ),
        (
            ("  fabric:", "  gpus_per_node: 4\n  fabric:"),
            "c.yaml:8: cluster.nodes: 2 × 4 GPUs (gpus_per_node) are 8, and engine.parallel takes 16 "
            "(tensor 8 × pipeline 2). Make them the same",
        ),
        (
            ("  fabric:", "  port: 8001\n  fabric:"),
            "c.yaml:11: cluster.port: 8001 is ports.grpc already, and the head has both. Choose another",
        ),
        (
            ("reference: none", "reference: cpu"),
            "c.yaml:12: verify.reference: a model of several machines is not verified on one of them. Set it to none",
        ),
        (("name: gpu-b", "nam: gpu-b"), "c.yaml:10: cluster.nodes.1.nam: unknown key; did you mean name?"),
        (("eth0}", "eth0, gid_index: 3}"), "c.yaml:11: cluster.fabric: gid_index is of RDMA devices"),
        (
            ("runtime: vllm\n  precision: bf16\n  parallel: {tensor: 8, pipeline: 2}", "runtime: openvino"),
            "c.yaml:4: engine.runtime: openvino takes no cluster. Use sglang, vllm, trtllm, or leave the cluster out",
        ),
        (
            (
                "    - {name: gpu-b, address: 10.0.0.2}\n",
                "    - {name: gpu-b, address: 10.0.0.2}\n    - {name: gpu-c, address: 10.0.0.3}\n",
            ),
            "cluster.nodes: 3 × 8 GPUs",
        ),
    ],
)
def test_what_is_refused_and_where(changed: tuple[str, str], said: str, tmp_path: Path) -> None:
    assert said in read(tmp_path, changed)


def test_stages_that_sglang_cannot_place(tmp_path: Path) -> None:
    third = "10.0.0.2}\n    - {name: gpu-c, address: 10.0.0.3}"
    changed = [("runtime: vllm", "runtime: sglang"), ("tensor: 8", "tensor: 12"), ("10.0.0.2}", third)]
    said = read(tmp_path, *changed)
    assert said.startswith("c.yaml:6: engine.parallel.pipeline: 2 stages over 3 nodes. SGLang places whole stages")


def test_tensorrt_llm_counts_the_same_gpus(tmp_path: Path) -> None:
    said = read(
        tmp_path,
        ("runtime: vllm\n", "runtime: trtllm\n  trtllm: {backend: pytorch, gpus_per_node: 4}\n"),
    )
    assert "cluster.gpus_per_node: is 8, and engine.trtllm.gpus_per_node is 4. Make them the same" in said


def test_ray_holds_nodes_together_and_one_machine_needs_none(tmp_path: Path) -> None:
    ray = ("precision: bf16\n", "precision: bf16\n  vllm: {distributed_executor_backend: ray}\n")
    assert read(tmp_path, ray) == ""
    alone = read(tmp_path, ray, (GOOD[GOOD.index("cluster:") : GOOD.index("verify:")], ""))
    assert "engine.vllm.distributed_executor_backend: ray is of a cluster" in alone


@pytest.mark.parametrize(
    ("replicas", "said"),
    [
        ("[10.0.0.1:8001, 10.0.0.1:8001]", "gateway: replicas has 10.0.0.1:8001 twice: name each server once"),
        ("[10.0.0.1]", "gateway.replicas.0: string should match pattern"),
    ],
)
def test_servers_behind_a_gateway(replicas: str, said: str, tmp_path: Path) -> None:
    assert said in read(tmp_path, ("verify:", f"gateway: {{replicas: {replicas}}}\nverify:"))
