"""Docstrings for the site: Sphinx roles, which editors understand, become plain code."""

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":[a-z]+:`~?([^`]+)`")
_LITERAL = re.compile(r"``([^`]+)``")


def plain(text: str) -> str:
    """Return text with ``:func:`name``` and double backticks as Markdown code."""
    return _LITERAL.sub(r"`\1`", _ROLE.sub(r"`\1`", text))


class PlainRoles(Extension):
    """Apply :func:`plain` to each docstring that mkdocstrings reads."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
