"""Deployment spec with a cluster → the files of one target, by node, the head's first."""

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Literal

from contract.cluster import Cluster
from contract.errors import SpecError
from contract.spec import Deployment
from deploy import kubernetes, shell, slurm
from deploy.images import Image, server_image
from deploy.installing import laid_over
from deploy.nodes import engine as engine_on
from deploy.nodes import model_path, node_environment, place, reasons
from deploy.render import render
from deploy.service import ContainerEngine, compose
from deploy.services import check, further_node
from deploy.site import CODE, Site
from deploy.text import annotated, to_yaml

Target = Literal["compose", "shell", "slurm", "kubernetes"]


def head_site(site: Site) -> Site:
    """Where the head's compose file and what belongs to it stand."""
    return replace(site, folder=site.folder / _folder(0))


def render_cluster(
    spec: Deployment,
    cluster: Cluster,
    site: Site,
    config: str,
    target: Target,
    *,
    engine: ContainerEngine,
    torch: str,
    image: str = "",
) -> dict[str, str]:
    """Every file, by its name in the folder; arguments as of ``deploy.render.render``.

    Raises:
        SpecError: what must not, or cannot, be started so.
    """
    chosen = server_image(spec.engine.runtime, image or spec.engine.image)
    check(spec, chosen)
    if target == "shell":
        return shell.scripts(spec, cluster, site, config)
    if target == "slurm":
        return slurm.job(spec, cluster, site, config)
    if target == "kubernetes":
        requirements = laid_over(chosen, site.root / "pyproject.toml")
        return {
            kubernetes.FILE: kubernetes.manifests(spec, cluster, site, chosen, requirements=requirements, config=config)
        }
    if spec.engine.kind.by_mpi and len(cluster.nodes) > 1:
        raise SpecError(
            "TARGET=compose: TensorRT-LLM's ranks are started by mpirun or srun, not by a container of each node",
            fix="Use TARGET=shell inside the image, slurm or kubernetes",
        )
    head = render(spec, head_site(site), config, engine=engine, torch=torch, image=image)
    head["compose.yaml"] = annotated(head["compose.yaml"], reasons(*node_environment(spec, cluster, place(cluster, 0))))
    files = {f"{_folder(0)}/{name}": text for name, text in head.items()}
    for rank in range(1, len(cluster.nodes)):
        files[f"{_folder(rank)}/compose.yaml"] = _node(spec, cluster, site, chosen, rank)
    return files


def _folder(rank: int) -> str:
    return f"node-{rank}"


def _node(spec: Deployment, cluster: Cluster, site: Site, image: Image, rank: int) -> str:
    at = place(cluster, rank)
    service = further_node(spec, cluster, site, image, at)
    name = f"conch-{spec.name.replace('.', '-')}-{_folder(rank)}"
    program = engine_on(spec, cluster, model_path(spec, PurePosixPath(CODE)), at)
    whys = reasons(*program.options, *node_environment(spec, cluster, at))
    return annotated(to_yaml(compose(name, [service], site.folder / _folder(rank))), whys)
