"""Repeated runs: the analyses of a cycle with other draws, which show how much sampling moves each figure.

``errors``
    the exception of this package.
``planning``
    which jobs must be run.
``spread``
    the figures of all runs, and how far they spread.
``running``
    all of it together.
"""

from irp_pipeline.helpers.repeats.errors import RepeatError
from irp_pipeline.helpers.repeats.running import Repeated, repeat

__all__ = ["RepeatError", "Repeated", "repeat"]
