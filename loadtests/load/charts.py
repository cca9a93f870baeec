"""Charts as inline SVG: lines, steps and points over two axes, and nothing that a page would have to fetch."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 460, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 28, 34
_COLOURS = ("#0b6e99", "#d9730d", "#2e7d32", "#8e44ad", "#b71c1c")
_MOST_POINTS = 1500


@dataclass(frozen=True)
class Line:
    """One thing that is drawn."""

    label: str
    points: Points
    style: str = "line"  # line, steps or dots


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    x: str,
    y: str,
    span: tuple[float, float] | None = None,
    window: tuple[float, float] | None = None,
    limits: Sequence[float] = (),
    y_max: float | None = None,
) -> str:
    """One chart.

    Args:
        span: the x axis; default: what the points need.
        window: the part of the x axis that counts; the rest is shaded.
        limits: values of y to mark.
        y_max: cut off above; default: the highest value.
    """
    xs = [at for line in lines for at, _ in line.points]
    ys = [value for line in lines for _, value in line.points if math.isfinite(value)]
    if not xs or not ys:
        return ""
    low, high = span or (min(xs), max(xs))
    top = y_max or max([*ys, *limits]) * 1.05 or 1.0
    frame = _Frame(low, high if high > low else low + 1, top)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<text x="{_LEFT}" y="15" class="title">{escape(title)}</text>',
        *_shade(frame, window),
        *_axes(frame, x, y),
    ]
    for limit in limits:
        at = frame.y(limit)
        parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" class="limit"/>')
    for number, line in enumerate(lines):
        parts.append(_drawn(frame, line, _COLOURS[number % len(_COLOURS)]))
    if len(lines) > 1 or lines[0].label:
        parts += _legend(lines)
    return "".join(parts) + "</svg>"


def ecdf(values: Iterable[float]) -> list[tuple[float, float]]:
    """The share of values up to each value, in percent."""
    ordered = sorted(values)
    return [(value, 100 * (number + 1) / len(ordered)) for number, value in enumerate(ordered)]


def thinned(points: Points) -> Points:
    """At most so many points as a chart can show."""
    step = math.ceil(len(points) / _MOST_POINTS)
    return points[::step] if step > 1 else points


@dataclass(frozen=True)
class _Frame:
    """Values to pixels."""

    low: float
    high: float
    top: float

    def x(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return _LEFT + (inside - self.low) / (self.high - self.low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - min(max(value, 0.0), self.top) / self.top * (HEIGHT - _TOP - _BOTTOM)


def _drawn(frame: _Frame, line: Line, colour: str) -> str:
    inside = [(at, value) for at, value in line.points if frame.low <= at <= frame.high and math.isfinite(value)]
    points = [(frame.x(at), frame.y(value)) for at, value in thinned(inside)]
    if line.style == "dots":
        dots = "".join(f'<circle cx="{at:.1f}" cy="{value:.1f}" r="1.6"/>' for at, value in points)
        return f'<g fill="{colour}" fill-opacity=".55">{dots}</g>'
    path = []
    for number, (at, value) in enumerate(points):
        if number and line.style == "steps":
            path.append(f"H{at:.1f}")
        path.append(f"{'L' if number else 'M'}{at:.1f} {value:.1f}")
    return f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _axes(frame: _Frame, x: str, y: str) -> Iterable[str]:
    bottom = HEIGHT - _BOTTOM
    for value in _ticks(0, frame.top):
        at = frame.y(value)
        yield f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" class="grid"/>'
        yield f'<text x="{_LEFT - 5}" y="{at + 3:.1f}" class="tick" text-anchor="end">{value:g}</text>'
    for value in _ticks(frame.low, frame.high):
        yield f'<text x="{frame.x(value):.1f}" y="{bottom + 13}" class="tick" text-anchor="middle">{value:g}</text>'
    yield f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}" class="axis"/>'
    yield f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}" class="tick" text-anchor="end">{escape(x)}</text>'
    yield f'<text x="4" y="{_TOP - 4}" class="tick">{escape(y)}</text>'


def _shade(frame: _Frame, window: tuple[float, float] | None) -> Iterable[str]:
    if window is None:
        return
    for begins, ends in ((frame.low, window[0]), (window[1], frame.high)):
        left, right = frame.x(begins), frame.x(ends)
        if right > left:
            size = f'width="{right - left:.1f}" height="{HEIGHT - _TOP - _BOTTOM}"'
            yield f'<rect x="{left:.1f}" y="{_TOP}" {size} class="out"/>'


def _legend(lines: Sequence[Line]) -> Iterable[str]:
    at = float(WIDTH - _RIGHT)
    for number, line in reversed(list(enumerate(lines))):
        colour = _COLOURS[number % len(_COLOURS)]
        where = f'x="{at:.0f}" y="15" class="tick" text-anchor="end"'
        yield f'<text {where} style="fill:{colour}">{escape(line.label)}</text>'
        at -= 8 + 6 * len(line.label)


def _ticks(low: float, high: float) -> list[float]:
    """About five round values."""
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    first = math.ceil(low / step)
    return [round(number * step, 10) for number in range(first, math.floor(high / step) + 1)]
