"""The templates of HTML pages: what all of them escape, refuse and know."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2


def template_environment(package: str, *filters: Callable[..., Any]) -> jinja2.Environment:
    """Return the environment of a package's templates: all values are escaped, and unknown names are errors.

    Args:
        package: where the templates are.
        filters: the functions that format values there, each under its own name.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: "" if value is None else value,
    )
    environment.filters |= {function.__name__: function for function in filters}
    return environment
