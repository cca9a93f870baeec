"""The containers that serve a deployment: the server, the gateway, a further node, the build."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from contract import programs
from contract.address import address, refuse_keyless, refuse_strangers
from contract.cluster import Cluster
from contract.laid_over import BUILD, requirements
from contract.manifest import engines_root
from contract.sections import HUB_CACHE, HubSource, PathSource
from contract.spec import Deployment
from deploy import images
from deploy.images import Image
from deploy.installing import ENVIRONMENT, PYTHON, SCRATCH, STATE, UV, installer, into_venv, of_install, shell
from deploy.nodes import Place, engine, model_path, node_environment, place, ray_head, uses_ray
from deploy.service import SECRETS, Health, Mount, Service
from deploy.site import (
    CODE,
    KEPT,
    SPEC,
    Site,
    checkpoint,
    engine_folder,
    kept,
    linked,
    on_host,
    own_environment,
    parts,
    spec_file,
    state_folder,
)

_KEYS, _HEADERS = "api_keys", "otlp_headers"
_SERVER_ROOMS = ("build", "contract", "python_backend", "serving")
_GATEWAY_ROOMS = ("clients", "contract", "gateway")
# Made anew with each start: Triton's backend, the log, the model repository.
_MADE_ANEW = (SCRATCH, f"{CODE}/.conch", f"{CODE}/model_repository")


def check(spec: Deployment, image: Image) -> None:
    """Refuse what must not be started.

    Raises:
        SpecError: a gateway that is open to everybody, or the wheel's Triton.
    """
    if not image.triton:
        refuse_strangers(spec)
    if spec.gateway.enabled and spec.gateway.keys is None:
        refuse_keyless(spec.gateway.host, fix="Make one (python -m gateway.keys new NAME) and set gateway.keys")


def inside(spec: Deployment) -> dict[str, Any]:
    """The spec as the containers read it: the gateway is a container of its own, its keys and its collector's headers
    are secrets, its ledger and its traces are among what is kept."""
    own = {"keys": Path(SECRETS, _KEYS)} if spec.gateway.keys else {}
    own |= {"ledger": Path(KEPT, spec.gateway.ledger.name)} if spec.gateway.ledger else {}
    traces = {"headers": Path(SECRETS, _HEADERS)} if spec.tracing.headers else {}
    traces |= {"file": Path(KEPT, spec.tracing.file.name)} if spec.tracing.file else {}
    found: dict[str, Any] = {"gateway": spec.gateway.model_copy(update={"enabled": False, **own})}
    if traces:
        found["tracing"] = spec.tracing.model_copy(update=traces)
    if isinstance(spec.source, PathSource):
        found["source"] = spec.source.model_copy(update={"path": on_host(spec.source)})
    return spec.model_copy(update=found).model_dump(mode="json", exclude_unset=True)


def on_gpus(spec: Deployment) -> bool:
    """Whether the runtime needs GPUs."""
    return spec.engine.kind.on_gpus


def serving(spec: Deployment, site: Site, image: Image, head: Place | None = None) -> list[Service]:
    """The server and its gateway, each after what installs the environment that it runs in.

    Args:
        head: of a cluster, where its address is not the spec's.
    """
    install = installer("install", image, site)
    services = [install, _server(spec, site, image, install, head)]
    if spec.gateway.enabled:
        if image is not images.PYTHON:
            install = installer("install-gateway", images.PYTHON, site)
            services.append(install)
        services.append(_gateway(spec, site, install))
    return services


def building(spec: Deployment, site: Site, image: Image, torch: str) -> list[Service]:
    """What builds the engine on a machine that has nothing but containers.

    Nothing where the spec names an image for it: make engine starts that itself, from an environment with the rest.

    Args:
        torch: pip's requirement of the CPU's torch, which no lock file has.
    """
    if spec.source is None or spec.engine.image:
        return []
    name = "engine"
    install = into_venv(image, "--inexact", "--group", "build")
    if image.packages:
        install[-1] = (*install[-1], *requirements(site.root / "pyproject.toml", BUILD))
    else:
        install.append(("uv", "pip", "install", "--no-deps", "--python", PYTHON, "--torch-backend", "cpu", torch))
    hub = isinstance(spec.source, HubSource) and spec.source.kind == "huggingface"
    rooms = (*parts(site, _SERVER_ROOMS), spec_file(site), engine_folder(spec, site, True))
    mounts = dict.fromkeys((*of_install(image, site, name), *rooms))  # the rooms of both once
    return [
        Service(
            name=name,
            image=image.reference,
            command=shell(*install, (PYTHON, *programs.BUILD, SPEC)),
            instead=image.starts,
            environment=ENVIRONMENT
            | ({} if image.packages else UV)
            | hub_cache(spec)
            | ({"HF_TOKEN_PATH": f"{SECRETS}/hf_token"} if hub else {}),
            mounts=(*mounts, *checkpoint(spec)),
            scratch=_MADE_ANEW,
            secrets={"hf_token": site.folder / "secrets" / "hf_token"} if hub else {},
            user=site.user,
            gpus=_gpus(spec),
            shm=_shm(spec),
            once=True,
            profile=name,
            workdir=CODE,
        )
    ]


def hub_cache(spec: Deployment) -> dict[str, str]:
    """Where a container that builds keeps what a hub gave: on the host's disk, and where the server's sees it too."""
    if not isinstance(spec.source, HubSource):
        return {}
    return {HUB_CACHE[spec.source.kind]: str(engines_root(Path(CODE), spec.name) / ".work" / "hub")}


def _server(spec: Deployment, site: Site, image: Image, install: Service, head: Place | None) -> Service:
    cluster = spec.cluster
    head = head or (place(cluster, 0) if cluster else None)
    return Service(
        name="server",
        image=image.reference,
        command=shell(
            *([ray_head(cluster, head).command] if cluster and head and uses_ray(spec) else []),
            (PYTHON, *programs.REPOSITORY, SPEC),
            (PYTHON, *programs.SERVING, "serve", SPEC),
        ),
        instead=image.starts,
        environment=ENVIRONMENT | (_variables(spec, cluster, head) if cluster and head else {}),
        mounts=(
            *parts(site, _SERVER_ROOMS),
            *_read(spec, site, install),
            *(
                [Mount(state_folder(site, install.name) / "worker", own_environment(spec))]
                if image.packages and not image.triton
                else []
            ),
            *(linked(spec, site) if on_gpus(spec) else ()),
        ),
        scratch=_MADE_ANEW,
        user=site.user,
        **_rdma(spec),
        gpus=_gpus(spec),
        cpus=0 if on_gpus(spec) else spec.engine.threads,
        shm=_shm(spec),
        health=Health((PYTHON, *programs.SERVING, "status", SPEC), start_s=_start_s(spec)),
        stop_s=60,  # 30 s for what runs, then Triton's own exit
        after={install.name: "service_completed_successfully"},
        workdir=CODE,
    )


def further_node(spec: Deployment, cluster: Cluster, site: Site, image: Image, at: Place) -> Service:
    """A node of a cluster that is not its head: the engine's own program, which follows the head."""
    head = f"{at.head}:{cluster.port}"
    program = engine(spec, cluster, model_path(spec, PurePosixPath(CODE)), at)
    return Service(
        name="node",
        image=image.reference,
        command=("python3", *programs.FOLLOW, head, *program.command),
        instead=image.starts,
        environment=ENVIRONMENT | _variables(spec, cluster, at),
        mounts=(*parts(site, ("serving",)), engine_folder(spec, site), *linked(spec, site)),
        scratch=(SCRATCH,),
        user=site.user,
        **_rdma(spec),
        gpus=_gpus(spec),
        shm=_shm(spec),
        stop_s=30,
        workdir=CODE,
    )


