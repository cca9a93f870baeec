"""A cluster as Kubernetes runs it: one LeaderWorkerSet of one group, whose leader is the head.

The containers are those of the compose files. Nodes have no addresses here: the set's names stand for them.
"""

import shlex
from dataclasses import replace
from pathlib import PurePosixPath

from contract.address import is_loopback
from contract.cluster import Cluster, Node
from contract.errors import SpecError
from contract.spec import Deployment
from deploy.images import Image
from deploy.installing import VENV
from deploy.nodes import Option, Place, engine, model_path, mpi, node_environment, reasons
from deploy.pods import OWN_IP, Made, of_group, pod
from deploy.scaling import LWS, OF_SET, budget, scaler
from deploy.scaling import WHYS as _OF_SCALING
from deploy.service import Mount, Service
from deploy.services import further_node, inside, serving
from deploy.shell import array
from deploy.site import CODE, Site
from deploy.text import annotated, to_yaml

FILE = "kubernetes.yaml"
# A node in the variables that the LeaderWorkerSet's controller sets, and one of ours.
_PLACE = Place("$(LWS_WORKER_INDEX)", "$(LWS_LEADER_ADDRESS)", OWN_IP)
_HEAD = Place("0", "$(LWS_LEADER_ADDRESS)", OWN_IP)
_AGENT, _LAUNCH = "kubectl-exec", "launch.sh"  # files of the ConfigMap, for TensorRT-LLM
_FILES = "/etc/conch"
_SPEC = "deployment.yaml"
_LEAVES_S = 5  # the head goes on for so long, until nobody is sent to it any more
_DRAINS_S = 30  # and then ends what runs; the other nodes compute for it until then
_WHYS = {
    "size": "pods in the group: the head and the other nodes (cluster.nodes)",
    "startupPolicy": "all at once: the head is ready only when the others are there",
    "restartPolicy": "an engine that has lost a node begins anew on all of them",
    "hostNetwork": "interface and devices of cluster.fabric are the host's",
    "lifecycle": "nobody is sent here any more when the signal comes; the other nodes outlast the head's last answer",
    "privileged": "for /dev/infiniband; with an RDMA device plugin, ask for its resource instead",
}


def manifests(spec: Deployment, cluster: Cluster, site: Site, image: Image, *, requirements: str, config: str) -> str:
    """Everything to apply, as one file.

    Args:
        requirements: of the image's environment; '' where it is installed from the lock.

    Raises:
        SpecError: nothing outside the head's pod could reach the gateway.
    """
    if not spec.gateway.enabled or is_loopback(spec.gateway.host):
        raise SpecError(
            "gateway.host: nothing outside the head's pod could reach the gateway",
            fix="Set gateway.enabled, gateway.host: 0.0.0.0 and gateway.keys",
        )
    name = f"conch-{spec.name.replace('.', '-').replace('_', '-')}"  # a DNS label
    groups = [_named(spec, cluster, name, group) for group in range(cluster.scale.max_servers if cluster.scale else 1)]
    spec, cluster = groups[0]
    documents = [_config_map(name, groups, requirements)]
    if spec.engine.kind.by_mpi:
        documents += _may_enter_pods(name)
    documents += [_set(name, spec, cluster, site, image), _service(name, spec), budget(name)]
    if cluster.scale:
        documents.append(scaler(name, spec.name, cluster.scale))
    header = (
        f"# kubectl apply --filename {site.folder}/{FILE}, where the LeaderWorkerSet controller is installed.\n"
        f"# make deploy wrote this from {config}, which is where to change it.\n"
    )
    return header + annotated("---\n".join(map(to_yaml, documents)), _WHYS | _OF_SCALING | _reasons(spec, cluster))


def _named(spec: Deployment, cluster: Cluster, name: str, group: int) -> tuple[Deployment, Cluster]:
    """The spec with the names that the pods of a group will have, the head's first."""
    head = f"{name}-{group}"
    hosts = [head, *(f"{head}-{rank}" for rank in range(1, len(cluster.nodes)))]
    cluster = cluster.model_copy(update={"nodes": tuple(Node(name=pod, address=f"{pod}.{name}") for pod in hosts)})
    return spec.model_copy(update={"cluster": cluster}), cluster


def _reasons(spec: Deployment, cluster: Cluster) -> dict[str, str]:
    found = reasons(*node_environment(spec, cluster, _HEAD))
    if not spec.engine.kind.by_mpi:
        found |= reasons(*engine(spec, cluster, model_path(spec, PurePosixPath(CODE)), _PLACE).options)
    return found


