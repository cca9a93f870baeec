"""What a cluster's nodes are given: what was reviewed, what an expert writes by hand, and what real readers accept."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from contract.checkout import ROOT
from contract.engines.vllm.arguments import engine_args
from contract.errors import SpecError
from contract.spec import Deployment, write_spec
from deploy.cluster import Target, render_cluster
from tests.deploy.cases import CODE, GOLDEN, TORCH, cpu, site
from tests.deploy.clusters import CASES, HPA, files, golden, over, spec
from tests.deploy.tools import COMPOSE, run, write

SHELLCHECK = Path(sys.executable).with_name("shellcheck")
KUBERNETES = "1.35"
LWS = yaml.safe_load(Path(__file__).with_name("leaderworkerset.yaml").read_text())
KEDA = yaml.safe_load(Path(__file__).with_name("scaledobject.yaml").read_text())
SCALED = {"vllm-scaled": "ScaledObject", "sglang-scaled": "HorizontalPodAutoscaler"}
ON_KUBERNETES = ("r1", "vllm-native", "vllm-ray", "trtllm-nodes", *SCALED)


@pytest.mark.parametrize("case", CASES)
def test_rendered_as_reviewed(case: str) -> None:
    reviewed = {path.name: path.read_text(encoding="utf-8") for path in (GOLDEN / case).iterdir()}
    assert golden(case) == reviewed, "look at it, then python -m tests.deploy.clusters writes it"


def options(script: str) -> dict[str, str]:
    """The options of a script's array, each with its value; no line without a comment above it."""
    lines = script.split("options=(\n")[1].split("\n)")[0].splitlines()
    found, explained = {}, False
    for line in map(str.strip, lines):
        if line.startswith("#"):
            explained = True
            continue
        assert explained, f"{line} has no reason"
        explained = False
        name, *value = shlex.split(line)
        found[name] = " ".join(value)
    return found


@pytest.mark.parametrize("rank", range(4))
def test_r1_on_32_a100s_is_what_an_expert_writes_by_hand(rank: int) -> None:
    """As SGLang's own pages have it for four machines of eight A100s and the BF16 weights."""
    script = files("r1", "shell")[f"node-{rank}.sh"]
    ours = options(script)
    by_hand = {
        "--model-path": "/srv/conch/engines/deepseek-r1-bf16-sglang/current",
        "--tp-size": "32",
        "--dist-init-addr": "10.0.0.1:5000",
        "--nnodes": "4",
        "--node-rank": str(rank),
        "--trust-remote-code": "",
        "--host": "127.0.0.1",  # by hand 0.0.0.0: here the gateway is what others reach
        "--port": "30000",
    }
    of_the_limits = {
        "--dtype": "bfloat16",
        "--context-length": "32774",
        "--max-running-requests": "65",
        "--chunked-prefill-size": "8192",
    }
    assert ours == by_hand | of_the_limits
    assert re.findall(r"^export (\S+)", script, re.MULTILINE) == [
        "NCCL_SOCKET_IFNAME='=eth0'",
        "GLOO_SOCKET_IFNAME='eth0'",
        "NCCL_IB_HCA='=mlx5_0,mlx5_1,mlx5_2,mlx5_3'",
        "NCCL_IB_GID_INDEX='3'",
    ]
    assert "sglang.launch_server" in script


def test_ktransformers_is_arguments_of_sglang() -> None:
    ours = options(files("ktransformers", "shell")["node-0.sh"])
    assert {name: value for name, value in ours.items() if name.startswith("--kt-")} == {
        "--kt-weight-path": "/models/experts-amxint4",
        "--kt-num-gpu-experts": "8",
        "--kt-cpuinfer": "60",
        "--kt-threadpool-count": "2",
        "--kt-method": "AMXINT4",
    }
    assert "--nnodes" not in ours  # one machine


