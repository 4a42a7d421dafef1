"""The lock of one ``IRP_HOME``: one process at a time makes, starts or stops its server.

Here: taking and releasing the lock. Not here: what is done under it (:mod:`irp_pipeline.embedded.server`).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from irp_pipeline.embedded.errors import EmbeddedServerError
from irp_pipeline.embedded.place import Place, make_home, open_private

_LOCK_SECONDS = 180.0


@contextmanager
def sole_access(place: Place) -> Iterator[None]:
    """Hold the lock of this IRP_HOME; the system releases it when the process ends, however it ends."""
    make_home(place.home)
    descriptor = _locked_file(place)
    try:
        yield
    finally:
        # Closing is not enough: a child that another thread forked in the meantime would still hold the lock.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _locked_file(place: Place) -> int:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        descriptor = open_private(place, place.lock, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if place.lock.exists() and os.path.samestat(os.fstat(descriptor), place.lock.stat()):
                return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise EmbeddedServerError(
                    f"Another process has been starting or stopping the embedded PostgreSQL in {place.home} for "
                    f"{_LOCK_SECONDS:.0f} s. Look for it with `fuser {place.lock}` and end it, then try again."
                ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(0.02)