def _config_map(name: str, groups: list[tuple[Deployment, Cluster]], requirements: str) -> Made:
    """Files; where there are several groups, each has its own of those that name nodes."""
    files: dict[str, str] = {}
    for group, (spec, cluster) in enumerate(groups):
        own = {_SPEC: to_yaml(inside(spec))}
        if spec.engine.kind.by_mpi:
            own |= {_AGENT: _AGENT_SCRIPT, _LAUNCH: _launch(spec, cluster)}
        files |= {of_group(file, str(group)) if cluster.scale else file: text for file, text in own.items()}
    if requirements:
        files["requirements.txt"] = requirements
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": files}


def _set(name: str, spec: Deployment, cluster: Cluster, site: Site, image: Image) -> Made:
    services = serving(spec, site, image, _HEAD)
    extra: list[Mount] = []
    if spec.engine.kind.by_mpi:
        extra = [Mount(site.folder / each, f"{_FILES}/{each}") for each in (_AGENT, _LAUNCH)]
        node = [services[0], replace(services[1], name="node", command=_SLEEP, health=None, stop_s=10)]
        services = [_launched(each) if each.name == "server" else each for each in services]
    else:
        node = [further_node(spec, cluster, site, image, _PLACE)]
    own = (_SPEC, _AGENT, _LAUNCH) if cluster.scale else ()
    account = name if extra else ""
    head = pod(name, spec, services, site, extra=extra, account=account, own=own, hold_s=_LEAVES_S)
    other = pod(name, spec, node, site, extra=[], own=own, hold_s=_LEAVES_S + _DRAINS_S)
    group = {
        "size": len(cluster.nodes),
        "restartPolicy": "RecreateGroupOnPodRestart",
        "leaderTemplate": {"metadata": {"annotations": _scraped(spec)}, "spec": head},
        "workerTemplate": {"spec": other},
    }
    counted = {} if cluster.scale else {"replicas": 1}  # a scaler's number is not to be overwritten
    return {
        "apiVersion": LWS,
        "kind": "LeaderWorkerSet",
        "metadata": {"name": name},
        "spec": {**counted, "startupPolicy": "LeaderCreated", "leaderWorkerTemplate": group},
    }


def _scraped(spec: Deployment) -> dict[str, str]:
    """Where a Prometheus that goes by annotations finds the gateway's figures."""
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(spec.ports.gateway)}


def _service(name: str, spec: Deployment) -> Made:
    """The gateway's, on the head alone; the set makes one of its own for the pods' names."""
    head = {OF_SET: name, "leaderworkerset.sigs.k8s.io/worker-index": "0"}
    port = {"name": "openai", "port": spec.ports.gateway, "targetPort": spec.ports.gateway}
    body = {"selector": head, "ports": [port]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"{name}-gateway"}, "spec": body}


# TensorRT-LLM: the head's mpirun starts the ranks of the other pods, where nothing runs until then.
_SLEEP = ("sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait")
_AGENT_SCRIPT = """\
#!/bin/sh
# mpirun calls this with a pod and a command, as it would call ssh. The image must have kubectl.
pod=$1
shift
exec kubectl exec "$pod" --container node -- sh -c "$*"
"""


def _launched(server: Service) -> Service:
    """The server as rank 0 of all: what the container ran is what the launcher is given."""
    return replace(server, command=("bash", f"{_FILES}/{_LAUNCH}", *server.command))


def _launch(spec: Deployment, cluster: Cluster) -> str:
    agent = Option(("-mca", "plm_rsh_agent", f"{_FILES}/{_AGENT}"), "how mpirun enters the other pods")
    launch = mpi(spec, cluster, [node.name for node in cluster.nodes], (agent,))
    lines = [
        "#!/bin/bash",
        "set -euo pipefail",
        *array("options", launch.options),
        "# The other pods may still be starting.",
        *(f"until {_FILES}/{_AGENT} {shlex.quote(node.name)} true; do sleep 5; done" for node in cluster.nodes[1:]),
        "# Rank 0 is the server, which the arguments are; the launcher makes workers of all others.",
        "# All are of the environment that is laid over the image's.",
        f'exec {shlex.join(launch.words)} "${{options[@]}}" env "PATH={VENV}/bin:$PATH" trtllm-llmapi-launch "$@"',
    ]
    return "\n".join(lines) + "\n"


def _may_enter_pods(name: str) -> list[Made]:
    """The right to run commands in the pods of this namespace, for mpirun."""
    api = "rbac.authorization.k8s.io"
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create", "get"]},
    ]
    subject = {"kind": "ServiceAccount", "name": name}
    role = {"apiGroup": api, "kind": "Role", "name": name}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "subjects": [subject],
            "roleRef": role,
        },
    ]
