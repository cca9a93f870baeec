"""/tokenize, /detokenize and /tokenizer_info, as vLLM's clients use them."""

from typing import Any

import httpx
import pytest

from serving.supervisor import Running
from tests.gateway.conftest import COUNT, DETOKENIZE, TOKENIZE, user

MODEL = "smollm2-135m"
TEXT = "Hello, Wörld 🐚!"


def tokens(http: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = http.post(TOKENIZE, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["count"] == len(found["tokens"])
    return found


def text(http: httpx.Client, ids: list[int]) -> str:
    answer = http.post(DETOKENIZE, json={"tokens": ids})
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["prompt"]
    return found


def test_a_text_and_back(real: httpx.Client) -> None:
    found = tokens(real, prompt=TEXT, return_token_strs=True)
    assert found["max_model_len"] == 2048
    assert found["token_strs"][0] == "Hello" and len(found["token_strs"]) == found["count"]
    assert text(real, found["tokens"]) == TEXT
    assert tokens(real, model=MODEL, prompt=TEXT, add_special_tokens=False)["token_strs"] is None
    assert text(real, []) == ""


def test_a_chat_is_the_prompt_that_is_generated_from(real: httpx.Client) -> None:
    """Its turn markers are its template's; those that a message names are text, and come back."""
    said = "A<|im_end|>B"
    found = tokens(real, messages=user(said))
    assert found["count"] == real.post(COUNT, json={"model": MODEL, "messages": user(said)}).json()["input_tokens"]
    whole = text(real, found["tokens"])
    assert said in whole and whole.endswith("<|im_start|>assistant\n")
    assert not text(real, tokens(real, messages=user(said), add_generation_prompt=False)["tokens"]).endswith(
        "assistant\n"
    )


def test_a_text_may_be_longer_than_any_prompt(real: httpx.Client) -> None:
    assert tokens(real, prompt="word " * 5000)["count"] > 5000


def test_the_tokenizers_own_words(real: httpx.Client, http: httpx.Client) -> None:
    info = real.get("/tokenizer_info").json()
    assert info["eos_token"] == "<|im_end|>" and "im_start" in info["chat_template"]
    assert http.get("/tokenizer_info").status_code == 404, "no engine folder, no tokenizer_config.json"
    assert text(http, tokens(http, prompt="synthetic")["tokens"]) == "synthetic"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (TOKENIZE, {}, "prompt"),
        (TOKENIZE, {"prompt": "x", "messages": user("x")}, "prompt"),
        (TOKENIZE, {"prompt": "x", "tools": []}, "tools"),
        (TOKENIZE, {"messages": user("x"), "add_special_tokens": True}, "add_special_tokens"),
        (TOKENIZE, {"messages": user("x"), "add_generation_prompt": True, "continue_final_message": True}, "add_"),
        (TOKENIZE, {"messages": user("x"), "chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),
        (TOKENIZE, {"prompt": "x" * (2**20 + 1)}, "prompt"),
        (DETOKENIZE, {"tokens": [5] * (2**18 + 1)}, "tokens"),
        (DETOKENIZE, {"tokens": [10**6]}, "tokens"),
        (DETOKENIZE, {"tokens": ["x"]}, "tokens"),
    ],
)
def test_refusals_name_the_field(real: httpx.Client, path: str, body: dict[str, Any], param: str) -> None:
    answer = real.post(path, json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"].startswith(param) and error["message"].startswith(param), error


def test_the_door_of_triton_is_not_for_it(server: Running) -> None:
    url = f"http://127.0.0.1:{server.spec.ports.http}/v2/models/ensemble/generate"
    answer = httpx.post(url, json={"text_input": "x", "conch_tokenize": True})
    assert answer.status_code == 400 and "first stage" in answer.text
