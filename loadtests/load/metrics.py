"""What each figure means, in code: docs/metrics.md says the same in words.

Plain functions of a row, all in seconds. Latencies count from the intended start, so a client that is late makes a
server look slow and never fast; how late it was is reported beside them.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from loadtests.load.rows import Row


def lag(row: Row) -> float:
    """How late the client sent it."""
    return row.sent - row.intended


def ttfb(row: Row) -> float | None:
    """Until the first byte of the response, whatever it says."""
    return row.first_byte - row.intended if row.first_byte else None


def ttft(row: Row) -> float | None:
    """Until the first content: text, reasoning or a tool call. A chunk that only names a role is none."""
    return row.chunks[0][0] - row.intended if row.chunks else None


def itl(row: Row) -> list[float]:
    """The gaps between chunks with content; a chunk may hold several tokens."""
    return [after - before for (before, _), (after, _) in pairwise(row.chunks)]


def tpot(row: Row) -> float | None:
    """Time per output token after the first."""
    if row.output_tokens < 2 or len(row.chunks) < 2:
        return None
    return (row.chunks[-1][0] - row.chunks[0][0]) / (row.output_tokens - 1)


def e2e(row: Row) -> float | None:
    """Until the stream's end, of a whole answer."""
    return row.ended - row.intended if row.answered else None


def latencies_ms(rows: Iterable[Row]) -> dict[str, list[float]]:
    """All that these requests have, by name."""
    rows = list(rows)
    each = {"TTFT": ttft, "TPOT": tpot, "E2E": e2e}
    found = {name: [1000 * value for row in rows if (value := of(row)) is not None] for name, of in each.items()}
    return {**found, "ITL": [1000 * gap for row in rows for gap in itl(row)]}


def tokens_per_s_user(row: Row) -> float | None:
    """The pace that one reader sees once the answer has begun."""
    pace = tpot(row)
    return 1 / pace if pace else None


def tokens_per_chunk(row: Row) -> float | None:
    """How coarse the stream is."""
    return row.output_tokens / len(row.chunks) if row.chunks and row.output_tokens else None


def arrivals(row: Row) -> list[tuple[float, float]]:
    """(when, tokens) of each chunk; where the server does not tell, the first has one and the rest share the others."""
    if not row.chunks or all(tokens for _, tokens in row.chunks):
        return [(at, float(tokens)) for at, tokens in row.chunks]
    share = (row.output_tokens - 1) / (len(row.chunks) - 1) if row.output_tokens and len(row.chunks) > 1 else 1.0
    return [(at, share if number else 1.0) for number, (at, _) in enumerate(row.chunks)]


def percentile(values: Sequence[float], share: float) -> float:
    """Exact, between the two nearest values; ``share`` is of 100.

    Infinite values stand for requests that never got there, and no finite figure is invented between them.
    """
    ordered = sorted(values)
    place = (len(ordered) - 1) * share / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    if place == low or ordered[low] == ordered[high]:
        return ordered[low]
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
