"""Rendering of pages. Every value is escaped, since names, errors and logs are untrusted."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irp_pipeline.report import display
from irp_pipeline.report.records import first_line

if TYPE_CHECKING:
    import jinja2


def render(template: str, **values: Any) -> str:
    """Return a page as HTML.

    Args:
        template: the name of its template, such as ``cycle``.
        values: what the template shows; ``at`` are the addresses of the pages.
    """
    return _environment().get_template(f"{template}.html.jinja").render(**values)


@cache
def style() -> str:
    """Return the style of all pages, as CSS."""
    return (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("irp_pipeline.pages", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: "" if value is None else value,
    )
    shown = (
        display.amount,
        display.duration,
        display.moment,
        display.number,
        display.percentage,
        display.signed_amount,
        display.years,
        first_line,
        indented,
    )
    environment.filters |= {function.__name__: function for function in shown}
    environment.globals["metric_title"] = display.metric_title
    return environment


def indented(value: object) -> str:
    """Write plain data as JSON, indented."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
