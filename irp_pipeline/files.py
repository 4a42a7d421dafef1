"""Writing files so that a reader finds a complete file or none, whatever happens in between.

Privacy is inherited: in a folder that only its owner can enter, such as ``IRP_HOME``, new folders and files are also
private to their owner, whatever the umask. Elsewhere the umask decides, as usual.
"""

import fcntl
import os
import shutil
import stat
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PARTIAL_SUFFIX = ".partial"
_ABANDONED_SECONDS = 60
_OF_OTHERS = 0o077


def make_folder(folder: Path) -> Path:
    """Make a folder and any missing folders above it; return it.

    Below a folder that only its owner can enter, new folders are private too. Folders that root makes below another
    user's folder belong to that user.
    """
    if not folder.is_dir():
        above = make_folder(folder.parent).stat()
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700 if _is_private(above) else 0o777)
            _give_to_owner(folder, above)
    return folder


def narrow(folder: Path, leave: Collection[Path] = ()) -> None:
    """Remove the permissions of everybody but the owner from a folder and its content; follows no links.

    Args:
        folder: the folder.
        leave: folders in it that are left unchanged, with their content.
    """
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(root, name) not in leave]
        for name in (*names, *folders):
            path = Path(root, name)
            with suppress(FileNotFoundError, PermissionError):
                mode = path.lstat().st_mode
                if mode & _OF_OTHERS and not stat.S_ISLNK(mode):
                    path.chmod(stat.S_IMODE(mode) & ~_OF_OTHERS)
    # Last, so that the work starts again if it was interrupted.
    folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~_OF_OTHERS)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file: a reader finds either the old content or the new.

    Args:
        path: the file; its folder is made if it is missing.
        text: the content, written as UTF-8.
    """
    with appearing_when_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def appearing_when_whole(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside the file; if the block succeeds, what was written there replaces the file.

    The writer holds a lock on the temporary file. If nobody holds the lock, the writer was killed, and the next write
    to the same path removes the file.

    Args:
        path: the file to write; its folder is made if it is missing.
        durable: whether it must survive a power cut; False for a copy that can be made again, which takes less time.
    """
    folder = make_folder(path.parent).stat()
    _remove_abandoned(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_PARTIAL_SUFFIX}")
    mode = 0o600 if _is_private(folder) else 0o666
    with open(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "r+b") as file:  # noqa: PTH123
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield partial
            if durable:
                os.fsync(file.fileno())
            _keep_private(partial, folder)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    if durable:
        sync_folder(path.parent)


def _is_private(folder: os.stat_result) -> bool:
    return not folder.st_mode & _OF_OTHERS


def _keep_private(path: Path, folder: os.stat_result) -> None:
    """Do for a file what :func:`make_folder` does for a folder; leaves links to files elsewhere alone."""
    status = path.lstat()
    if status.st_nlink == 1 and stat.S_ISREG(status.st_mode):
        if _is_private(folder) and status.st_mode & _OF_OTHERS:
            path.chmod(stat.S_IMODE(status.st_mode) & ~_OF_OTHERS)
        _give_to_owner(path, folder)


def _give_to_owner(path: Path, folder: os.stat_result) -> None:
    if os.geteuid() == 0 and folder.st_uid != 0:
        os.chown(path, folder.st_uid, folder.st_gid, follow_symlinks=False)


def _remove_abandoned(path: Path) -> None:
    for name in os.listdir(path.parent):  # noqa: PTH208 - many times as fast
        if name.startswith(f".{path.name}.") and name.endswith(_PARTIAL_SUFFIX):
            other = path.with_name(name)
            with suppress(OSError), other.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The writer of a newer one may be about to lock it.
                if time.time() - os.fstat(file.fileno()).st_mtime > _ABANDONED_SECONDS:
                    other.unlink()


def link_or_copy(source: Path | str, target: Path) -> None:
    """Make a file that has the content of another: a hard link, or a copy where the file system has no links.

    Raises:
        FileNotFoundError: there is no source.
        OSError: the target exists or cannot be written.
    """
    try:
        os.link(source, target)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:
        shutil.copy2(source, target)


def lock_file(path: Path) -> int | None:
    """Lock a file, which is made if it is missing, until the descriptor is closed here and wherever it was inherited.

    Returns:
        The descriptor; None if another process has the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def sync_folder(folder: Path) -> None:
    """Make sure that a rename in a folder survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
