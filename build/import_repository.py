"""``python -m build.import_repository FOLDER`` (make import-repository): NVIDIA's C++ ensemble as a deployment spec.

What a parameter becomes stands in build.inflight_batcher_table; this reads it, and what is no parameter.
"""

import math
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from build.inflight_batcher import MODELS, Model, Repository, read_repository
from build.inflight_batcher_table import (
    BLS,
    COUNTS,
    DTYPES,
    ENGINE,
    ENGINE_ELSEWHERE,
    INPUTS,
    ONE_PROCESS,
    OUTPUTS,
    PRECISIONS,
    TEXT,
    TEXT_ELSEWHERE,
    TRTLLM,
    No,
    To,
)
from contract.checkout import ROOT
from contract.errors import BuildError, ConchError, SpecError
from contract.spec import load_spec
from contract.tensors import INPUT_BY_NAME, OUTPUT_BY_NAME, Decision


@dataclass
class Import:
    """A spec as it grows, and what did not get into it."""

    spec: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # without equivalent: one line each
    unfilled: list[str] = field(default_factory=list)

    def put(self, key: str, value: Any) -> None:
        """Set a dotted key of the spec."""
        *sections, last = key.split(".")
        place = self.spec
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value

    def note(self, what: str, reason: str) -> None:
        """Tell of something that has no equivalent."""
        self.notes.append(f"{what}: {reason}")


def translate(repository: Repository, name: str = "") -> Import:
    """The spec that comes nearest to a repository, and all that it cannot say.

    Args:
        name: of the deployment; '' takes the tokenizer's folder's.

    Raises:
        BuildError: a parameter's value is none, naming its file.
    """
    found = Import()
    tokenizer = _tokenizer(repository)
    found.put("name", name or _name(tokenizer, repository))
    found.put("source", {"kind": "path", "path": tokenizer or "/path/to/the/checkpoint"})
    found.put("engine.runtime", "trtllm")
    if not tokenizer:
        found.note(
            "preprocessing tokenizer_dir", "not given: put the folder of the Hugging Face checkpoint at source.path"
        )
    _from_engine(repository, found)
    for model in repository.models.values():
        found.unfilled += [f"{model.name}/config.pbtxt: ${{{placeholder}}}" for placeholder in model.unfilled]
    _from_batching(repository.models["tensorrt_llm"], found)
    _from_parameters(repository.models["tensorrt_llm"], ENGINE, ENGINE_ELSEWHERE, found)
    _from_lookahead(repository.models["tensorrt_llm"].parameters, found)
    for part, table, elsewhere in (
        ("preprocessing", TEXT, TEXT_ELSEWHERE),
        ("postprocessing", TEXT, TEXT_ELSEWHERE),
        ("tensorrt_llm_bls", BLS, set()),
    ):
        if part in repository.models:
            _from_parameters(repository.models[part], table, elsewhere, found)
    _from_instances(repository, found)
    _from_tensors(repository, found)
    return found


def _tokenizer(repository: Repository) -> str:
    """The folder of the tokenizer: as a rule the checkpoint's."""
    models = (repository.models.get(part) for part in ("preprocessing", "postprocessing", "tensorrt_llm"))
    return next((path for model in models if model and (path := model.parameters.get("tokenizer_dir"))), "")


def _name(tokenizer: str, repository: Repository) -> str:
    last = Path(tokenizer).name if tokenizer else repository.folder.resolve().name
    return re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("-._")[:63] or "imported"


