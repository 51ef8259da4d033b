"""Plots of the report as inline SVG, which needs no library and scales to a phone."""

from collections.abc import Iterator, Sequence
from html import escape

from dragoman.evaluation.bootstrap import Figure
from dragoman.evaluation.scoring import Group

_WIDTH, _ROW, _LEFT = 420, 26, 110
_HEIGHT = 190


def histogram_plot(values: Sequence[float], label: str, axis: str) -> str:
    """Return a histogram of the scores of items; what is above 100 is in the last bar."""
    counts = [0] * 21
    for value in values:
        counts[min(int(value // 5), 20)] += 1
    highest, step = max(counts) or 1, (_WIDTH - 50) / 21
    parts = []
    for number, count in enumerate(counts):
        height = (_HEIGHT - 50) * count / highest
        x, y = 40 + number * step, _HEIGHT - 30 - height
        name = f"{number * 5}-{number * 5 + 5}" if number < 20 else "100+"
        parts.append(
            f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{step - 2:.1f}" height="{height:.1f}">'
            f"<title>{name}: {count}</title></rect>"
        )
    for number in range(0, 21, 4):
        mark = f"{number * 5}" if number < 20 else "100+"
        parts.append(
            f'<text x="{40 + (number + 0.5) * step:.1f}" y="{_HEIGHT - 14}" text-anchor="middle">{mark}</text>'
        )
    parts.append(f'<text x="34" y="18" text-anchor="end">{highest}</text>')
    parts.append(f'<text x="34" y="{_HEIGHT - 30}" text-anchor="end">0</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 1}" text-anchor="middle">{escape(axis)}</text>')
    return _svg(parts, _HEIGHT, label)


def group_plot(groups: Sequence[Group], metric: str, label: str) -> str:
    """Return a bar with its interval for each group."""
    figures = [next(one for one in group.figures if one.name == metric) for group in groups]
    highest = max([*(one.value for one in figures), *(one.high or 0 for one in figures), 1e-9])
    scale = (_WIDTH - _LEFT - 60) / highest
    rows = [line for pair in enumerate(zip(groups, figures, strict=True)) for line in _row(*pair, scale)]
    return _svg(rows, _ROW * len(groups) + 10, label)


def _row(number: int, pair: tuple[Group, Figure], scale: float) -> Iterator[str]:
    group, figure = pair
    y = number * _ROW + 6
    name = group.name if len(group.name) <= 13 else f"{group.name[:12]}…"
    yield f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>'
    yield (
        f'<rect class="bar" x="{_LEFT}" y="{y}" width="{max(figure.value * scale, 0):.1f}" height="{_ROW - 8}">'
        f"<title>{escape(group.name)}: {figure} ({group.items})</title></rect>"
    )
    end = figure.value
    if figure.low is not None and figure.high is not None:
        end, middle = max(figure.high, figure.value), y + (_ROW - 8) / 2
        yield (
            f'<line class="whisker" x1="{_LEFT + figure.low * scale:.1f}" x2="{_LEFT + figure.high * scale:.1f}" '
            f'y1="{middle}" y2="{middle}"/>'
        )
    yield f'<text x="{_LEFT + end * scale + 6:.1f}" y="{y + 14}">{figure.value:.1f}</text>'


def _svg(parts: Sequence[str], height: float, label: str) -> str:
    # Positions are from the left, so that a page from right to left must not move the ends of texts.
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(label)}" direction="ltr">'
        f"{''.join(parts)}</svg>"
    )
