"""A folder as a place for files: on this machine, or shared by several (NFS, SMB)."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from irp_pipeline.files import appearing_when_whole, make_folder, sync_folder
from irp_pipeline.store.errors import StoreError
from irp_pipeline.store.place import StoredFile

_PARTIAL = ".partial"


class Folder:
    """A folder; see :class:`irp_pipeline.store.place.Place`.

    Args:
        root: the folder; made when something is put there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def address(self) -> str:
        """The path of the folder."""
        return str(self._root)

    def read(self, key: str) -> bytes | None:
        """Return the content of a file; None if there is none."""
        with self._explained("read", key):
            try:
                return (self._root / key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def create(self, key: str, content: bytes) -> bool:
        """Write a file, whole, unless there is one; return whether it was written."""
        target = self._root / key
        with self._explained("write", key):
            make_folder(target.parent)
            partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}{_PARTIAL}")
            try:
                with partial.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                return _appears(partial, target)
            finally:
                partial.unlink(missing_ok=True)

    def put(self, source: Path, key: str, *, replace: bool) -> bool:
        """Copy a file here, whole or not at all; return whether it was written."""
        target = self._root / key
        with self._explained("write", key):
            if not replace and target.exists():
                return False
            with appearing_when_whole(target) as partial:
                shutil.copyfile(source, partial)
        return True

    def get(self, key: str, target: Path) -> bool:
        """Copy a file from here; return whether there is such a file."""
        with self._explained("read", key):
            try:
                shutil.copyfile(self._root / key, target)
            except (FileNotFoundError, NotADirectoryError):
                if not target.parent.is_dir():
                    raise
                return False
        return True

    def find(self, key: str) -> StoredFile | None:
        """Return what is known of a file; None if there is none."""
        with self._explained("read", key):
            try:
                found = (self._root / key).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
            if not (self._root / key).is_file():
                return None
        return _stored(key, found)

    def list(self, folder: str) -> Iterator[StoredFile]:
        """Return the files in a folder and below it, in the order of their keys."""
        with self._explained("read", folder):
            keys = [
                path.relative_to(self._root).as_posix()
                for path in (self._root / folder).rglob("*")
                if path.is_file() and not path.name.endswith(_PARTIAL)
            ]
        for key in sorted(keys):
            if (found := self.find(key)) is not None:
                yield found

    def remove(self, key: str) -> None:
        """Remove a file, if it exists, and the folders that this leaves empty."""
        target = self._root / key
        with self._explained("remove", key):
            target.unlink(missing_ok=True)
        with suppress(OSError):
            for above in target.relative_to(self._root).parents[:-1]:
                (self._root / above).rmdir()

    def rename(self, key: str, new: str) -> None:
        """Give a file another key, if it exists."""
        with self._explained("rename", key), suppress(FileNotFoundError):
            make_folder((self._root / new).parent)
            (self._root / key).replace(self._root / new)

    @contextmanager
    def _explained(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"Cannot {verb} {key!r} in the folder {self._root}: {error.strerror or error}. Check that the folder "
                "is there, that this user may write to it and that there is room; IRP_FILES_URL and IRP_HOME say "
                "which folder it is"
            ) from error


def _appears(partial: Path, target: Path) -> bool:
    """Give a complete file its name, unless that name is taken; return whether it was given."""
    try:
        os.link(partial, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: two writers at once may both write, and the last one counts
        if target.exists():
            return False
        partial.replace(target)
    sync_folder(target.parent)
    return True


def _stored(key: str, found: os.stat_result) -> StoredFile:
    version = f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"
    return StoredFile(key, found.st_size, found.st_mtime, version)