def _from_engine(repository: Repository, found: Import) -> None:
    """Limits, precision and parallelism: only the engine knows them."""
    path = repository.models["tensorrt_llm"].parameters.get("gpt_model_path", "")
    where = f"tensorrt_llm gpt_model_path={path or '(not given)'}"
    found.note(where, "an engine of trtllm-build is not taken over: make engine builds one from the checkpoint")
    build, model = repository.engine.get("build_config", {}), repository.engine.get("pretrained_config", {})
    if not build or not model:
        found.put("engine.precision", "bf16")
        found.note(
            where,
            "its config.json cannot be read here, so engine.precision, engine.parallel, limits.max_seq_len, "
            "max_input_len and max_num_tokens are not those of the engine: set them",
        )
        gpus = len(repository.models["tensorrt_llm"].parameters.get("gpu_device_ids", "0").split(","))
        if gpus > 1:
            found.put("engine.parallel.tensor", gpus)
            found.note(f"tensorrt_llm gpu_device_ids: {gpus} GPUs", "taken for tensor parallelism")
        return
    mapping, quantization = model.get("mapping", {}), model.get("quantization") or {}
    found.put("engine.precision", _precision(model.get("dtype", ""), quantization.get("quant_algo"), found))
    sizes = {
        "tensor": mapping.get("tp_size", 1),
        "pipeline": mapping.get("pp_size", 1),
        "expert": mapping.get("moe_ep_size", 1),
    }
    spread = {key: size for key, size in sizes.items() if size > 1}
    if spread:
        found.put("engine.parallel", spread)
    if mapping.get("cp_size", 1) > 1:
        found.note(f"engine cp_size={mapping['cp_size']}", "there is no context parallelism")
    for key in ("max_seq_len", "max_input_len", "max_num_tokens"):
        if build.get(key):
            found.put(f"limits.{key}", build[key])
    limits = found.spec.get("limits", {})
    if limits.get("max_input_len", 0) >= limits.get("max_seq_len", math.inf):
        limits["max_input_len"] = limits["max_seq_len"] - 1
        found.note("engine max_input_len", "lowered by one below max_seq_len: the answer needs room")
    if (quantization.get("kv_cache_quant_algo") or "") in ("FP8", "INT8"):
        found.put(f"{TRTLLM}.kv_cache.precision", quantization["kv_cache_quant_algo"].lower())
    block = (build.get("plugin_config") or {}).get("tokens_per_block")
    if block:
        found.put(f"{TRTLLM}.kv_cache.tokens_per_block", block)
    if build.get("gather_generation_logits"):
        found.put(f"{TRTLLM}.log_probs", True)


def _precision(dtype: str, quantized: str | None, found: Import) -> str:
    if quantized and quantized.startswith("W8A8_SQ"):
        return "int8_sq"
    if quantized and quantized != "NO_QUANT":
        if quantized in PRECISIONS:
            return PRECISIONS[quantized]
        found.note(f"engine quant_algo={quantized}", "no precision of this name: engine.precision is the activations'")
    return DTYPES.get(dtype, "bf16")


def _from_batching(model: Model, found: Import) -> None:
    """Triton's own settings of the engine's model."""
    config = model.config
    if config.max_batch_size:
        found.put("limits.max_batch_size", config.max_batch_size)
    batching = config.dynamic_batching
    queue = batching.default_queue_policy.max_queue_size
    if queue:
        found.put("limits.max_queue_size", queue)
    elif "max_queue_size" not in model.unfilled:
        found.note(
            "tensorrt_llm max_queue_size=0", "a queue without limit is not to be had: limits.max_queue_size is 64"
        )
    if batching.max_queue_delay_microseconds:
        found.note(
            f"tensorrt_llm max_queue_delay_microseconds={batching.max_queue_delay_microseconds}",
            "a step takes in what has arrived: nothing waits for a batch to fill",
        )
    if list(batching.preferred_batch_size) not in ([], [config.max_batch_size]):
        found.note(
            f"tensorrt_llm preferred_batch_size={list(batching.preferred_batch_size)}",
            "a step takes in what has arrived, whatever their number",
        )
    if not config.model_transaction_policy.decoupled and "decoupled_mode" not in model.unfilled:
        found.note("tensorrt_llm decoupled=false", "every request says whether it streams, and all may")


