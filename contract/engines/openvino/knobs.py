"""OpenVINO's knobs: the machine's cores are all it has, and its stages and the gateway live on the same ones.

The precision of its KV cache follows that of the weights (python_backend/openvino/engine.py): it is no field.
"""

import os

from contract.cores import cores
from contract.engines.kinds import Precision
from contract.engines.knobs import Knob, Seen, Settings, batch, knob, step
from contract.manifest import this_machine
from contract.sections import Sections

_BY_SPEED: tuple[Precision, ...] = ("fp32", "bf16", "int8", "int4")  # the slowest first (docs/precision.md)
_OF_MEMORY = 4  # the cache takes a quarter of it at most


def knobs(spec: Sections) -> tuple[Knob, ...]:
    """Threads, the batch, the step, the cache; and the precisions that are faster than the deployment's own."""
    available = cores()
    fewer = {max(1, available // 2), max(1, available - 1), max(1, available - 2)}
    threads = tuple(sorted(count for count in fewer if count < available))
    memory_gib = (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) >> 30
    caches = tuple(size for size in (1, 2, 4, 8, 16) if size <= memory_gib // _OF_MEMORY)
    found = (
        knob(spec, "engine.threads", threads, "cores for the engine, or for what is around it"),
        batch(spec),
        step(spec, (64, 128, 256, 512, 1024, 2048)),
        knob(spec, "limits.kv_cache_gib", caches, "room for long prompts and for beginnings that come again"),
    )
    faster = _BY_SPEED[_BY_SPEED.index(spec.engine.precision) + 1 :]
    if "avx512_bf16" not in this_machine().instruction_sets:
        faster = tuple(precision for precision in faster if precision != "bf16")
    if not faster:
        return found
    precision = knob(spec, "engine.precision", faster, "less to read for each token", rebuilt=True, answers=True)
    return *found, precision


def guesses(spec: Sections, seen: Seen) -> tuple[Settings, ...]:
    """A batch that the cores carry within a token's time, and nobody let in who would wait too long."""
    crowd = seen.together(spec)
    soon: Settings = {"gateway.max_queue_s": seen.wait_s}
    held: Settings = {"streaming.max_itl_ms": 100, **soon}
    return (
        {"limits.max_batch_size": crowd * 5 // 4, **soon},
        {"limits.max_batch_size": crowd * 3 // 2, **held},
        {"limits.max_batch_size": crowd, "limits.max_num_tokens": 128, **held},
        {"limits.max_batch_size": crowd * 5 // 4, "limits.max_num_tokens": 256, **held},
        {"engine.threads": max(1, cores() - 1), "limits.max_batch_size": crowd, **held},
        {"engine.precision": "int4", "limits.max_batch_size": crowd * 3 // 2, **held},
    )
