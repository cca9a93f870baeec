"""What makes a set larger and smaller on Kubernetes, and what keeps it while nodes are drained.

One scaler, KEDA's or Kubernetes' own, on the same two figures of the gateway: the requests that wait and the tokens in
flight. The gateway lets no more in than the engine's batch takes, so who waits, waits there and not in the engine.
"""

from collections.abc import Iterator

from contract.scale import Scale
from deploy.pods import Made

LWS = "leaderworkerset.x-k8s.io/v1"
OF_SET = "leaderworkerset.sigs.k8s.io/name"  # a label of all its pods
_SECONDS = {"scaleUp": 60, "scaleDown": 300}  # for one server more, or less
WHYS = {
    "scaleUp": "one after the other: a model loads for minutes, in which what waits would ask for all",
    "scaleDown": "later than up: what is ended now must load again when it is wanted",
    "maxUnavailable": "a node's drain takes one pod, and with it a server; the next only when that is back",
}


def scaler(name: str, model: str, scale: Scale) -> Made:
    """The one that the deployment names."""
    return (_keda if scale.by == "keda" else _hpa)(name, model, scale)


def budget(name: str) -> Made:
    """How many pods a drain of nodes may take at once."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {OF_SET: name}}},
    }


def _signals(scale: Scale) -> Iterator[tuple[str, int]]:
    """The gateway's figures, and how much of each a server should have at most."""
    yield "conch_gateway_requests_waiting", scale.waiting
    if scale.tokens:
        yield "conch_gateway_tokens_active", scale.tokens


def _hpa(name: str, model: str, scale: Scale) -> Made:
    metrics = [
        {
            "type": "Pods",
            "pods": {"metric": {"name": metric}, "target": {"type": "AverageValue", "averageValue": str(most)}},
        }
        for metric, most in _signals(scale)
    ]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": _target(name),
            "minReplicas": scale.min_servers,
            "maxReplicas": scale.max_servers,
            "metrics": metrics,
            "behavior": _behavior(),
        },
    }


def _keda(name: str, model: str, scale: Scale) -> Made:
    triggers = [
        {
            "type": "prometheus",
            "metricType": "AverageValue",
            "metadata": {
                "serverAddress": scale.prometheus,
                "query": f'sum({metric}{{model="{model}"}})',
                "threshold": str(most),
            },
        }
        for metric, most in _signals(scale)
    ]
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": _target(name),
            "pollingInterval": 15,
            "minReplicaCount": scale.min_servers,
            "maxReplicaCount": scale.max_servers,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior()}},
            "triggers": triggers,
        },
    }


def _target(name: str) -> Made:
    return {"apiVersion": LWS, "kind": "LeaderWorkerSet", "name": name}


def _behavior() -> Made:
    return {
        way: {"policies": [{"type": "Pods", "value": 1, "periodSeconds": seconds}]} for way, seconds in _SECONDS.items()
    }
