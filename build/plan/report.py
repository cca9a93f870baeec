"""A plan as JSON: bytes, seconds and counts, nothing rounded and nothing only for the eye."""

from typing import Any

from build.plan import roofline, traffic
from build.plan.memory import GRAPHS, cache_width, token_bytes
from build.plan.planner import Option, Plan
from build.plan.quantization import BYTES
from build.plan.roofline import Speed


def as_json(plan: Plan) -> dict[str, Any]:
    """Everything that the plan found."""
    shapes, load, machines, demand = plan.load.shapes, plan.load, plan.machines, plan.demand
    gpu = machines.gpu
    return {
        "model": {
            "config": plan.config.name,
            "architecture": shapes.architecture,
            "parameters": shapes.parameters(),
            "active_parameters": shapes.active(),
            "mtp_parameters": shapes.parameters(mtp=True),
            "layers": shapes.layers,
            "context": shapes.context,
            "experts": shapes.experts.__dict__ if shapes.experts else None,
        },
        "weights": {
            "precision": load.scheme.name,
            "bytes": load.total,
            "mtp_bytes": load.mtp_bytes,
            "by_part": {part.value: size for part, size in load.parts().items()},
        },
        "cache": {
            "bytes_per_number": cache_width(load, demand),
            "bytes_per_token": token_bytes(load, demand),
            "compressed": shapes.caches[0].compressed,
            "sliding_layers": sum(bool(cache.window) for cache in shapes.caches),
        },
        "gpus": {
            "name": machines.name,
            "per_node": machines.per_node,
            "nodes": machines.nodes,
            "sm": gpu.sm,
            "memory_bytes": machines.memory,
            "fp8": bool(gpu.fp8),
            "fp4": bool(gpu.fp4),
        },
        "demand": demand.__dict__,
        "layouts": [option_json(option) for option in (*plan.fitting, *plan.rest)],
        "best": {
            "layout": str(plan.best.layout),
            "largest_batch_by_length": {str(length): batch for length, batch in plan.batches().items()},
            "estimates_of_one_copy": [_speed(speed) for speed in speeds(plan)],
        },
        "assumptions": assumptions(plan),
        "notes": list(plan.notes),
    }


def option_json(option: Option) -> dict[str, Any]:
    """One layout."""
    layout, memory, links = option.layout, option.memory, option.traffic
    found: dict[str, Any] = {
        "name": str(layout),
        "tensor": layout.tensor,
        "pipeline": layout.pipeline,
        "expert": layout.expert,
        "attention_dp": layout.attention_dp,
        "fits": option.fits,
        "faults": list(option.faults),
    }
    if memory and links:
        found |= {
            "copies": option.copies,
            "gpu_bytes": {
                "usable": memory.usable,
                "weights": memory.weight,
                "activations": memory.activations,
                "graphs": GRAPHS,
                "room_for_cache": memory.room,
                "cache_per_token": memory.per_token,
                "cache_per_request": memory.per_request,
            },
            "largest_batch": option.batch,
            "bytes_sent_per_token": {
                "all_reduce": links.all_reduce,
                "all_to_all": links.all_to_all,
                "point_to_point": links.point_to_point,
                "over_network": links.network,
            },
            "estimate_tokens_per_s": option.tokens_per_s,
        }
    return found


def speeds(plan: Plan) -> list[Speed]:
    """One request alone, and as many as fit."""
    full = plan.best.speed
    return [plan.alone, *([full] if full and full.batch > 1 else [])]


def _speed(speed: Speed) -> dict[str, float]:
    return {
        "batch": speed.batch,
        "ttft_s": speed.ttft_s,
        "seconds_per_token": speed.token_s,
        "tokens_per_s_per_stream": speed.per_stream,
        "tokens_per_s": speed.tokens_per_s,
    }


def assumptions(plan: Plan) -> list[str]:
    """What the figures stand on, for a reader who wants to correct them."""
    demand, width = plan.demand, BYTES[plan.load.scheme.dtype]
    near, far = (f"{traffic.HOP_S[network] * 1e6:.0f} µs" for network in (False, True))
    return [
        f"{demand.usable:.0%} of a GPU's memory is the server's, {GRAPHS / 2**30:.0f} GiB of it for CUDA graphs and "
        "workspaces; CUDA and NCCL have the rest",
        f"activations of {width} bytes in steps of {demand.step_tokens} tokens; experts are chosen evenly",
        f"a request is a prompt of {demand.prompt} tokens and its answer up to {demand.length}; no prefix is shared",
        f"{roofline.READ_SHARE:.0%} of the memory's bandwidth, {roofline.COMPUTE_SHARE:.0%} of the FLOPS and "
        f"{traffic.LINK_SHARE:.0%} of the links are reached, nothing overlaps",
        f"{roofline.LAYER_S * 1e6:.0f} µs a layer, {near} a collective in a machine, {far} over the network, which has "
        f"an adapter of {plan.nic_gbps:.0f} Gb/s for each GPU",
    ]
