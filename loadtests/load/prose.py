"""Prose of any length from a seed: plain sentences about a harbour, made here, so that they carry nobody's licence."""

import random

_WHO = (
    "the harbour master", "a young sailor", "the lighthouse keeper", "an old captain", "the ferry crew", "a fisher",
    "the net maker", "a diver", "the pilot", "a boat builder", "the cook", "a trader", "the weather office",
    "a gull", "the night watch", "a visitor", "the crane driver", "a child on the pier", "the customs clerk",
    "a surveyor",
)  # fmt: skip
_DOES = (
    "counts", "repairs", "describes", "carries", "remembers", "paints", "measures", "looks for", "writes about",
    "points at", "waits for", "lifts", "sells", "draws", "watches", "ties up", "moves", "asks about", "records",
    "cleans",
)  # fmt: skip
_WHAT = (
    "the grey boats", "a wooden crate", "the rising tide", "three brass lamps", "the long rope", "a broken mast",
    "the evening ferry", "a map of the bay", "the salt stores", "a line of buoys", "the empty dock", "a bag of letters",
    "the southern wind", "a row of nets", "the stone wall", "a basket of mussels", "the radio", "a blue sail",
    "the old anchor", "a list of names",
)  # fmt: skip
_WHEN = (
    "before sunrise", "after the storm", "at low water", "every morning", "in the fog", "when the bell rings",
    "near the north gate", "during the winter", "without a word", "for the second time", "behind the warehouse",
    "as the light fades", "on the last day", "with great care", "under the bridge", "while others sleep",
    "in heavy rain", "between two tides", "by the fish market", "once more",
)  # fmt: skip
TOKENS_A_SENTENCE = 11.5  # of the default model's tokenizer, with the full stop


def sentence(rng: random.Random) -> str:
    """One of 160,000."""
    words = f"{rng.choice(_WHO)} {rng.choice(_DOES)} {rng.choice(_WHAT)} {rng.choice(_WHEN)}"
    return f"{words[0].upper()}{words[1:]}."


def prose(tokens: int, seed: str) -> str:
    """About so many tokens; what a server counted is in each row."""
    rng = random.Random(seed)
    return " ".join(sentence(rng) for _ in range(max(1, round(tokens / TOKENS_A_SENTENCE))))
