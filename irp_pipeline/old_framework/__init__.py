"""What the old single-module framework had under names that :mod:`irp_pipeline.helpers` does not have.

:mod:`irp_pipeline.compat` finds these names for code that imports ``helpers``: a module here adds to the module of the
same name there, and whole modules that are only here are found, too. Each function does what it did, with a
DeprecationWarning that names what replaces it, or raises :class:`OldNameError` when it is used. Nothing in this package
imports from here.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

from irp_pipeline.errors import IrpError

_P = ParamSpec("_P")
_R = TypeVar("_R")


class OldNameError(IrpError):
    """A function of the old framework that this package does not have; the message says what replaces it."""


def replaced_by(replacement: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Mark an old function that still works; a call warns at the caller's line, and names what replaces it."""

    def mark(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def warning(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            warnings.warn(
                f"{function.__name__} is of the old framework: use {replacement}", DeprecationWarning, stacklevel=2
            )
            return function(*args, **kwargs)

        return warning

    return mark


def gone(name: str, replacement: str) -> Callable[..., NoReturn]:
    """Return an old function that can be imported, and raises an error when it is called."""

    def call(*_: Any, **__: Any) -> NoReturn:
        raise OldNameError(f"{name} of the old framework does not exist here: {replacement}")

    call.__name__ = call.__qualname__ = name
    return call