def test_vllm_on_every_node_has_the_heads_arguments() -> None:
    deployment = spec("vllm-native")
    head = engine_args(Path("/srv/conch/engines/large/current"), deployment)
    ours = options(files("vllm-native", "shell")["node-1.sh"])
    for name, value in ours.items():
        if not name.startswith("/") and name not in ("--headless", "--node-rank"):
            assert str(head[name.removeprefix("--").replace("-", "_")]) == value
    assert head["model"] in ours
    assert (ours["--node-rank"], head["node_rank"]) == ("1", 0)


@pytest.mark.parametrize("runtime", ["vllm", "sglang"])
def test_adapters_are_every_nodes(runtime: str) -> None:
    lora = {"adapters": {"law": "/adapters/law"}, "max_rank": 16}
    deployment = Deployment.model_validate(over(2, runtime, {"tensor": 16}, **{runtime: {"lora": lora}}))
    assert deployment.cluster
    scripts = render_cluster(
        deployment, deployment.cluster, site("large", CODE), "x", "shell", engine="docker", torch=""
    )
    for script in (scripts["node-0.sh"], scripts["node-1.sh"]):
        ours = options(script)
        assert (ours["--enable-lora"], ours["--max-lora-rank"]) == ("", "16")
        assert f"(engine.{runtime}.lora)" in script


def test_the_head_is_the_first_and_rank_0() -> None:
    scripts = files("vllm-ray", "shell")
    assert list(scripts) == ["node-0.sh", "node-1.sh"]
    assert "--head" in options(scripts["node-0.sh"])
    assert options(scripts["node-1.sh"])["--address=10.0.0.1:5000"] == ""
    hosts = files("trtllm-nodes", "slurm")["hosts"].split()
    assert hosts == ["gpu-1"] * 8 + ["gpu-2"] * 8


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", ["shell", "slurm"])
def test_shellcheck_has_nothing_to_say(case: str, target: Target, tmp_path: Path) -> None:
    folder = write(tmp_path, files(case, target))
    scripts = [path for path in folder.iterdir() if path.suffix != ".txt" and path.name != "hosts"]
    checked = run(SHELLCHECK, *scripts)
    assert checked.returncode == 0, checked.stdout


def documents(case: str) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all(files(case, "kubernetes")["kubernetes.yaml"])]


def strict(schema: Any) -> Any:
    """The schema with every field that it does not name refused, as the API server warns of them."""
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "properties" in schema else {}
    return {key: strict(value) for key, value in schema.items()} | closed


def check(document: dict[str, Any]) -> None:
    """A document by the schema of its kind."""
    if document["kind"] == "ScaledObject":
        assert document["apiVersion"] == "keda.sh/v1alpha1"
        jsonschema.validate(document["spec"], strict(KEDA))
        return
    if document["kind"] != "LeaderWorkerSet":
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    assert document["apiVersion"] == "leaderworkerset.x-k8s.io/v1"
    jsonschema.validate(document["spec"], strict(LWS))
    group = document["spec"]["leaderWorkerTemplate"]
    for template in (group["leaderTemplate"], group["workerTemplate"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}} | template
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("case", ON_KUBERNETES)
def test_kubernetes_and_the_leader_worker_set_know_every_field(case: str) -> None:
    found = documents(case)
    kinds = ["ConfigMap", "LeaderWorkerSet", "Service", "PodDisruptionBudget"]
    kinds += [SCALED[case]] if case in SCALED else []
    rights = ["ServiceAccount", "Role", "RoleBinding"] if case == "trtllm-nodes" else []
    assert [document["kind"] for document in found] == [kinds[0], *rights, *kinds[1:]]
    for document in found:
        check(document)


