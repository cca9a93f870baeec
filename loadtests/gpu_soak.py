"""Minutes of many streams over a GPU's server, half of them through the gateway, one in ten given up: what is left?"""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from contract.spec import Deployment
from loadtests.fleet import Fleet
from loadtests.lean import Order
from loadtests.meter import family, gauge, memory_mib
from loadtests.pipeline import quantiles

CANCEL_SHARE = 0.1
SAMPLE_S = 10.0
SETTLES_S = 30.0  # the KV cache's state is told by a step, at the latest by a canary's
GAUGES = ("conch_requests_active", "conch_requests_waiting", "conch_streams_open", "conch_kv_cache_usage_ratio")


def soak(
    spec: Deployment, config: Path, server_pid: int, requests: list[dict[str, Any]], options: Any
) -> dict[str, Any]:
    """Load a server for ``options.soak_seconds``; its memory and its gauges are sampled meanwhile and afterwards."""
    ports, half = spec.ports, options.soak_streams // 2
    order = Order(
        "grpc", ports.host, ports.grpc, spec.name, requests, options.soak_streams - half, options.soak_seconds,
        cancel_share=CANCEL_SHARE, seed=1, brief=True,
    )  # fmt: skip
    door = replace(order, way="openai", port=ports.gateway, streams=half, seed=101)
    fleets = [Fleet(each, options.clients // 2) for each in (order, door)]
    samples = []
    for now in _clock(fleets[0].start_at + options.soak_seconds):
        samples.append(_sample(spec, config, server_pid, now - fleets[0].start_at))
        print(json.dumps(samples[-1]), flush=True)
    lines = [each for fleet in fleets for each in fleet.wait().timelines]
    after = _settled(spec, config, server_pid, time.time())
    warm = next(each for each in samples if each["s"] >= options.soak_seconds / 5 or each is samples[-1])
    ended = {reason: sum(each.finish_reason == reason for each in lines) for reason in ("length", "cancelled")}
    tokens = sum(count for each in lines for _, count in each.deltas)
    return {
        "way": "soak",
        "streams": options.soak_streams,
        "seconds": options.soak_seconds,
        "complete": ended["length"],
        "cancelled": ended["cancelled"],
        "errors": [each.error for each in lines if each.error][:20],
        "tokens_per_s": round(tokens / options.soak_seconds, 1),
        "ttft_ms": quantiles([each.deltas[0][0] - each.sent for each in lines if each.deltas]),
        "after": after,
        "memory_growth_mib": {  # since a fifth of the time, when caches are full
            name: round(rss - warm["memory_mib"].get(name, 0.0), 1) for name, rss in after["memory_mib"].items()
        },
        "samples": samples,
    }


def _clock(until: float) -> Iterator[float]:
    while (now := time.time()) < until:
        yield now
        time.sleep(SAMPLE_S)


def _settled(spec: Deployment, config: Path, server_pid: int, ended: float) -> dict[str, Any]:
    """What is left, once nothing is or the patience is over."""
    while True:
        left = _sample(spec, config, server_pid, time.time() - ended)
        if not any(left["gauges"].values()) or left["s"] > SETTLES_S:
            return left
        time.sleep(0.5)


def _sample(spec: Deployment, config: Path, server_pid: int, seconds: float) -> dict[str, Any]:
    ports = spec.ports
    door = sum(each.memory_info().rss for each in family("-m", "gateway", str(config))()) / 2**20
    return {
        "s": round(seconds, 1),
        "memory_mib": memory_mib(server_pid) | {"gateway": round(door, 1)},
        "gpu_memory_mib": _gpu_memory_mib(),
        "gauges": {
            **{name: gauge(f"http://{ports.host}:{ports.metrics}/metrics", name) for name in GAUGES},
            **{
                name: gauge(f"http://{spec.gateway.host}:{ports.gateway}/metrics", name)
                for name in ("conch_gateway_requests_active", "conch_gateway_requests_waiting")
            },
        },
    }


def _gpu_memory_mib() -> float | None:
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    with suppress(OSError, ValueError, IndexError):
        return float(subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()[0])
    return None
