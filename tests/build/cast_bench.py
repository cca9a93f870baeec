"""``make bench-cast``: how fast a cast is beside a plain copy of as many bytes, and whether killing it changes any.

The copy is of the FP8 shards themselves, each twice: its second reading comes out of memory, so it is rather too fast
than too slow, and no second BF16 checkpoint needs room on the disk. Both sync every file that they have written.
"""

import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
import typer
from rich.filesize import decimal

from build.cast_plan import BLOCK, INDEX
from build.safetensors_file import lay_out
from build.steps import console
from contract.errors import BuildError, ConchError
from contract.manifest import digest, now, this_machine

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".conch" / "cast-bench"
RESULT = ROOT / "docs" / "cast-bench.json"
RESERVE = 8 * 10**9  # bytes of the disk that stay free
SHARDS = 5
EXPERT = {"gate_proj": (2048, 7168), "up_proj": (2048, 7168), "down_proj": (7168, 2048)}  # DeepSeek-V3's

Phase = Annotated[Literal["all", "prepare", "time", "kill"], typer.Option(help="one part of it")]
Gigabytes = Annotated[float, typer.Option(help="of the BF16 copy; the FP8 checkpoint is half of it")]
Rounds = Annotated[int, typer.Option(help="casts and copies, in turns")]
Kills = Annotated[int, typer.Option(help="how often it is killed")]


def main(phase: Phase = "all", gigabytes: Gigabytes = 20, rounds: Rounds = 3, kills: Kills = 5) -> None:
    """Measure a cast, and write docs/cast-bench.json."""
    try:
        if phase in ("all", "prepare"):
            prepare(gigabytes)
        if phase in ("all", "time"):
            record(in_memory() | against_a_copy(rounds))
        if phase in ("all", "kill"):
            record({"killed": killed(kills)})
            shutil.rmtree(WORK)
    except ConchError as refusal:
        console.print(f"[red]✗[/red] {refusal}", markup=False)
        sys.exit(1)


def record(found: dict[str, Any]) -> None:
    """Put a part of the measurement beside the others."""
    machine = this_machine().model_dump() | {
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
    }
    before = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps(before | {"machine": machine, "measured_at": now()} | found, indent=2) + "\n")
    console.print_json(data=found)


