"""Small pictures of boxes and arrows, as SVG that uses the page's colours."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

_LINE = 17
_HEAD = (
    '<defs><marker id="{}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto-start-reverse"><path d="M0 0L8 4L0 8z"/></marker></defs>'
)


@dataclass(frozen=True)
class Box:
    """A box with a text in it.

    Attributes:
        name: its name.
        x, y: its upper left corner.
        width, height: its size.
        kind: a class of the stylesheet: ``state``, ``end``, ``group``, ``store``, ``label``, ``start`` (a dot).
        lines: its text; empty means its name.
    """

    name: str
    x: float
    y: float
    width: float = 130
    height: float = 40
    kind: str = "state"
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Path:
    """An arrow.

    Attributes:
        points: its corners; the head is at the last one.
        label: its text, in lines.
        at: the middle of the first line.
    """

    points: tuple[Point, ...]
    label: tuple[str, ...] = ()
    at: Point = (0, 0)


def svg(title: str, size: tuple[int, int], boxes: Iterable[Box], paths: Iterable[Path]) -> str:
    """Return a picture.

    Args:
        title: what it shows, for readers who cannot see it.
        size: its width and height.
        boxes: drawn first, in their order.
        paths: drawn over them.
    """
    width, height = size
    head = re.sub(r"\W+", "-", title).lower()
    inside = "".join([_HEAD.format(head), *map(_box, boxes), *(_path(path, head) for path in paths)])
    style = f"min-width: {width * 0.7:.0f}px; max-width: {width}px"
    return (
        f'<div class="irp-picture" tabindex="0"><svg viewBox="0 0 {width} {height}" style="{style}" role="img" '
        f'aria-label="{escape(title)}">{inside}</svg></div>'
    )


def _box(box: Box) -> str:
    lines = () if box.kind == "start" else box.lines or (box.name,)
    middle = box.x + box.width / 2
    top = box.y + 20 if box.kind == "group" else box.y + box.height / 2 - (len(lines) - 1) * _LINE / 2 + 5
    rect = f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="8"/>'
    return f'<g class="irp-{box.kind}">{rect}{_text(lines, (middle, top))}</g>'


def _path(path: Path, head: str) -> str:
    line = " ".join(f"{x:g},{y:g}" for x, y in path.points)
    label = _text(path.label, path.at) if path.label else ""
    return f'<g class="irp-arrow"><polyline points="{line}" marker-end="url(#{head})"/>{label}</g>'


def _text(lines: Sequence[str], at: Point) -> str:
    x, y = at
    rows = "".join(f'<tspan x="{x:g}" y="{y + number * _LINE:g}">{escape(line)}</tspan>'
                   for number, line in enumerate(lines))  # fmt: skip
    return f"<text>{rows}</text>"
