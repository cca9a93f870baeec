"""The wheels of SGLang and LMDeploy → tests/doubles/api/NAME.json: what may be called there, with which arguments.

``make record-apis`` runs this: only needed when a pinned version changes. Neither engine runs without a GPU, so their
sources are read and not imported.
"""

import ast
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

API = Path(__file__).resolve().parents[1] / "doubles" / "api"
REQUIRED = "<required>"
_GLIBC = (35, 34, 31, 28, 17)

# file and class → what is recorded of it: its fields, the arguments of methods, or its members.
_WANTED: dict[str, dict[str, tuple[str, str]]] = {
    "sglang": {
        "ServerArgs": ("sglang/srt/server_args.py", "fields"),
        "SamplingParams": ("sglang/srt/sampling/sampling_params.py", "fields"),
        "LoadSnapshot": ("sglang/srt/managers/load_snapshot.py", "fields"),
        "Engine.async_generate": ("sglang/srt/entrypoints/engine.py", "arguments"),
        "Engine.shutdown": ("sglang/srt/entrypoints/engine.py", "arguments"),
        "TokenizerManager.abort_request": ("sglang/srt/managers/tokenizer_manager.py", "arguments"),
    },
    "lmdeploy": {
        "TurbomindEngineConfig": ("lmdeploy/messages.py", "fields"),
        "PytorchEngineConfig": ("lmdeploy/messages.py", "fields"),
        "GenerationConfig": ("lmdeploy/messages.py", "fields"),
        "EngineOutput": ("lmdeploy/messages.py", "fields"),
        "ScheduleMetrics": ("lmdeploy/messages.py", "fields"),
        "ResponseType": ("lmdeploy/messages.py", "members"),
        "TurboMind.from_pretrained": ("lmdeploy/turbomind/turbomind.py", "arguments"),
        "TurboMindInstance.async_stream_infer": ("lmdeploy/turbomind/turbomind.py", "arguments"),
        "TurboMindInstance.async_cancel": ("lmdeploy/turbomind/turbomind.py", "arguments"),
        "Engine.from_pretrained": ("lmdeploy/pytorch/engine/engine.py", "arguments"),
        "Engine.start_loop": ("lmdeploy/pytorch/engine/engine.py", "arguments"),
        "Engine.stop": ("lmdeploy/pytorch/engine/engine.py", "arguments"),
        "Engine.wait_tasks": ("lmdeploy/pytorch/engine/engine.py", "arguments"),
        "EngineInstance.async_stream_infer": ("lmdeploy/pytorch/engine/engine_instance.py", "arguments"),
        "EngineInstance.async_cancel": ("lmdeploy/pytorch/engine/engine_instance.py", "arguments"),
    },
}


def fetch(requirement: str, folder: Path) -> Path:
    """The wheel of ``NAME==VERSION`` for the Python and the Linux that GPU machines have."""
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in _GLIBC]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version=3.12", "--implementation=cp", *platforms, "--dest", str(folder), requirement]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def record(requirement: str, wheel: Path) -> dict[str, Any]:
    """What the double of one engine is held to."""
    name, _, version = requirement.partition("==")
    found: dict[str, Any] = {}
    with zipfile.ZipFile(wheel) as files:
        for what, (file, kind) in _WANTED[name].items():
            owner, _, method = what.partition(".")
            node = _find(ast.parse(files.read(file)), owner, ast.ClassDef)
            if kind == "fields":
                found[what] = _fields(node)
            elif kind == "members":
                found[what] = [each.targets[0].id for each in node.body if isinstance(each, ast.Assign)]  # type: ignore[attr-defined]
            else:
                found[what] = _arguments(_find(node, method, ast.FunctionDef, ast.AsyncFunctionDef))
    return {"source": wheel.name, "version": version, "api": found}


def _find(tree: Any, name: str, *kinds: type[ast.AST]) -> Any:
    return next(node for node in tree.body if isinstance(node, kinds) and getattr(node, "name", "") == name)


def _fields(node: ast.ClassDef) -> dict[str, Any]:
    return {
        each.target.id: {"type": _type(each.annotation), "default": _default(each.value)}
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and "ClassVar" not in ast.dump(each)
    }


def _arguments(node: Any) -> dict[str, Any]:
    named = node.args.args
    defaults = [None] * (len(named) - len(node.args.defaults)) + node.args.defaults
    found = {
        each.arg: {"type": _type(each.annotation), "default": _default(default)}
        for each, default in zip(named, defaults, strict=True)
        if each.arg not in ("self", "cls")
    }
    return found | ({"**": {"type": "Any", "default": None}} if node.args.kwarg else {})


def _type(annotation: ast.expr | None) -> str:
    """As written; of SGLang's ``A[type, help, …]`` the type alone."""
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name) and annotation.value.id == "A":
        assert isinstance(annotation.slice, ast.Tuple)
        annotation = annotation.slice.elts[0]
    return ast.unparse(annotation) if annotation else "Any"


def _default(value: ast.expr | None) -> Any:
    if value is None:
        return REQUIRED
    try:
        return ast.literal_eval(value)
    except ValueError:
        return f"<{ast.unparse(value)}>"


def pretty(data: dict[str, Any]) -> str:
    """JSON with a line a field."""
    text = json.dumps(data, indent=1, ensure_ascii=False, default=str)
    return re.sub(r"\{\s+(\"type\"[^{}]*?)\s+\}", lambda found: "{" + re.sub(r"\s+", " ", found[1]) + "}", text) + "\n"


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        with TemporaryDirectory() as where:
            recorded = record(wanted, fetch(wanted, Path(where)))
        (API / f"{wanted.partition('==')[0]}.json").write_text(pretty(recorded), encoding="utf-8")