def prepare(gigabytes: float) -> None:
    """Write a checkpoint of random experts in FP8."""
    import numpy as np

    shutil.rmtree(WORK, ignore_errors=True)
    source = WORK / "fp8"
    source.mkdir(parents=True)
    wanted = gigabytes * 1e9
    if (free := shutil.disk_usage(WORK).free) < 1.5 * wanted + RESERVE:
        raise BuildError(f"bench-cast needs {decimal(int(1.5 * wanted + RESERVE))}, {decimal(free)} are free")
    rng = np.random.default_rng(0)
    experts = round(wanted / 2 / SHARDS / sum(rows * columns for rows, columns in EXPERT.values()))
    places: dict[str, str] = {}
    for number in range(SHARDS):
        file = source / f"model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        weights = {
            f"model.layers.{number}.mlp.experts.{expert}.{name}.weight": shape
            for expert in range(experts)
            for name, shape in EXPERT.items()
        }
        scales = {f"{name}_scale_inv": (rows // BLOCK, columns // BLOCK) for name, (rows, columns) in weights.items()}
        header, _ = lay_out(
            [(name, "F32", shape, 4 * shape[0] * shape[1]) for name, shape in scales.items()]
            + [(name, "F8_E4M3", shape, shape[0] * shape[1]) for name, shape in weights.items()],
            {"format": "pt"},
        )
        with file.open("wb") as opened:
            opened.write(header)
            for shape in scales.values():
                opened.write((rng.random(shape, dtype=np.float32) * 1e-3).tobytes())
            for rows, columns in weights.values():
                codes = np.frombuffer(rng.bytes(rows * columns), np.uint8)
                opened.write((codes - ((codes & 0x7F) == 0x7F)).astype(np.uint8).tobytes())  # no NaN: models have none
            os.fsync(opened.fileno())
        places |= dict.fromkeys([*weights, *scales], file.name)
    (source / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    quantization = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [BLOCK, BLOCK]}
    (source / "config.json").write_text(json.dumps({"torch_dtype": "bfloat16", "quantization_config": quantization}))


def in_memory() -> dict[str, Any]:
    """The arithmetic alone, on one core, and a copy within memory of as many bytes."""
    import numpy as np
    import torch

    from build.fp8 import Decoder

    torch.set_num_threads(1)
    rows, columns = 8192, 7168
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 0x7F, (rows, columns), dtype=np.uint8))
    scales = np.full((rows // BLOCK, columns // BLOCK), 1e-3, np.float32)
    out, other = (torch.empty((rows, columns), dtype=torch.bfloat16) for _ in range(2))
    decoder = Decoder()

    def rate(work: Callable[[], object], written: int) -> float:
        work()
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            work()
            times.append(time.perf_counter() - begun)
        return round(written / statistics.median(times) / 1e9, 2)

    return {
        "in_memory_one_core_gb_per_s": {
            "cast": rate(lambda: decoder.decode(codes, scales, out), out.nbytes),
            "copy": rate(lambda: other.copy_(out), out.nbytes),
        }
    }


def against_a_copy(rounds: int) -> dict[str, Any]:
    """Cast and copy in turns, each from a cold cache."""
    casts, copies, peaks = [], [], []
    for _ in range(rounds):
        seconds, peak = cast()
        casts.append(seconds)
        peaks.append(peak)
        written = sum(file.stat().st_size for file in shards("bf16"))
        (WORK / "sha256.json").write_text(json.dumps(hashes()))
        shutil.rmtree(WORK / "bf16")
        copies.append(copy(written))
        shutil.rmtree(WORK / "copy")
    return {
        "bytes_read": sum(file.stat().st_size for file in shards("fp8")),
        "bytes_written": written,
        "shard_bytes": max(file.stat().st_size for file in shards("fp8")),
        "peak_memory_bytes": max(peaks),
        "cast_s": casts,
        "copy_s": copies,
        "cast_over_copy": round(statistics.median(casts) / statistics.median(copies), 3),
    }


def shards(folder: str) -> list[Path]:
    """The weights in a folder of the bench."""
    return sorted((WORK / folder).glob("*.safetensors"))


def hashes() -> dict[str, str]:
    """sha256 of everything in the BF16 copy."""
    return {file.name: digest(file) for file in sorted((WORK / "bf16").iterdir())}


def forget() -> None:
    """Drop the FP8 shards from the page cache, after all that is to be written is."""
    os.sync()
    for file in shards("fp8"):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def start() -> subprocess.Popen[bytes]:
    """The command, as make cast runs it."""
    return subprocess.Popen(
        [sys.executable, "-m", "build.cast_command", WORK / "fp8", WORK / "bf16"], cwd=ROOT, stderr=subprocess.PIPE
    )


def cast() -> tuple[float, int]:
    """Seconds of the whole command, and its peak of resident memory in bytes."""
    forget()
    begun, peak = time.monotonic(), 0
    with start() as run:
        status = Path(f"/proc/{run.pid}/status")
        while run.poll() is None:
            if "VmHWM:" in (text := status.read_text()):  # a zombie has none
                peak = max(peak, int(text.split("VmHWM:")[1].split()[0]) << 10)
            time.sleep(0.02)
        seconds = time.monotonic() - begun
        if run.returncode:
            raise BuildError(f"the cast failed: {run.stderr.read().decode() if run.stderr else ''}")
    return round(seconds, 2), peak


def copy(written: int) -> float:
    """Seconds that a plain copy takes to write as many bytes."""
    (WORK / "copy").mkdir()
    forget()
    begun = time.monotonic()
    left = written
    for number in range(2):
        for file in shards("fp8"):
            place = WORK / "copy" / f"{number}-{file.name}"
            shutil.copyfile(file, place)
            if (size := min(left, file.stat().st_size)) < file.stat().st_size:
                os.truncate(place, size)
            with place.open("rb") as opened:
                os.fsync(opened.fileno())
            left -= size
    return round(time.monotonic() - begun, 2)


def killed(kills: int) -> dict[str, Any]:
    """Kill the command at random moments, let it end, and compare every byte with those of a cast in one go."""
    seconds = statistics.median(json.loads(RESULT.read_text())["cast_s"])
    moments = random.Random(time.time_ns())
    shares: list[float] = []
    total = json.loads(RESULT.read_text())["bytes_written"]
    while len(shares) < kills:
        with start() as run:
            time.sleep(moments.uniform(0, seconds / 2))
            run.kill()
        if (WORK / "bf16").exists():  # it had ended before: once more from the beginning
            shutil.rmtree(WORK / "bf16")
            shares.clear()
            continue
        there = sum(file.stat().st_size for file in (WORK / ".bf16.partial").glob("[!.]*.safetensors"))
        shares.append(round(there / total, 3))
    cast()
    return {
        "times": kills,
        "bytes_written": total,
        "share_of_bytes_finished_at_each": shares,
        "same_bytes_in_the_end": hashes() == json.loads((WORK / "sha256.json").read_text()),
    }


if __name__ == "__main__":
    typer.run(main)
