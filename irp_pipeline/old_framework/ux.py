"""The old module ``helpers.ux``: prints for people in notebooks and terminals, and asks them."""

from __future__ import annotations

import json as _json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from irp_pipeline.durations import duration_in_words

if TYPE_CHECKING:
    import pandas as pd

_WIDTH = 80


def header(text: str) -> None:
    """Print the title of a notebook."""
    print(f"{'=' * _WIDTH}\n{text}\n{'=' * _WIDTH}")


def subheader(text: str) -> None:
    """Print the title of a part."""
    print(f"{text}\n{'-' * _WIDTH}")


def section(text: str) -> None:
    """Print the title of a part of a part."""
    print(f"\n{text}")


def success(text: str) -> None:
    """Print what went well."""
    print(f"[OK] {text}")


def error(text: str) -> None:
    """Print what went wrong."""
    print(f"[ERROR] {text}")


def warning(text: str) -> None:
    """Print what somebody should look at."""
    print(f"[WARNING] {text}")


def info(text: str) -> None:
    """Print what is good to know."""
    print(f"[INFO] {text}")


def table(rows: Iterable[Sequence[object]], headers: Sequence[str] | None = None) -> None:
    """Print rows below each other, as wide as their widest cells."""
    lines = [[str(cell) for cell in row] for row in rows]
    shown = [list(headers), *lines] if headers is not None else lines
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for number, line in enumerate(shown):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if number == 0 and headers is not None:
            print("  ".join("-" * width for width in widths))


def dataframe(df: pd.DataFrame, title: str | None = None) -> None:
    """Print a DataFrame whole."""
    if title:
        subheader(title)
    print(df.to_string(index=False))


def json(data: object) -> None:
    """Print data as indented JSON."""
    print(_json.dumps(data, indent=2, ensure_ascii=False, default=str))


def cycle_summary(cycle: Mapping[str, Any]) -> None:
    """Print what is known of a cycle, one line for each value."""
    width = max(map(len, cycle), default=0)
    for name, value in cycle.items():
        print(f"{name:<{width}}  {'' if value is None else value}")


def step_progress(current: int, total: int, text: str = "") -> None:
    """Print how many steps are done."""
    print(f"[{current}/{total}] {text}".rstrip())


def format_duration(seconds: float | timedelta | None) -> str:
    """Return a length of time in words, such as ``2 min 05 s``."""
    if seconds is None:
        return "-"
    return duration_in_words(seconds.total_seconds() if isinstance(seconds, timedelta) else seconds)


def format_timestamp(moment: datetime | None) -> str:
    """Return a moment as ``2024-03-31 17:05:00``."""
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def clear_output() -> None:
    """Clear the output of the cell; elsewhere nothing happens."""
    try:
        from IPython import get_ipython
        from IPython.display import clear_output as clear
    except ImportError:
        return
    if get_ipython() is not None:
        clear()  # type: ignore[no-untyped-call]


def yes_no(question: str) -> bool:
    """Ask until the answer is yes or no."""
    while True:
        answer = input(f"{question} [y/n] ").strip().lower()
        if answer in {"y", "yes", "n", "no"}:
            return answer.startswith("y")


def text_input(question: str, default: str = "") -> str:
    """Ask for a text; an empty answer means the default."""
    return input(f"{question}{f' [{default}]' if default else ''} ").strip() or default


def dropdown(question: str, options: Sequence[str]) -> str:
    """Ask for one of several options by its number, until the answer is one."""
    for number, option in enumerate(options, 1):
        print(f"{number}. {option}")
    while True:
        answer = input(f"{question} [1-{len(options)}] ").strip()
        if answer.isdecimal() and 1 <= int(answer) <= len(options):
            return options[int(answer) - 1]
