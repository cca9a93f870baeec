"""A cluster's nodes as one Slurm job: a step for each node's script, or for TensorRT-LLM one step of all ranks."""

import shlex

from contract.cluster import Cluster
from contract.spec import Deployment
from deploy.images import server_image
from deploy.nodes import Option, node_environment, place
from deploy.shell import RANK, array, comment, exports, prepared, ranks, script, scripts
from deploy.site import Site

JOB = "job.sbatch"
HOSTS = "hosts"
_GRACE_S = 120  # the server drains for 60 s, and the rest ends after it


def job(spec: Deployment, cluster: Cluster, site: Site, config: str) -> dict[str, str]:
    """The job, and what its steps run."""
    directives = [
        (f"--job-name=conch-{spec.name}", ""),
        (f"--nodes={len(cluster.nodes)}", "as many as cluster.nodes names"),
        (f"--nodelist={','.join(node.name for node in cluster.nodes)}", "these very ones: the head's address is fixed"),
        (f"--gpus-per-node={cluster.gpus_per_node}", "all of them (cluster.gpus_per_node)"),
        ("--exclusive", "nobody else's work beside ours: the ports and the memory are taken"),
        ("--requeue", "after a node has failed, the job may begin again"),
        (f"--output={site.folder}/slurm-%j.log", ""),
        (f"--signal=TERM@{_GRACE_S}", "the steps are told so long before the time is up, and drain"),
    ]
    lines = ["#!/bin/bash", f"# sbatch {site.folder}/{JOB}. make deploy wrote this from {config}."]
    for directive, why in directives:
        lines += [*(comment(why) if why else []), f"#SBATCH {directive}"]
    lines += ["set -euo pipefail", f"cd {shlex.quote(str(site.root))}"]
    if spec.engine.kind.by_mpi:
        lines += _ranks(spec, cluster, site, config)
        hosts = "".join(f"{node.name}\n" * cluster.gpus_per_node for node in cluster.nodes)
        return {JOB: "\n".join(lines) + "\n", HOSTS: hosts, **ranks(spec, site, config)}
    return {JOB: "\n".join([*lines, *_steps(cluster, site)]) + "\n", **scripts(spec, cluster, site, config)}


def _steps(cluster: Cluster, site: Site) -> list[str]:
    """One step a node, the head's first."""
    lines = ["# One step on each node, the head first."]
    for rank, node in enumerate(cluster.nodes):
        words = ("srun", "--nodes=1", "--ntasks=1", f"--nodelist={node.name}", f"{site.folder}/{script(rank)}")
        lines.append(f"{shlex.join(words)} &")
    return [*lines, "# A step that ends, ends the job.", "wait -n"]


def _ranks(spec: Deployment, cluster: Cluster, site: Site, config: str) -> list[str]:
    """One task a GPU, in NVIDIA's image, by pyxis."""
    image = server_image(spec.engine.runtime, spec.engine.image).name
    registry, _, name = image.partition("/")
    options = (
        Option((f"--ntasks={spec.engine.parallel.gpus}",), "a rank for every GPU (engine.parallel)"),
        Option((f"--ntasks-per-node={cluster.gpus_per_node}",), "of each node"),
        Option(("--mpi=pmix",), "how TensorRT-LLM's MPI finds the ranks"),
        Option(("--distribution=arbitrary",), f"in the order of {HOSTS}: rank 0, the server, is on the head"),
    )
    inside = (
        Option((f"--container-image={registry}#{name}",), "NVIDIA's image, by pyxis"),
        Option((f"--container-mounts={site.root}:{site.root}",), "the checkout and its engine"),
        Option((f"--container-workdir={site.root}",), "where Python finds them"),
    )
    first = ("srun", "--nodes=1", "--ntasks=1", f"--nodelist={cluster.nodes[0].name}")
    before = " && ".join(map(shlex.join, prepared(site, config)))
    return [
        *exports(node_environment(spec, cluster, place(cluster, 0))),
        *array("inside", inside),
        "# What the image lacks, over what it has, and the model repository: once, on the head.",
        f'{shlex.join(first)} "${{inside[@]}}" sh -c {shlex.quote(before)}',
        "# The ranks' nodes, in order.",
        f"export SLURM_HOSTFILE={shlex.quote(f'{site.folder}/{HOSTS}')}",
        *array("options", options),
        f'exec srun "${{options[@]}}" "${{inside[@]}}" {shlex.quote(f"{site.folder}/{RANK}")}',
    ]
