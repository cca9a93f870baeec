"""All-reduce inside a CUDA graph, as engines replay it for every token: torch's NCCL, and vLLM's own wrapper of it."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
import torch.distributed as dist

from deploy.doctor.comm.collectives import World, differs
from deploy.doctor.comm.measured import Measured

AllReduce = Callable[[torch.Tensor], torch.Tensor]
_ELEMENTS = 8192  # a hidden state of one token: what is reduced while decoding


def graph(world: World) -> Measured:
    """Torch's NCCL, captured and replayed."""
    name = "all-reduce in a CUDA graph"
    if world.device.type != "cuda":
        return Measured(name, skipped="CUDA graphs need a GPU")

    def reduce(tensor: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(tensor)
        return tensor

    return Measured(name, _captured(world, reduce))


def vllm_graph(world: World) -> Measured:
    """vLLM's wrapper, captured and replayed."""
    name = "vLLM's NCCL in a CUDA graph"
    if world.device.type != "cuda":
        return Measured(name, skipped="vLLM's NCCL wrapper needs a GPU")
    if reason := no_vllm():
        return Measured(name, skipped=reason)
    reduce = _alone(world) if world.ranks == 1 else _communicator(world)
    if reduce is None:
        return Measured(name, wrong="vLLM could not load NCCL: see VLLM_NCCL_SO_PATH and VLLM_DISABLE_PYNCCL")
    return Measured(name, _captured(world, reduce))


GRAPHS: tuple[tuple[str, Callable[[World], Measured]], ...] = (
    ("all-reduce in a CUDA graph", graph),
    ("vLLM's NCCL in a CUDA graph", vllm_graph),
)


@cache
def no_vllm() -> str:
    """Why there is no vLLM here; '' where there is. The first call imports it, which takes long."""
    if not find_spec("vllm"):
        return "vllm is not installed in this environment"
    try:
        import vllm.distributed.device_communicators.pynccl  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:  # a library of another CUDA, say
        return f"vllm cannot be imported: {error}"
    return ""


def _captured(world: World, reduce: AllReduce) -> str:
    """What is wrong with the result of replaying a captured all-reduce on new data, twice."""
    held = torch.zeros(_ELEMENTS, device=world.device)
    reduce(held)  # NCCL connects outside of the capture
    world.wait()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        result = reduce(held)
    for factor in (1, 3):
        held.copy_(world.data(world.rank, _ELEMENTS) * factor)
        captured.replay()
        world.wait()
        total = world.ranks * (world.ranks + 1) // 2
        if wrong := differs(result, world.data(0, _ELEMENTS) * (factor * total)):
            return wrong
    return ""


def _communicator(world: World) -> AllReduce | None:
    from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator

    communicator = PyNcclCommunicator(group=dist.new_group(backend="gloo"), device=world.device)
    if not communicator.available:
        return None

    def reduce(tensor: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = communicator.all_reduce(tensor, stream=torch.cuda.current_stream())
        return found

    return reduce


def _alone(world: World) -> AllReduce:
    """vLLM's communicator turns itself off for one rank; the library that it wraps does not."""
    from vllm.distributed.device_communicators import pynccl_wrapper as wrapper

    library = wrapper.NCCLLibrary()
    with torch.cuda.device(world.device):
        communicator = library.ncclCommInitRank(1, library.ncclGetUniqueId(), 0)

    def reduce(tensor: torch.Tensor) -> torch.Tensor:
        found = torch.empty_like(tensor)
        library.ncclAllReduce(
            wrapper.buffer_type(tensor.data_ptr()),
            wrapper.buffer_type(found.data_ptr()),
            tensor.numel(),
            wrapper.ncclDataTypeEnum.from_torch(tensor.dtype),
            wrapper.ncclRedOpTypeEnum.from_torch(dist.ReduceOp.SUM),
            communicator,
            wrapper.cudaStream_t(torch.cuda.current_stream().cuda_stream),
        )
        return found

    return reduce
