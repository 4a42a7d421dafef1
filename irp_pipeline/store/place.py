"""What a place for files can do, be it a folder or an object store.

A *key* is a path relative to the place's root, with ``/`` between its parts. Nothing here knows what the files mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a place.

    Attributes:
        key: the file.
        bytes: its size.
        changed: when it was written, in seconds since 1970; 0 if the place does not say.
        version: text that changes with the content, as far as the place knows.
    """

    key: str
    bytes: int
    changed: float
    version: str


class Place(Protocol):
    """A folder or an object store. Errors of a place that cannot be used are :class:`StoreError`."""

    @property
    def address(self) -> str:
        """Its address, for people: without credentials."""

    def read(self, key: str) -> bytes | None:
        """Return the content of a small file; None if there is none."""

    def create(self, key: str, content: bytes) -> bool:
        """Write a small file, whole, unless there is one; return whether it was written."""

    def put(self, source: Path, key: str, *, replace: bool) -> bool:
        """Copy a file of this machine here, whole or not at all; return whether it was written.

        Args:
            source: the file.
            key: its place.
            replace: whether to replace a file that is there.
        """

    def get(self, key: str, target: Path) -> bool:
        """Copy a file to this machine; return whether there is such a file. If it fails, the target is rubbish."""

    def find(self, key: str) -> StoredFile | None:
        """Return what is known of a file without reading it; None if there is none."""

    def list(self, folder: str) -> Iterator[StoredFile]:
        """Return the files in a folder and in the folders below it, in the order of their keys."""

    def remove(self, key: str) -> None:
        """Remove a file, if it exists."""

    def rename(self, key: str, new: str) -> None:
        """Give a file another key, and replace what has it; nothing happens if there is no such file."""
