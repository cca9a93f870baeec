"""A cluster's nodes as shell scripts: one for each, the head's first, every option under its reason."""

import shlex
import textwrap

from contract import programs
from contract.cluster import Cluster
from contract.spec import Deployment
from deploy.fabric import Setting
from deploy.images import server_image
from deploy.installing import laid_over
from deploy.nodes import Option, engine, model_path, mpi, node_environment, place, ray_head, uses_ray
from deploy.site import Site

ALONE = "engine"  # the head's argument
RANK = "rank.sh"
_REQUIREMENTS = "requirements.txt"  # of what is laid over TensorRT-LLM's image
_WIDTH = 120


def script(rank: int) -> str:
    """The name of a node's script."""
    return f"node-{rank}.sh"


def scripts(spec: Deployment, cluster: Cluster, site: Site, config: str) -> dict[str, str]:
    """Every node's script, by its name."""
    write = _ranked if spec.engine.kind.by_mpi else _node
    nodes = {script(rank): write(spec, cluster, site, config, rank) for rank in range(len(cluster.nodes))}
    return nodes | ranks(spec, site, config)


def _node(spec: Deployment, cluster: Cluster, site: Site, config: str, rank: int) -> str:
    at = place(cluster, rank)
    lines = _beginning(spec, cluster, site, config, rank) + exports(node_environment(spec, cluster, at))
    program = engine(spec, cluster, model_path(spec, site.root), at)
    python = f".venv-{spec.engine.runtime}/bin"
    if rank:
        follow = ("python3", *programs.FOLLOW, f"{at.head}:{cluster.port}")
        lines += [
            *array("options", program.options),
            "# Started when the head answers, ended when it is gone, and started anew.",
            f'exec {_line(python, follow)} {_line(python, program.words)} "${{options[@]}}"',
        ]
    elif uses_ray(spec):
        start = ray_head(cluster, at)
        lines += [
            *array("options", start.options),
            f'{_line(python, start.words)} "${{options[@]}}" --block &',
            "ray=$!",
            "trap 'kill \"$ray\"' EXIT",
            f"until (: </dev/tcp/{at.own}/{cluster.port}) 2>/dev/null; do sleep 1; done",
            "# The server. Its engine joins this Ray, and waits until it has the GPUs of every node.",
            shlex.join(("make", "serve", f"CONFIG={config}")),
        ]
    else:
        lines += [
            *array("options", program.options),
            f"# ./{script(0)} {ALONE}: the engine without Triton, to tell a fault of the cluster from one of ours.",
            f"if [[ ${{1:-}} == {ALONE} ]]; then",
            f'  exec {_line(python, program.words)} "${{options[@]}}"',
            "fi",
            "# The server. Its engine stage runs rank 0, with these options but for host and port.",
            shlex.join(("exec", "make", "serve", f"CONFIG={config}")),
        ]
    return "\n".join(lines) + "\n"


def _ranked(spec: Deployment, cluster: Cluster, site: Site, config: str, rank: int) -> str:
    """Inside NVIDIA's image, which has no make: mpirun on the head reaches the other nodes by ssh."""
    lines = _beginning(spec, cluster, site, config, rank)
    if rank:
        lines += [
            *needs("/usr/sbin/sshd", "openssh-server"),
            "# What the image lacks, over what it has.",
            shlex.join(installed(site)),
            "# The head's mpirun comes in here (cluster.port).",
            sshd(cluster.port),
        ]
        return "\n".join(lines) + "\n"
    agent = Option(("-mca", "plm_rsh_args", f"-p {cluster.port}"), "where the other nodes' sshd listens (cluster.port)")
    launch = mpi(spec, cluster, [node.address for node in cluster.nodes], (agent,))
    lines += [
        *needs("ssh", "openssh-client"),
        "# What the image lacks, over what it has, and the model repository.",
        *map(shlex.join, prepared(site, config)),
        *exports(node_environment(spec, cluster, place(cluster, rank))),
        *array("options", launch.options),
        f'exec {shlex.join(launch.words)} "${{options[@]}}" {shlex.quote(f"{site.folder}/{RANK}")}',
    ]
    return "\n".join(lines) + "\n"