def _variables(spec: Deployment, cluster: Cluster, at: Place) -> dict[str, str]:
    return {each.name: each.value for each in node_environment(spec, cluster, at)}


def _rdma(spec: Deployment) -> dict[str, Any]:
    """What a container needs to send past the kernel: the devices, and memory that stays where it is."""
    fabric = spec.cluster.fabric if spec.cluster else None
    return {"devices": ("/dev/infiniband",), "capabilities": ("IPC_LOCK",)} if fabric and fabric.rdma else {}


def _gateway(spec: Deployment, site: Site, install: Service) -> Service:
    url = f"http://{address(spec.gateway.host, spec.ports.gateway)}/health/ready"
    told = {_KEYS: spec.gateway.keys, _HEADERS: spec.tracing.headers}
    ready = (PYTHON, "-c", f"from urllib.request import urlopen; urlopen({json.dumps(url)}, timeout=8)")
    return Service(
        name="gateway",
        image=install.image,
        command=(PYTHON, *programs.GATEWAY, SPEC),
        environment=ENVIRONMENT,
        mounts=(*parts(site, _GATEWAY_ROOMS), *_read(spec, site, install), *kept(spec, site)),
        scratch=(SCRATCH,),
        secrets={name: (site.root / path).resolve() for name, path in told.items() if path},
        user=site.user,
        health=Health(ready, start_s=_start_s(spec)),  # ready when the server is
        stop_s=45,  # 30 s for what runs
        after={install.name: "service_completed_successfully", "server": "service_started"},
        workdir=CODE,
    )


def _read(spec: Deployment, site: Site, install: Service) -> tuple[Mount, ...]:
    """The spec, the environment, and the engine where there is one."""
    engine = (engine_folder(spec, site),) if spec.source else ()
    return (spec_file(site), Mount(state_folder(site, install.name), STATE), *engine)


def _gpus(spec: Deployment) -> int:
    """Of one machine."""
    every = spec.cluster.gpus_per_node if spec.cluster else spec.engine.parallel.gpus
    return every if on_gpus(spec) else 0


def _start_s(spec: Deployment) -> int:
    """How long a model may load."""
    return 1800 if on_gpus(spec) else 60


def _shm(spec: Deployment) -> str:
    """A limit and no reservation: Triton hands tensors to its stages here, and NCCL to its ranks."""
    return "16gb" if on_gpus(spec) else "1gb"
