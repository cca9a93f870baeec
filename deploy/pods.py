"""The containers of a deployment as Kubernetes writes them."""

from pathlib import Path
from typing import Any

from contract.spec import Deployment
from deploy.service import SECRETS, Health, Mount, Service
from deploy.site import Site

_GROUP = "GROUP"  # a variable: which group of the set a pod is of
OWN_IP = "$(POD_IP)"  # in an environment or a command: the pod's address
_CONFIG = "config"  # the volume of the ConfigMap
_AROUND_S = 15  # beyond the slowest container's own time to stop

Made = dict[str, Any]


def of_group(file: str, group: str = f"$({_GROUP})") -> str:
    """A file of the ConfigMap that each group has one of, by the group's number."""
    path = Path(file)
    return f"{path.stem}-{group}{path.suffix}"


def pod(
    name: str,
    spec: Deployment,
    services: list[Service],
    site: Site,
    *,
    extra: list[Mount],
    hold_s: int,
    account: str = "",
    own: tuple[str, ...] = (),
) -> Made:
    """A pod's specification; what runs once runs before the rest.

    Args:
        name: of the ConfigMap, and what the secrets' names begin with.
        extra: files of the ConfigMap that every container sees.
        hold_s: how long a pod that is to end goes on as before.
        account: the service account; '' for none.
        own: those files of the ConfigMap that each group has one of.
    """
    fabric = spec.cluster.fabric if spec.cluster else None
    user, group = (int(part) for part in site.user.split(":"))
    volumes: dict[str, Made] = {}
    containers = [
        (service.once, _container(service, _mounts(name, service, site, extra, volumes, own=own), hold_s))
        for service in services
    ]
    body = {
        "serviceAccountName": account,
        "automountServiceAccountToken": bool(account),
        "hostNetwork": bool(fabric),
        "dnsPolicy": "ClusterFirstWithHostNet" if fabric else "",
        "terminationGracePeriodSeconds": hold_s + max(service.stop_s for service in services) + _AROUND_S,
        "securityContext": {"runAsUser": user, "runAsGroup": group, "fsGroup": group},
        "initContainers": [made for once, made in containers if once],
        "containers": [made for once, made in containers if not once],
        "volumes": [{"name": key} | volume for key, volume in volumes.items()],
    }
    return {key: value for key, value in body.items() if value or key == "automountServiceAccountToken"}


def _container(service: Service, mounts: list[Made], hold_s: int) -> Made:
    variables: list[Made] = [{"name": key, "value": value} for key, value in service.environment.items()]
    if any(OWN_IP in word for word in (*service.environment.values(), *service.command)):  # set before it is used
        variables.insert(0, _field("POD_IP", "status.podIP"))
    if any("subPathExpr" in mount for mount in mounts):
        variables.insert(0, _field(_GROUP, "metadata.labels['leaderworkerset.sigs.k8s.io/group-index']"))
    body = {
        "name": service.name,
        "image": service.image,
        "command" if service.instead else "args": list(service.command),
        "workingDir": service.workdir,
        "env": variables,
        "resources": {"limits": {"nvidia.com/gpu": service.gpus}} if service.gpus else None,
        "readinessProbe": service.health and _probe(service.health),
        "lifecycle": None if service.once else {"preStop": {"sleep": {"seconds": hold_s}}},
        "securityContext": _confined(service),
        "volumeMounts": mounts,
    }
    return {key: value for key, value in body.items() if value}


def _field(variable: str, path: str) -> Made:
    return {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _probe(health: Health) -> Made:
    """Readiness alone: within the container the supervisor starts again what has failed."""
    return {
        "exec": {"command": list(health.command)},
        "periodSeconds": health.interval_s,
        "timeoutSeconds": health.timeout_s,
        "failureThreshold": health.retries,
    }


def _confined(service: Service) -> Made:
    if service.devices:
        return {"privileged": True, "readOnlyRootFilesystem": True}
    kept = {"add": list(service.capabilities)} if service.capabilities else {}
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], **kept},
    }


def _mounts(
    name: str, service: Service, site: Site, extra: list[Mount], volumes: dict[str, Made], *, own: tuple[str, ...]
) -> list[Made]:
    """A container's mounts; what they are of is added to the volumes."""
    found = [_mount(name, mount, site, volumes, own) for mount in (*service.mounts, *extra)]
    for number, path in enumerate(service.scratch):
        volumes[f"{service.name}-{number}"] = {"emptyDir": {"medium": "Memory"}}
        found.append({"name": f"{service.name}-{number}", "mountPath": path})
    if service.shm:
        limit = service.shm.replace("gb", "Gi")
        volumes["shm"] = {"emptyDir": {"medium": "Memory", "sizeLimit": limit}}
        found.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108
    if service.devices:
        volumes["infiniband"] = {"hostPath": {"path": service.devices[0], "type": "Directory"}}
        found.append({"name": "infiniband", "mountPath": service.devices[0]})
    for secret in service.secrets:
        volume = secret.replace("_", "-")
        volumes[volume] = {"secret": {"secretName": f"{name}-{volume}"}}
        found.append({"name": volume, "mountPath": f"{SECRETS}/{secret}", "subPath": secret, "readOnly": True})
    return found


def _mount(name: str, mount: Mount, site: Site, volumes: dict[str, Made], own: tuple[str, ...]) -> Made:
    source = Path(mount.source)
    made = {"mountPath": mount.target} | ({} if mount.writable else {"readOnly": True})
    if source.parent == site.folder:
        volumes[_CONFIG] = {"configMap": {"name": name, "defaultMode": 0o555}}
        file = {"subPathExpr": of_group(source.name)} if source.name in own else {"subPath": source.name}
        return {"name": _CONFIG, **file, **made}
    if source.is_relative_to(site.folder / "state"):
        volume, *inner = source.relative_to(site.folder / "state").parts
        volumes[volume] = {"emptyDir": {}}
        return {"name": volume} | ({"subPath": "/".join(inner)} if inner else {}) | made
    if source.is_relative_to(site.root):
        volumes["checkout"] = {"hostPath": {"path": str(site.root), "type": "Directory"}}
        return {"name": "checkout", "subPath": str(source.relative_to(site.root))} | made
    volumes["checkpoint"] = {"hostPath": {"path": str(source), "type": ""}}
    return {"name": "checkpoint"} | made
