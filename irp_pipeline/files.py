"""Writing files so that a reader finds a whole one or none, whatever happens in between."""

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PARTIAL_SUFFIX = ".partial"
_ABANDONED_SECONDS = 60


def write_atomically(path: Path, text: str) -> None:
    """Write a text file: under its name there is the old content or the new one.

    Args:
        path: the file; its folder is made if it is missing.
        text: the content, written as UTF-8.
    """
    with appearing_when_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def appearing_when_whole(path: Path) -> Iterator[Path]:
    """Yield a path beside the wanted one; what is written there takes its place if the block ends well.

    Whoever writes holds a lock on the file: one that nobody locks belongs to a process that was killed, and the next
    writing to the same path removes it.

    Args:
        path: the file wanted; its folder is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_PARTIAL_SUFFIX}")
    with partial.open("xb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield partial
            os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    _sync_folder(path.parent)


def _remove_abandoned(path: Path) -> None:
    for other in path.parent.iterdir():
        if other.name.startswith(f".{path.name}.") and other.name.endswith(_PARTIAL_SUFFIX):
            with suppress(OSError), other.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A younger one may be about to be locked.
                if time.time() - os.fstat(file.fileno()).st_mtime > _ABANDONED_SECONDS:
                    other.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
