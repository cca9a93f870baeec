"""What is measured on a GPU machine without a network: a shape of random weights or a checkpoint, without make engine.

``python -m loadtests.gpu_deployment --shape llama-8b --runtime sglang`` puts it in an engine's place and prints its
config, for loadtests.compare. Nothing here is verified: the shape has nothing to verify, and the checkpoint's texts are
compared by who measures.
"""

import argparse
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from contract.checkout import ROOT
from contract.errors import ServeError
from contract.manifest import MANIFEST, Manifest, engines_root, now, this_machine
from contract.spec import load_spec
from loadtests.command import ended
from loadtests.own_server import SERVERS
from loadtests.shapes import SHAPES, write_shape, write_weights


def _placed(name: str, shape: str | None, checkpoint: Path | None) -> Path:
    """The engine's folder."""
    engine = engines_root(ROOT, name) / "bench"
    engine.mkdir(parents=True, exist_ok=True)
    if shape:
        write_shape(shape, engine)
    else:
        assert checkpoint
        for file in checkpoint.resolve().iterdir():
            with suppress(FileExistsError):
                (engine / file.name).symlink_to(file)
    return engine


def _written(name: str, engine: Path, sections: dict[str, Any]) -> Path:
    """The config of an engine that is in its place; its manifest too."""
    model = json.loads((engine / "config.json").read_text())
    eos = model["eos_token_id"]
    data = {
        "name": name,
        "source": {"kind": "path", "path": str(engine)},
        "gateway": {"max_queue_s": 120, "max_queue_size": 512},
        **sections,
    }
    config = engine.parent / "bench.yaml"
    config.write_text(yaml.safe_dump(data))
    spec = load_spec(config)
    files = {file.name: file.stat().st_size for file in engine.iterdir() if file.name != MANIFEST}
    manifest = Manifest(
        deployment=name,
        version="bench",
        runtime=spec.engine.runtime,
        precision=spec.engine.precision,
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
        (engine.parent / "current").symlink_to("bench")
    return config


def main(arguments: Sequence[str]) -> int:
    """Place one deployment and print its config."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--shape", choices=sorted(SHAPES), help="random weights of this shape")
    which.add_argument("--checkpoint", type=Path, help="a Hugging Face checkpoint")
    parser.add_argument("--runtime", choices=sorted(SERVERS), required=True)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--options", default="{}", help='further ones of engine.RUNTIME: {"backend": "pytorch"}')
    parser.add_argument("--name", default="", help="of the deployment, where two differ in their options alone")
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--batched-tokens", type=int, default=8192)
    parser.add_argument("--memory", type=float, default=0.85, help="of the GPU, or of what the weights leave")
    options = parser.parse_args(arguments)
    more: dict[str, Any] = json.loads(options.options)
    backend = f"-{more['backend']}" if "backend" in more else ""
    name = options.name or f"bench-{options.shape or options.checkpoint.name}-{options.runtime}{backend}".lower()
    engine = _placed(name, options.shape, options.checkpoint)
    server = SERVERS[options.runtime]
    own = {server.memory: options.memory, **more}
    if options.shape and server.random_weights:
        own["load_format"] = "dummy"
    elif options.shape:
        try:
            write_weights(engine)
        except ImportError as missing:
            raise ServeError(str(missing)) from None
    sections = {
        "engine": {"runtime": options.runtime, "precision": options.precision, options.runtime: own},
        "limits": {
            "max_seq_len": options.context,
            "max_input_len": options.context - 64,
            "max_batch_size": options.streams,
            "max_queue_size": 512,
            "max_num_tokens": options.batched_tokens,
        },
        "verify": {"reference": "none" if options.shape else "cpu"},
    }
    print(_written(name, engine, sections))
    return 0


if __name__ == "__main__":
    ended(main)
