"""The double of TensorRT-LLM, importable for as long as a test needs it, and an engine that it built."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.manifest import MANIFEST
from tests.trtllm.mismatched import engine_manifest
from tests.trtllm.specs import spec

CODE = Path(__file__).resolve().parents[2]
DOUBLES = CODE / "tests" / "doubles"
OPENVINO = CODE / "engines" / "smollm2-135m" / "current"


@pytest.fixture(scope="module")
def doubles() -> Iterator[None]:
    """``import tensorrt_llm`` gives the double."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOUBLES))
        patch.setenv("TRTLLM_DOUBLE_ENGINE", str(OPENVINO))
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tensorrt_llm", "tensorrt")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def engine(doubles: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine folder for backend tensorrt."""
    from tensorrt_llm._tensorrt_engine import LLM
    from tensorrt_llm.llmapi import BuildConfig

    folder = tmp_path_factory.mktemp("root") / "engines" / "model" / ".work" / "engine"
    folder.mkdir(parents=True)
    cache = str(folder / "kernels")
    llm = LLM(
        model=str(OPENVINO), build_config=BuildConfig(max_seq_len=2048, max_batch_size=33, output_timing_cache=cache)
    )
    llm.save(str(folder / "trtllm"))
    llm.shutdown()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(OPENVINO / name, folder / name)
    manifest = engine_manifest(spec(), "").model_copy(update={"eos_token_ids": (2,)})
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return folder