def installed(site: Site) -> tuple[str, ...]:
    """What gives a node in TensorRT-LLM's image the environment of its ranks."""
    return ("python3", *programs.LAID_OVER, _state(site), "--requirement", f"{site.folder}/{_REQUIREMENTS}")


def prepared(site: Site, config: str) -> tuple[tuple[str, ...], ...]:
    """What the head does before the ranks start."""
    return installed(site), (f"{_state(site)}/bin/python", *programs.REPOSITORY, config)


def ranks(spec: Deployment, site: Site, config: str) -> dict[str, str]:
    """What every rank of TensorRT-LLM runs, and what is installed for it; nothing for other runtimes."""
    if not spec.engine.kind.by_mpi:
        return {}
    lines = [
        "#!/bin/bash",
        f"# A rank in TensorRT-LLM's image. make deploy wrote this from {config}, which is where to change it.",
        "# Rank 0 is the server; the launcher makes workers of all others, with the first python3 on PATH.",
        f"export PATH={shlex.quote(f'{_state(site)}/bin')}:$PATH",
        shlex.join(("exec", "trtllm-llmapi-launch", "python3", *programs.SERVING, "serve", config)),
    ]
    image = server_image(spec.engine.runtime, spec.engine.image)
    over = laid_over(image, site.root / "pyproject.toml", gateway=spec.gateway.enabled)
    return {RANK: "\n".join(lines) + "\n", _REQUIREMENTS: over}


def needs(program: str, package: str) -> list[str]:
    """Ends a script by name where the image lacks a program."""
    said = f"{program} is not in this image: apt-get install {package}, or make an image that has it"
    return [f"if ! command -v {program} >/dev/null; then", f"  echo {shlex.quote(said)} >&2", "  exit 1", "fi"]


def sshd(port: int) -> str:
    """What lets mpirun into a container."""
    return f"mkdir -p /run/sshd && exec /usr/sbin/sshd -D -p {port}"


def _state(site: Site) -> str:
    return f"{site.folder}/state/venv"


def exports(settings: tuple[Setting, ...]) -> list[str]:
    """The environment, each variable under its reason."""
    return [line for each in settings for line in (*comment(each.why), f"export {each.name}='{each.value}'")]


def array(name: str, options: tuple[Option, ...]) -> list[str]:
    """The options as a bash array: no comment may stand between the lines of one command."""
    lines = [line for each in options for line in (*comment(each.why, "  "), f"  {' '.join(map(_word, each.words))}")]
    return [f"{name}=(", *lines, ")"]


def _word(word: str) -> str:
    """Quoted, where bash or a reader of arrays could take it for more than one."""
    quoted = shlex.quote(word)
    return f"'{word}'" if quoted == word and "," in word else quoted


def comment(text: str, indent: str = "") -> list[str]:
    """A comment, in lines that fit."""
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _beginning(spec: Deployment, cluster: Cluster, site: Site, config: str, rank: int) -> list[str]:
    node = cluster.nodes[rank]
    mpi_runs = spec.engine.kind.by_mpi
    role = "the head, where Triton and the gateway run. Start it " + ("last" if mpi_runs else "first")
    if rank:
        role = f"to be started {'before' if mpi_runs else 'after'} the head"
    return [
        "#!/bin/bash",
        f"# Node {rank} of {len(cluster.nodes)}: {node.name}, {node.address}; {role}.",
        *(comment(f"Inside {server_image(spec.engine.runtime, spec.engine.image).name}.") if mpi_runs else []),
        f"# make deploy wrote this from {config}, which is where to change it.",
        "set -euo pipefail",
        f"cd {shlex.quote(str(site.root))}",
    ]


def _line(python: str, words: tuple[str, ...]) -> str:
    """A command of the engine's own environment."""
    return shlex.join((f"{python}/{words[0]}", *words[1:]))
