"""Sixty schemas, three seeds each, through the whole service: the model's answers fit them."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema_rs
import pytest

from clients.grpc import Client
from contract.errors import RequestError
from contract.tensors import FinishReason
from serving.supervisor import Running
from tests.e2e.servers import smollm2
from tests.schemas import KEPT

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with smollm2(tmp_path_factory.mktemp("schemas")) as running:
        yield running


def test_the_models_answers_fit(client: Client) -> None:
    def answered(name: str, seed: int) -> str:
        """'' where it fits or was cut short, else the answer or the refusal."""
        schema = KEPT[name]
        guide: dict[str, Any] = {
            "guided_decoding_guide_type": "json_schema",
            "guided_decoding_guide": json.dumps(schema),
        }
        prompt = f"A JSON document for the schema {json.dumps(schema, ensure_ascii=False)}:\n"
        try:
            answer = client.generate(prompt, max_tokens=160, temperature=1.0, seed=seed, **guide)
        except RequestError as error:
            return f"{name}: {error}"
        if answer.finish_reason == FinishReason.LENGTH:
            cut.append(name)
            return ""
        fits = jsonschema_rs.validator_for(schema, validate_formats=True).is_valid(json.loads(answer.text))
        return "" if fits else f"{name}: {answer.text}"

    cut: list[str] = []
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(answered, name, seed) for name in KEPT for seed in range(3)]
        assert [wrong for each in asked if (wrong := each.result())] == []
    assert len(cut) < len(asked) / 3, cut
