"""Loading packages as large as Dagster without waiting for the garbage collector."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import within the block without the garbage collector, which is never to look at what is loaded here.

    Modules, classes and functions stay until the process ends. Going through all of them again and again, the last
    time at the end, took a quarter of the time of a short run.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
