"""``python -m deploy.doctor.comm`` (make doctor-comm): starts one node's ranks through torchrun, and waits for them."""

import argparse
import logging
import os
import sys
from importlib.util import find_spec

from contract.errors import ConchError
from deploy.doctor.comm import options

_RANK = "deploy.doctor.comm.rank"


def main() -> None:
    """Collectives between ranks: correctness and bandwidth. Start it on every node, with its --node-rank."""
    parser = argparse.ArgumentParser(prog="python -m deploy.doctor.comm", description=main.__doc__)
    options.add(parser)
    parser.add_argument("--nproc", type=options.count, default=1, help="ranks on this node: its GPUs")
    parser.add_argument("--nodes", type=options.count, default=1)
    parser.add_argument("--node-rank", type=int, default=0, help="this node's number; the head is 0")
    parser.add_argument("--head", default="", help="the head's address, the same on every node")
    parser.add_argument("--port", type=options.count, default=29500, help="free on the head, the same on every node")
    found = parser.parse_args()
    try:
        sys.exit(_start(found))
    except ConchError as error:
        sys.exit(f"error: {error}")


def _start(found: argparse.Namespace) -> int:
    if not 0 <= found.node_rank < found.nodes:
        raise ConchError(f"--node-rank {found.node_rank} is none of {found.nodes} nodes", fix="They count from 0")
    if found.nodes > 1 and not found.head:
        raise ConchError("--head is needed", fix="Give the address of node 0, on every node")
    if not find_spec("torch"):
        raise ConchError(
            f"torch is not in {sys.prefix}",
            fix="make doctor-comm uses .venv-build, which has it for the CPU; for GPUs .venv-vllm/bin/python does",
        )
    os.environ |= {
        **(_network(found.head) if found.head else {}),
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    return _torchrun(found)


def _network(head: str) -> dict[str, str]:
    """What the doctor recommends for this node, unless the environment says otherwise: so it is tested, too."""
    from deploy.doctor.network import recommended
    from deploy.fabric import environment

    fabric = recommended(head).fabric
    wanted = {setting.name: setting.value for setting in environment(fabric)} if fabric else {}
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def _torchrun(found: argparse.Namespace) -> int:
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    where = ["--standalone"]
    if found.head:
        where = [f"--node-rank={found.node_rank}", f"--master-addr={found.head}", f"--master-port={found.port}"]
    words = [
        f"--nnodes={found.nodes}",
        f"--nproc-per-node={found.nproc}",
        *where,
        f"--rdzv-conf=timeout={found.wait:.0f}",
    ]
    logging.disable(logging.CRITICAL)  # the ranks have said what is wrong, once
    try:
        run(parse_args([*words, "-m", _RANK, *options.taken(found).words()]))
    except ChildFailedError as error:
        for rank, failure in error.failures.items():
            if failure.exitcode < 0:
                print(f"error: rank {rank}, on this node, was ended by {failure.signal_name()}", file=sys.stderr)
        return 1
    except SignalException as error:
        return 128 + int(error.sigval)
    except DistError as error:
        raise ConchError(
            f"the {found.nodes} nodes did not all meet at {found.head}:{found.port} within {found.wait:.0f} s: "
            f"{str(error).partition(chr(10))[0]}",
            fix="Start this on every node with the same --head, --port and --nodes, and let them reach that port",
        ) from None
    return 0


if __name__ == "__main__":
    main()
