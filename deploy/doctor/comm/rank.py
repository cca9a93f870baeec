"""``torchrun … -m deploy.doctor.comm.rank``: one rank of the communication tests; rank 0 judges and reports.

Started by ``python -m deploy.doctor.comm``, by torchrun itself, or by mpirun for MPI.
"""

import argparse
import json
import os
import socket
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from contract.errors import ConchError
from deploy.doctor.comm.clock import offset
from deploy.doctor.comm.collectives import COLLECTIVES, World
from deploy.doctor.comm.graphs import GRAPHS, no_vllm
from deploy.doctor.comm.measured import Measured, Offset
from deploy.doctor.comm.options import Options, options
from deploy.doctor.comm.pulse import Peer, Pulse, first_beat
from deploy.doctor.comm.report import Outcome, Said, report

# What mpirun tells each of its processes, in place of torchrun's variables.
_MPI = {"RANK": ("OMPI_COMM_WORLD_RANK", "PMI_RANK"), "WORLD_SIZE": ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")}


def main() -> None:
    """Run the tests as one rank."""
    wanted = options(argparse.ArgumentParser(prog="deploy.doctor.comm.rank", description=main.__doc__))
    try:
        sys.exit(_run(wanted))
    except ConchError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        os._exit(130)  # the backend's threads would be waited for


def _run(wanted: Options) -> int:
    if wanted.backend == "mpi":
        as_mpirun_says()
    if absent := [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        fix = "Start this with torchrun or python -m deploy.doctor.comm; for mpirun, set the head's address and port"
        raise ConchError(f"{', '.join(absent)} not set", fix=fix)
    if reason := missing(wanted.backend):
        return _skipped(wanted, reason)
    device = device_of(wanted.backend)
    if device.type == "cuda":
        no_vllm()  # while no rank is waited for
    head = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store, rank, ranks = next(iter(dist.rendezvous("env://", timeout=timedelta(seconds=wanted.wait))))
    except dist.DistError as error:
        reason = str(error).partition("\n")[0]
        raise ConchError(
            f"the head at {head} cannot be reached: {reason}", fix="Start rank 0, or free its port"
        ) from None
    beats = dist.PrefixStore("pulse", store.clone())
    first_beat(beats, rank)
    peers = _meet(dist.PrefixStore("peers", store), rank, ranks)
    # What goes through the backend is stopped by the pulse, which can say why: its own limit comes after that.
    backend_limit = timedelta(seconds=wanted.timeout + 60)
    pulse = Pulse(beats, peers[rank], peers, head, wanted.timeout)
    pulse.start()
    with pulse.step("connecting the ranks"):
        group = dist.PrefixStore("group", store)
        dist.init_process_group(wanted.backend, store=group, rank=rank, world_size=ranks, timeout=backend_limit)
    if dist.get_world_size() != ranks:
        raise ConchError(
            f"MPI started {dist.get_world_size()} rank(s) together and {ranks} were meant",
            fix="torchrun does not start MPI's ranks: use mpirun, and set MASTER_ADDR and MASTER_PORT for all",
        )
    world = World(rank, ranks, device, wanted.mib, wanted.rounds, pulse)
    if rank == 0:
        print(f"{ranks} ranks on {len({peer.node for peer in peers.values()})} nodes are connected", flush=True)
    measured, clock = _measure(world, peers, wanted.seconds)
    said = dist.PrefixStore("said", store)
    with pulse.step("collecting the results"):
        said.set(str(rank), Said(measured, clock).dump())
        if rank == 0:
            everyone = {each: Said.load(said.get(str(each)).decode()) for each in range(ranks)}
            outcome = Outcome(wanted, peers, everyone, _software(wanted.backend, device))
            said.set("end", str(int(report(outcome))))
        end = int(said.get("end").decode())
        world.barrier()
    pulse.stop()
    sys.stdout.flush()
    os._exit(end)  # all is done, and a backend's own clean-up may wait for ranks that have left


def missing(backend: str) -> str:
    """Why a backend cannot be tested here; '' if it can."""
    if backend == "nccl" and not torch.cuda.is_available():
        return "NCCL needs a GPU, and torch sees none here"
    if not dist.is_backend_available(backend):
        return f"torch {torch.__version__} was built without {backend.upper()}"
    return ""


def _skipped(wanted: Options, reason: str) -> int:
    if os.environ["RANK"] == "0":
        outcome = Outcome(wanted, {}, {}, {"torch": torch.__version__}, skipped=reason)
        report(outcome)
    return 0


def device_of(backend: str) -> torch.device:
    """The device of this rank's data."""
    if backend != "nccl":
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise ConchError(
            f"rank {os.environ['RANK']} is number {local} on its node, which has {torch.cuda.device_count()} GPUs",
            fix="Start as many ranks a node as it has GPUs (--nproc)",
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _meet(store: dist.Store, rank: int, ranks: int) -> dict[int, Peer]:
    """Who is where. Each knows its own place alone."""
    node = int(os.environ.get("GROUP_RANK", str(rank)))
    store.set(str(rank), json.dumps([node, f"{socket.gethostname()} at {_address()}"]))
    names = [str(each) for each in range(ranks)]
    try:
        told = store.multi_get(names)
    except dist.DistError:
        missing = [name for name in names if not store.check([name])]
        raise ConchError(
            f"of {ranks} ranks these did not come: {', '.join(missing)}", fix="See what their nodes say"
        ) from None
    return {each: Peer(each, *json.loads(text)) for each, text in enumerate(told)}


def _address() -> str:
    """This node's address as the head sees it; nothing is sent to learn it."""
    head, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    family, kind, _, _, where = socket.getaddrinfo(head, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(where)
        return str(probe.getsockname()[0])


def _measure(world: World, peers: dict[int, Peer], seconds: float) -> tuple[list[Measured], Offset | None]:
    """Each test once, and the collectives again and again for as long as is wanted; the worst counts."""
    with world.pulse.step("asking the head for the time"):
        world.barrier()
        firsts = {peer.node: peer.rank for peer in sorted(peers.values(), key=lambda peer: -peer.rank)}
        clock = offset(world, tuple(rank for node, rank in sorted(firsts.items()) if node != peers[0].node))
    worst: dict[str, Measured] = {}
    until = time.monotonic() + seconds
    again = True
    while again:
        for name, test in COLLECTIVES:
            with world.pulse.step(name):
                found = test(world)
            worst[name] = worst.get(name, found).worse(found)
        with world.pulse.step("deciding whether to go on"):
            flag = torch.tensor([float(time.monotonic() < until)], device=world.device)
            dist.broadcast(flag, src=0)
            again = bool(flag.item())
    for name, test in GRAPHS:
        with world.pulse.step(name):
            worst[name] = test(world)
    return list(worst.values()), clock


def _software(backend: str, device: torch.device) -> dict[str, str]:
    found = {"torch": torch.__version__}
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda or ""}
    if backend == "nccl":
        found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    return found


def as_mpirun_says() -> None:
    """Give mpirun's names of rank and number of ranks torchrun's."""
    for name, theirs in _MPI.items():
        for other in theirs:
            if other in os.environ:
                os.environ.setdefault(name, os.environ[other])


if __name__ == "__main__":
    main()
