"""Do all ways give the same greedy text? One request at a time: a batch changes the order of the engine's sums."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from contract.errors import ServeError
from contract.spec import Deployment
from loadtests.fleet import Fleet
from loadtests.lean import Order
from loadtests.vllm_alone import offline, vllm_serve

TOKENS = 64
TEXTS = (
    "The tide comes in",
    "A short history of lighthouses:",
    "def fibonacci(n):",
    "The three states of water are",
    "Dear Sir or Madam,",
    "Once upon a time, in a village by the sea,",
    "To boil an egg, first",
    "SELECT name, age FROM",
    "The capital of France is",
    "Q: Why is the sky blue?\nA:",
    "1, 1, 2, 3, 5, 8,",
    "L'été à la plage, ",
    "日本語の文章：今日は天気が",
    "Ein kurzer Brief an meine Großmutter:",
    "Shopping list:\n- bread\n- ",
    "<html>\n<head>\n<title>",
    "The train left the station at noon and",
    "In 1969, two astronauts",
    "Roses are red, violets are blue,",
    "The answer to the riddle was",
)


def same_text(ours: AbstractContextManager[int], engine: Path, spec: Deployment, serve_port: int) -> dict[str, Any]:
    """The greedy texts of the ensemble, the gateway and ``vllm serve`` beside ``LLM.generate``'s."""
    tokenizer = Tokenizer.from_file(str(engine / "tokenizer.json"))
    prompts = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    requests = [{"prompt": each, "max_tokens": TOKENS} for each in prompts]
    ports, texts = spec.ports, {}
    with ours:
        texts["ensemble"] = _texts(Order("grpc", ports.host, ports.grpc, spec.name, requests, 1))
        texts["gateway"] = _texts(Order("openai", ports.host, ports.gateway, spec.name, requests, 1))
    with vllm_serve(engine, spec, serve_port):
        texts["serve"] = _texts(Order("openai", "127.0.0.1", serve_port, "peer", requests, 1))
    with offline(engine, spec) as ask:
        ids = [ask([each], TOKENS)["ids"][0] for each in prompts]
    reference = [tokenizer.decode(each, skip_special_tokens=True) for each in ids]
    return {
        "way": "same-text",
        "streams": 1,
        "prompts": len(prompts),
        "tokens": TOKENS,
        "equal_to_offline": {
            way: sum(a == b for a, b in zip(each, reference, strict=True)) for way, each in texts.items()
        },
        "offline": reference,
        "differing": {
            way: {TEXTS[number]: text for number, text in enumerate(each) if text != reference[number]}
            for way, each in texts.items()
        },
    }


def _texts(order: Order) -> list[str]:
    load = Fleet(order, 1).wait()
    failed = [each.error for each in load.timelines if each.error]
    if failed:
        raise ServeError(f"{order.way}: {failed[0]}")
    return [each.text for each in load.timelines]
