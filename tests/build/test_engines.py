"""From a checkpoint on disk to a published engine that says what Hugging Face says, for every architecture we claim."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from build.openvino import BF16, greedy
from contract.manifest import check_engine, load_manifest, this_machine
from contract.spec import load_spec
from python_backend.openvino.scoring import ScoringModel
from tests import tiny
from tests.build.conftest import LOOSE, Site, make_site

PROMPT = "The harbour lights went out one by one"


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_an_fp32_engine_is_its_checkpoint(tmp_path: Path, architecture: str) -> None:
    checkpoint = tiny.write_checkpoint(tmp_path / "checkpoint", architecture)
    site = make_site(tmp_path, checkpoint, verify={"min_top1_agreement": 0.999, "max_perplexity_ratio": 1.001})
    engine = site.build()

    manifest = check_engine(engine, load_spec(site.config), this_machine())
    assert manifest.measured
    assert manifest.measured.greedy_agreement == 1
    assert manifest.measured.tokens_compared > 2000

    for name in ("model", "tokenizer", "detokenizer"):
        assert {f"openvino_{name}.xml", f"openvino_{name}.bin"} <= manifest.files.keys()
    tokenizer = AutoTokenizer.from_pretrained(engine)
    assert manifest.eos_token_ids == (tokenizer.eos_token_id,)
    assert manifest.vocab_size == len(tokenizer)
    assert tokenizer.chat_template == tiny.CHAT_TEMPLATE
    prompt = tokenizer.encode(PROMPT)
    assert greedy(site.config, engine, [prompt], 48)[0] == tiny.greedy(checkpoint, prompt, 48)
    told = ScoringModel(engine, 1).scores(prompt, 1, 1, lambda: True)
    expected = tiny.log_probs(checkpoint, prompt)
    assert told
    assert told.log_probs == pytest.approx([expected[at][token] for at, token in enumerate(prompt[1:])], abs=1e-3)
    assert [tops[0].logprob for tops in (*told.top, told.next)] == pytest.approx(list(map(max, expected)), abs=1e-3)


needs_bf16 = pytest.mark.skipif(BF16 not in this_machine().instruction_sets, reason=f"this CPU has no {BF16}")


@pytest.mark.parametrize("precision", [pytest.param("bf16", marks=needs_bf16), "int8", "int4"])
def test_a_lower_precision_is_measured_and_has_a_version_of_its_own(site: Site, built: Site, precision: str) -> None:
    site.change(engine={"precision": precision}, verify=LOOSE)
    engine = site.build()
    fp32 = (built.home / "current").resolve()
    assert engine.name != fp32.name  # of the same checkpoint

    manifest = load_manifest(engine)
    assert manifest.precision == precision
    # A random model is all noise to a quantizer; it must still be nearer to the reference than to chance (1 in 400).
    assert manifest.measured and 0.2 < manifest.measured.top1_agreement < 1
    assert manifest.measured.perplexity_ratio and 0.5 < manifest.measured.perplexity_ratio < 2
    if precision != "bf16":  # bf16 is fp32's file with a hint for the runtime
        weights = "openvino_model.bin"
        assert manifest.files[weights] < load_manifest(fp32).files[weights] / 2