def _from_parameters(
    model: Model, table: dict[str, To | No] | dict[str, No], elsewhere: set[str], found: Import
) -> None:
    for key, value in model.parameters.items():
        rule = table.get(key)
        what = f"{model.name} {key}={value}"
        if rule is None:
            if key not in elsewhere:
                found.note(what, "this parameter is not known")
        elif isinstance(rule, No):
            if value.lower() not in rule.unless:
                found.note(what, rule.reason or "there is nothing to set")
        else:
            try:
                found.put(rule.key, rule.convert(value))
            except ValueError as error:
                found.note(what, f"{rule.key} is left as it is: {error}")


def _from_lookahead(given: dict[str, str], found: Import) -> None:
    """Three parameters that are one thing."""
    keys = {"window": "lookahead_window_size", "ngram": "lookahead_ngram_size"}
    keys["verification"] = "lookahead_verification_set_size"
    sizes = {ours: int(given[theirs]) for ours, theirs in keys.items() if given.get(theirs, "").isdigit()}
    if len(sizes) == len(keys):
        found.put(f"{TRTLLM}.speculative", {"kind": "lookahead", **sizes})
    elif sizes:
        missing = ", ".join(theirs for ours, theirs in keys.items() if ours not in sizes)
        found.note("tensorrt_llm lookahead", f"{missing} is not given, and all three are needed")


def _from_instances(repository: Repository, found: Import) -> None:
    for model in repository.models.values():
        count = sum(group.count for group in model.config.instance_group)
        if count > 1:
            found.note(f"{model.name} instance_group count={count}", ONE_PROCESS)
    if "tensorrt_llm_bls" in repository.models:
        found.note(
            "tensorrt_llm_bls", "clients call ensemble, or the deployment's name: there is no second model for them"
        )
    for missing in set(MODELS) - set(repository.models) - {"tensorrt_llm_bls"}:
        found.note(f"{missing}/config.pbtxt", "is not there: nothing is taken from it")


def _from_tensors(repository: Repository, found: Import) -> None:
    """What clients could send and get, and cannot here."""
    if "ensemble" not in repository.models:
        return
    config = repository.models["ensemble"].config
    for tensor in config.input:
        ours = INPUT_BY_NAME.get(tensor.name)
        if ours is None:
            found.note(f"ensemble input {tensor.name}", INPUTS.get(tensor.name, "there is no such input"))
        elif ours.decision is Decision.NEUTRAL:
            found.note(f"ensemble input {tensor.name}", ours.doc.rstrip("."))
    for tensor in config.output:
        if tensor.name not in OUTPUT_BY_NAME:
            found.note(f"ensemble output {tensor.name}", OUTPUTS.get(tensor.name, COUNTS))


def main(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="NVIDIA's inflight_batcher_llm repository.")],
    name: Annotated[str, typer.Option(help="Of the deployment; by default the tokenizer's folder's.")] = "",
    to: Annotated[Path | None, typer.Option(help="The file; by default configs/NAME.yaml.")] = None,
) -> None:
    """Write the deployment spec that comes nearest to FOLDER, and list what it cannot say."""
    try:
        found = translate(read_repository(folder), name)
        path = to or ROOT / "configs" / f"{found.spec['name']}.yaml"
        if path.exists():
            raise BuildError(f"{path} is there already", fix="Give another with ARGS='--to FILE', or --name NAME")
        path.write_text(yaml.safe_dump(found.spec, sort_keys=False), encoding="utf-8")
    except ConchError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}. Correct this and run it again")
    print(f"wrote {path}")
    for title, lines in (("without equivalent", found.notes), ("left unfilled", found.unfilled)):
        print(f"\n{title}: {len(lines)}" if lines else f"\n{title}: nothing")
        for line in lines:
            print(f"  {line}")
    try:
        load_spec(path)
    except SpecError as error:
        print(f"\nto be set before make engine:\n{error}")
    else:
        print(f"\nnext: make engine CONFIG={path}")


if __name__ == "__main__":
    typer.run(main)
