"""The server's own metrics through the run: its pages read each second, on the same clock as the rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gevent
import msgspec

from contract.metrics_page import samples
from loadtests.load.get import get
from loadtests.load.streams.target import Clock

PREFIXES = ("conch_", "nv_", "DCGM_FI_", "vllm:", "sglang:")


class Reading(msgspec.Struct):
    """All pages at one moment; the samples of a name are summed over their labels."""

    at: float
    values: dict[str, float]


@dataclass(frozen=True)
class Series:
    """A chart of the report: a gauge as it is, or a counter's growth a second."""

    name: str
    title: str
    unit: str
    counter: bool = False
    per: str = ""  # another counter that it is divided by: a mean
    scale: float = 1.0


_QUEUE = "conch_gateway_queue_seconds"
_DRAFT = "conch_draft_tokens"
SERIES = (
    Series("conch_requests_active", "Requests in the engine", ""),
    Series("conch_requests_waiting", "Requests waiting for the engine", ""),
    Series("conch_gateway_requests_waiting", "Requests waiting at the gateway", ""),
    Series(f"{_QUEUE}_sum", "Queue time at the gateway", "ms", True, f"{_QUEUE}_count", 1e3),
    Series("conch_generated_tokens_total", "Tokens generated", "1/s", True),
    Series("conch_prompt_tokens_total", "Prompt tokens", "1/s", True),
    Series("conch_engine_steps_total", "Engine steps", "1/s", True),
    Series("conch_stream_deltas_total", "Stream deltas", "1/s", True),
    Series("conch_kv_cache_usage_ratio", "KV cache in use", "%", scale=100),
    Series(f"{_DRAFT}_accepted_total", "Guessed tokens taken", "%", True, f"{_DRAFT}_total", 100),
    Series("nv_inference_request_failure", "Triton: failed requests", "1/s", True),
    Series("nv_inference_queue_duration_us", "Triton: queue time", "ms", True, "nv_inference_exec_count", 1e-3),
    Series("nv_inference_pending_request_count", "Triton: pending requests", ""),
    Series("nv_cpu_utilization", "Machine: CPU in use", "%", scale=100),
    Series("nv_gpu_utilization", "GPU in use", "%", scale=100),
    Series("nv_gpu_power_usage", "GPU power", "W"),
    Series("DCGM_FI_DEV_GPU_UTIL", "GPU in use (dcgm)", "%"),
    Series("DCGM_FI_DEV_POWER_USAGE", "GPU power (dcgm)", "W"),
    Series("DCGM_FI_DEV_FB_USED", "GPU memory (dcgm)", "MiB"),
    Series("vllm:num_requests_running", "vLLM: running", ""),
    Series("vllm:num_requests_waiting", "vLLM: waiting", ""),
    Series("vllm:kv_cache_usage_perc", "vLLM: KV cache in use", "%", scale=100),
    Series("sglang:num_running_reqs", "SGLang: running", ""),
    Series("sglang:num_queue_reqs", "SGLang: waiting", ""),
)  # fmt: skip


def page(text: str) -> dict[str, float]:
    """A page's samples that we know how to name, summed over labels."""
    values: dict[str, float] = {}
    for sample in samples(text):
        if sample.name.startswith(PREFIXES) and not sample.name.endswith("_bucket"):
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return values


def watch(urls: tuple[str, ...], until: Callable[[], bool], clock: Clock, seen: Callable[[Reading], None]) -> None:
    """Read each second; a page that does not answer is left out of that reading."""
    while not until():
        values: dict[str, float] = {}
        at = round(clock(), 3)
        for url in urls:
            try:
                values |= page(get(url, 2).decode())
            except (OSError, ValueError):
                continue
        if values:
            seen(Reading(at, values))
        gevent.sleep(1.0)


def plotted(readings: list[Reading]) -> Iterator[tuple[Series, list[tuple[float, float]]]]:
    """Each series that these readings have, as points."""
    for series in SERIES:
        points = list(_points(series, readings))
        if points and (any(value for _, value in points) or not series.counter):
            yield series, points


def _points(series: Series, readings: list[Reading]) -> Iterator[tuple[float, float]]:
    before: Reading | None = None
    for reading in readings:
        if series.name not in reading.values:
            continue
        if not series.counter:
            yield reading.at, reading.values[series.name] * series.scale
        elif before is not None:
            grown = reading.values[series.name] - before.values[series.name]
            by = reading.at - before.at
            if series.per:
                by = reading.values.get(series.per, 0.0) - before.values.get(series.per, 0.0)
            if by > 0 and grown >= 0:  # a counter that falls is a server that was restarted
                yield reading.at, grown / by * series.scale
        before = reading
