"""Loading large packages such as Dagster without the cost of garbage collection."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Switch off the garbage collector for imports within the block, and exclude what they load from it for good.

    Modules, classes and functions stay until the process ends. Scanning them again and again, and once more at the end,
    took a quarter of the time of a short run.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
