"""Rendering of pages. Every value is escaped, since names, errors and logs are untrusted."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irp_pipeline.report import display
from irp_pipeline.report.records import first_line
from irp_pipeline.report.templates import template_environment

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
    environment = template_environment(
        "irp_pipeline.pages",
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
    environment.globals["metric_title"] = display.metric_title
    return environment


def indented(value: object) -> str:
    """Write plain data as JSON, indented."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