@pytest.mark.parametrize(
    "path",
    [
        "spec.leaderWorkerTemplate.sizes",
        "spec.startUpPolicy",
        "spec.leaderWorkerTemplate.workerTemplate.spec.hostNetworks",
        "spec.leaderWorkerTemplate.leaderTemplate.spec.containers.0.readinesProbe",
    ],
)
def test_a_field_that_they_do_not_know_is_found(path: str) -> None:
    (document,) = (each for each in documents("vllm-native") if each["kind"] == "LeaderWorkerSet")
    *way, last = path.split(".")
    at: Any = document
    for key in way:
        at = at[int(key)] if key.isdigit() else at[key]
    at[last] = True
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check(document)


@pytest.mark.parametrize("path", ["spec.maxReplicas", "spec.triggers.0.thresholds", "spec.advanced.behavior"])
def test_a_field_that_keda_does_not_know_is_found(path: str) -> None:
    *_, document = documents("vllm-scaled")
    *way, last = path.split(".")
    at: Any = document
    for key in way:
        at = at[int(key)] if key.isdigit() else at[key]
    at[last] = True
    with pytest.raises(jsonschema.ValidationError):
        check(document)


@pytest.mark.parametrize("case", ON_KUBERNETES)
def test_what_the_pods_mount_is_there_and_names_are_the_sets(case: str) -> None:
    config = documents(case)[0]
    group, service = (each for each in documents(case) if each["kind"] in ("LeaderWorkerSet", "Service"))
    name = group["metadata"]["name"]
    scale = CASES[case] and CASES[case]["cluster"].get("scale")
    for number in range(scale["max_servers"]) if scale else [0]:
        told = Deployment.model_validate(
            yaml.safe_load(config["data"][f"deployment-{number}.yaml" if scale else "deployment.yaml"])
        )
        assert told.cluster
        pods = [f"{name}-{number}", *(f"{name}-{number}-{rank}" for rank in range(1, len(told.cluster.nodes)))]
        assert [node.address for node in told.cluster.nodes] == [f"{pod}.{name}" for pod in pods]
    assert service["spec"]["selector"]["leaderworkerset.sigs.k8s.io/name"] == name
    for template in ("leaderTemplate", "workerTemplate"):
        pod = group["spec"]["leaderWorkerTemplate"][template]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            for mount in container["volumeMounts"]:
                assert mount["name"] in volumes
                if mount["name"] == "checkout":  # nothing of what is rendered comes from a node's disk
                    assert not mount["subPath"].startswith("deploy/")
                if mount["name"] == "config":
                    file = mount.get("subPath") or mount["subPathExpr"].replace("$(GROUP)", "0")
                    assert file in config["data"]
                if "subPathExpr" in mount:
                    assert "GROUP" in {variable["name"] for variable in container["env"]}
            gpus = container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0)
            assert gpus == (8 if container["name"] in ("server", "node") else 0)


def scaler(case: str) -> dict[str, Any]:
    """A case's own, in the fields that KEDA's has too."""
    *_, found = documents(case)
    return {"target": found["spec"]["scaleTargetRef"], **found["spec"]}


def test_one_scaler_looks_at_what_waits_and_what_is_held() -> None:
    keda, hpa = scaler("vllm-scaled"), scaler("sglang-scaled")
    assert keda["target"] == hpa["target"]
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (1, 3)
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (2, 4)
    assert [trigger["metadata"]["query"] for trigger in keda["triggers"]] == [
        'sum(conch_gateway_requests_waiting{model="large"})',
        'sum(conch_gateway_tokens_active{model="large"})',
    ]
    (metric,) = hpa["metrics"]
    assert metric["pods"]["metric"]["name"] == "conch_gateway_requests_waiting"
    for case in SCALED:
        (group,) = (each for each in documents(case) if each["kind"] == "LeaderWorkerSet")
        assert "replicas" not in group["spec"]  # it is the scaler's


