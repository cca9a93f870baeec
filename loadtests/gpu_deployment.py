"""What gpu_bench serves: a shape of random weights or a checkpoint, put in an engine's place without make engine.

Nothing here is verified: the shape has nothing to verify, and the checkpoint's texts are compared by the bench itself.
"""

import argparse
import json
from contextlib import suppress
from pathlib import Path

import yaml

from contract.manifest import MANIFEST, Manifest, engines_root, now, this_machine
from contract.spec import Deployment, load_spec
from loadtests.served import ROOT
from loadtests.shapes import write_shape


def deployment(options: argparse.Namespace) -> tuple[Deployment, Path, Path, int]:
    """The deployment of a shape of random weights, or of a checkpoint, its engine in its place."""
    name = f"bench-{options.shape or options.checkpoint.name}".lower()
    home = engines_root(ROOT, name)
    engine = home / "bench"
    engine.mkdir(parents=True, exist_ok=True)
    if options.shape:
        write_shape(options.shape, engine)
    else:
        for file in options.checkpoint.resolve().iterdir():
            with suppress(FileExistsError):
                (engine / file.name).symlink_to(file)
    model = json.loads((engine / "config.json").read_text())
    eos = model["eos_token_id"]
    source = {"kind": "path", "path": str(engine)}
    data = {
        "name": name,
        "source": source,
        "engine": {
            "runtime": "vllm",
            "precision": options.precision,
            "vllm": {
                "load_format": "dummy" if options.shape else "auto",
                "enforce_eager": options.eager,
                "gpu_memory_utilization": options.memory,
            },
        },
        "limits": {
            "max_seq_len": options.context,
            "max_input_len": options.context - 16,
            "max_batch_size": max(*options.streams, options.soak_streams if "soak" in options.phases else 1, 1),
            "max_queue_size": 512,
            "max_num_tokens": options.batched_tokens,
        },
        "gateway": {"max_queue_s": 120, "max_queue_size": 512},
        "streaming": {"max_responses_per_s": options.responses},
        "ports": {name: options.ports + at for at, name in enumerate(("http", "grpc", "metrics", "gateway"))},
    }
    config = home / "bench.yaml"
    config.write_text(yaml.safe_dump(data))
    spec = load_spec(config)
    files = {file.name: file.stat().st_size for file in engine.iterdir() if file.name != MANIFEST}
    manifest = Manifest(
        deployment=name,
        version="bench",
        runtime="vllm",
        precision=options.precision,
        origin=None,
        built_with={},
        built_for=this_machine(),
        max_position_embeddings=model["max_position_embeddings"],
        vocab_size=model["vocab_size"],
        eos_token_ids=tuple(eos) if isinstance(eos, list) else (eos,),
        measured=None,
        built_at=now(),
        build_seconds=0,
        size_bytes=sum(files.values()),
        files=files,
    )
    (engine / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    with suppress(FileExistsError):
        (home / "current").symlink_to("bench")
    return spec, config, engine, model["vocab_size"]
