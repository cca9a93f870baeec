"""Does it answer what the model answers? Greedy texts, teacher-forced tokens and a far end of the context."""

from typing import Any

from loadtests.compare.doors import Door
from loadtests.compare.reference import Reference
from loadtests.timelines import whole

_RECALL_TOKENS = 12
_CUT = "\ufffd"  # the half of a character that its last token began


def greedy(door: Door, reference: Reference) -> dict[str, Any]:
    """The share of greedy tokens before the first difference; one request at a time, as a batch changes sums."""
    length = len(reference.greedy[0])
    requests = [{"prompt": prompt, "max_tokens": length} for prompt in reference.prompts]
    answers = whole(door.ask(requests, 1))
    agreed = [_agreed(reference, ids, answer.text) for ids, answer in zip(reference.greedy, answers, strict=True)]
    return {
        "agreement": round(sum(agreed) / (length * len(agreed)), 4),
        "same_to_the_end": sum(each == length for each in agreed),
        "prompts": len(agreed),
    }


def top1(door: Door, reference: Reference) -> dict[str, Any]:
    """Teacher forcing through the front: after each prefix, is the one token that comes the reference's?"""
    told = [(each, reference.text([each.token])) for each in reference.positions]
    clear = [(each, text) for each, text in told if text and _CUT not in text]
    answers = whole(door.ask([{"prompt": each.prompt, "max_tokens": 1} for each, _ in clear], 1))
    # A text that begins with a space may come without it: SentencePiece's decoders differ there.
    same = sum(answer.text.lstrip() == text.lstrip() for answer, (_, text) in zip(answers, clear, strict=True))
    return {"agreement": round(same / len(clear), 4), "positions": len(clear)}


def recall(door: Door, reference: Reference) -> dict[str, Any]:
    """How many of the hidden numbers come back, by the length of the context."""
    places = reference.hidden
    answers = whole(door.ask([{"prompt": each.prompt, "max_tokens": _RECALL_TOKENS} for each in places], 1))
    found = {length: [0, 0, 0] for length in sorted({each.tokens for each in places})}
    for place, answer, theirs in zip(places, answers, reference.recalled, strict=True):
        counts = found[place.tokens]
        counts[0] += 1
        counts[1] += place.number in answer.text
        counts[2] += place.number in theirs
    return {
        "by_length": {
            length: {"asked": asked, "recalled": ours, "reference": theirs}
            for length, (asked, ours, theirs) in found.items()
        },
        "asked": len(places),
        "recalled": sum(counts[1] for counts in found.values()),
        "reference": sum(counts[2] for counts in found.values()),
    }


def _agreed(reference: Reference, ids: list[int], text: str) -> int:
    """Tokens of the reference's answer that the text has before it differs."""
    kept = len(ids)
    while kept and not text.startswith(reference.text(ids[:kept]).rstrip(_CUT)):
        kept -= 1
    return kept