@pytest.mark.parametrize("case", ON_KUBERNETES)
def test_a_pod_ends_after_what_it_answers(case: str) -> None:
    """The head when nobody is sent to it, the others when the head has drained; and both are given the time."""
    (group,) = (each["spec"]["leaderWorkerTemplate"] for each in documents(case) if each["kind"] == "LeaderWorkerSet")
    for template, held_s, stop_s in (("leaderTemplate", 5, 60), ("workerTemplate", 5 + 30, 10)):
        pod = group[template]["spec"]
        for container in pod["containers"]:
            assert container["lifecycle"]["preStop"]["sleep"]["seconds"] == held_s
        assert pod["terminationGracePeriodSeconds"] > held_s + stop_s


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        ({"by": "keda", "max_servers": 3}, "prometheus is needed with by: keda"),
        ({"by": "hpa", "max_servers": 3, "prometheus": "http://p"}, "prometheus is asked by: keda only"),
        ({"by": "hpa", "min_servers": 4, "max_servers": 3}, r"min_servers \(4\) must not be above max_servers \(3\)"),
        ({"by": "hpa", "max_servers": 1}, "scale.max_servers"),
        ({"by": "both", "max_servers": 2}, "scale.by"),
    ],
)
def test_a_scale_that_contradicts_itself(scale: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Deployment.model_validate(over(2, "vllm", {"tensor": 16}, {"scale": scale}))


def test_each_group_of_ranks_has_a_launcher_of_its_own_nodes() -> None:
    deployment = Deployment.model_validate(
        over(
            2,
            "trtllm",
            {"tensor": 16, "expert": 16},
            {"scale": HPA},
            trtllm={"backend": "pytorch", "gpu": "h100"},
        )
    )
    assert deployment.cluster
    where = site("large", CODE)
    found = render_cluster(deployment, deployment.cluster, where, "c", "kubernetes", engine="docker", torch=TORCH)
    config, *_ = yaml.safe_load_all(found["kubernetes.yaml"])
    for group in range(4):
        launch = config["data"][f"launch-{group}.sh"]
        assert f"conch-large-{group}-1 true" in launch
        assert f"conch-large-{(group + 1) % 4}" not in launch


@pytest.mark.parametrize("case", ["vllm-native", "vllm-ray"])
def test_compose_accepts_every_nodes_file(case: str, tmp_path: Path) -> None:
    folder = write(tmp_path, files(case, "compose"))
    for rank, service in enumerate(("server", "node")):
        found = run(COMPOSE, "--file", folder / f"node-{rank}" / "compose.yaml", "config", "--format", "json")
        assert found.returncode == 0, found.stderr
        body = json.loads(found.stdout)["services"][service]
        (device,) = body["deploy"]["resources"]["reservations"]["devices"]
        assert device["count"] == 8
        assert body["environment"]["VLLM_HOST_IP"] == f"10.0.0.{rank + 1}"
        assert ("IPC_LOCK" in body.get("cap_add", [])) == (case == "vllm-native")


def refused(deployment: Deployment, target: Target) -> str:
    assert deployment.cluster
    with pytest.raises(SpecError) as told:
        render_cluster(
            deployment, deployment.cluster, site("large", CODE), "c.yaml", target, engine="docker", torch=TORCH
        )
    return str(told.value)


def test_a_pods_gateway_that_nobody_could_reach() -> None:
    unreachable = over(2, "vllm", {"tensor": 16}) | {"gateway": {}}
    assert refused(Deployment.model_validate(unreachable), "kubernetes").startswith("gateway.host: nothing outside")


def test_no_container_of_a_node_starts_a_rank_of_tensorrt_llm() -> None:
    assert "TARGET=shell inside the image, slurm or kubernetes" in refused(spec("trtllm-nodes"), "compose")


def test_nodes_without_a_cluster(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    write_spec(config, cpu())
    found = run(sys.executable, "-m", "deploy", config, "--torch", TORCH, "--target", "slurm", PYTHONPATH=str(ROOT))
    assert found.returncode == 1
    assert found.stderr == f"error: TARGET=slurm starts the nodes of a cluster, and {config} has none. Add cluster:\n"
