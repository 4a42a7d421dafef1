"""Opening a file that may be compressed."""

import bz2
import gzip
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, cast

from irp_pipeline.exposure import ExposureError

COMPRESSED_SUFFIXES = (".gz", ".bz2", ".zip")


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, uncompressed.

    Raises:
        ExposureError: a zip archive is not valid, or does not contain exactly one file.
        OSError: the file cannot be opened.
    """
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path))
    if suffix == ".bz2":
        return bz2.open(path)
    if suffix == ".zip":
        return _open_zip(path)
    return path.open("rb")


def _open_zip(path: Path) -> IO[bytes]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ExposureError(f"{path} cannot be read: {error}") from error
    members = [member for member in archive.infolist() if not (member.is_dir() or _is_of_macos(member.filename))]
    if len(members) != 1:
        names = ", ".join(member.filename for member in members[:5]) or "only folders"
        raise ExposureError(f"{path} must contain one CSV file, but contains {len(members)}: {names}")
    if members[0].flag_bits & 1:
        raise ExposureError(f"{path} is protected with a password; pack {members[0].filename} without one")
    return archive.open(members[0])


def _is_of_macos(name: str) -> bool:
    """Return whether a member is one of the extra files that macOS puts into archives."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or parts[-1] == ".DS_Store" or parts[-1].startswith("._")
