"""Packing the files of a schema's cycles into an archive, and packing changed files again.

Files that are useless elsewhere are left out: scratch space of steps and incomplete files.
:mod:`irp_pipeline.operations.records` reads what the records say about the files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from irp_pipeline.cycle_files import SCRATCH
from irp_pipeline.operations.archive import Entry, Progress, Sink, Writer, copy

_PARTIAL: Final = ".partial"


@dataclass(frozen=True)
class _Packed:
    entry: Entry
    identity: tuple[int, ...]


class Packer:
    """Packs the files below a folder.

    Args:
        folder: the folder of the schema's cycles; it need not exist.
        writer: the archive.
        progress: called for each file.
    """

    def __init__(self, folder: Path, writer: Writer, progress: Progress | None = None) -> None:
        self._folder, self._writer, self._progress = folder, writer, progress
        self._packed: dict[str, _Packed] = {}

    def update(self) -> None:
        """Pack new and changed files; drop files that no longer exist.

        Raises:
            OSError: a file cannot be read.
        """
        found = dict(_walk(self._folder))
        total, done = sum(status.st_size for status in found.values() if stat.S_ISREG(status.st_mode)), 0
        before, self._packed = self._packed, {}
        linked: dict[tuple[int, int], str] = {}
        for path, status in found.items():
            known = before.get(path)
            inode = (status.st_dev, status.st_ino)
            if known is not None and known.identity == _identity(status) and known.entry.same_as is None:
                self._packed[path] = known
            elif status.st_nlink > 1 and stat.S_ISREG(status.st_mode) and inode in linked:
                entry = Entry(path, mtime_ns=status.st_mtime_ns, same_as=linked[inode])
                self._packed[path] = _Packed(entry, _identity(status))
            elif (new := self._pack(path, status)) is not None:
                self._packed[path] = new
            packed = self._packed.get(path)
            # A file that was replaced since it was found is another file.
            if packed is not None and packed.entry.member is not None and packed.identity == _identity(status):
                linked.setdefault(inode, path)
            if stat.S_ISREG(status.st_mode):
                done += status.st_size
                if self._progress is not None:
                    self._progress("Packing files", done, total)

    def entries(self) -> tuple[Entry, ...]:
        """Return the packed entries, in the order of the paths."""
        return tuple(self._packed[path].entry for path in sorted(self._packed))

    def find(self, path: str) -> tuple[str, int] | None:
        """Return the SHA-256 and the size of a packed file; None if there is none."""
        packed = self._packed.get(path)
        if packed is None:
            return None
        if packed.entry.same_as is not None:
            return self.find(packed.entry.same_as)
        member = packed.entry.member
        return None if member is None else (member.sha256, member.bytes)

    def _pack(self, path: str, status: os.stat_result) -> _Packed | None:
        """Pack the file at a path; None if it no longer exists."""
        place = self._folder / path
        try:
            if stat.S_ISLNK(status.st_mode):
                return _Packed(Entry(path, target=str(place.readlink())), _identity(status))
            if stat.S_ISDIR(status.st_mode):
                return _Packed(Entry(path), _identity(status))
            with open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
                status = os.fstat(file.fileno())

                def write(sink: Sink) -> None:
                    copy(file, sink)

                member = self._writer.add(f"files/{path}", write)
        except FileNotFoundError:
            return None
        return _Packed(Entry(path, bool(status.st_mode & stat.S_IXUSR), status.st_mtime_ns, member), _identity(status))


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files, links and empty folders below a folder, with their relative paths."""
    for root, folders, names in os.walk(folder, onerror=_raise):
        here = PurePosixPath(Path(root).relative_to(folder).as_posix())
        links = [name for name in folders if Path(root, name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in links and not _is_left_out(here / name))
        for name in sorted((*names, *links)):
            if not _is_left_out(here / name):
                yield from _look_at(Path(root, name), str(here / name))
        if not folders and not names and not links and str(here) != ".":
            yield from _look_at(Path(root), str(here))


def _look_at(place: Path, path: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        status = place.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode) or stat.S_ISDIR(status.st_mode):
        yield path, status


def _is_left_out(path: PurePosixPath) -> bool:
    inside = path.parts[1:]  # within the folder of a cycle
    is_partial = path.name.startswith(".") and path.name.endswith(_PARTIAL)
    return inside == (SCRATCH,) or is_partial


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
