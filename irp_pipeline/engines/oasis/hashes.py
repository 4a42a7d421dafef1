"""The hash of all that a model's losses depend on: what its resolved configuration names, wherever it is.

Large files are read once. After that their hash is remembered with size, time of change and inode in a file that all
processes of an installation share, ``engine/model-hashes.json`` in ``IRP_HOME``.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from irp_pipeline import settings
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.model import Model, path_entries, read_model, read_object
from irp_pipeline.files import write_atomically

_READ_ALWAYS_BYTES: Final = 1_000_000
_SETTLED_SECONDS: Final = 2.0
"""A file changed more recently may change again within the resolution of its time."""
_LEFT_OUT: Final = frozenset({"__pycache__", ".git", ".ipynb_checkpoints"})
_RUN_CONTROL: Final = frozenset(
    {"verbose", "log_level", "log_format", "kernel_num_processes", "lookup_num_processes", "resource_monitor_interval"}
)
"""Entries on which no loss depends, or whose use the provenance records."""


def model_hash(path: Path, options: Mapping[str, Any] | None = None, *, recheck: bool = False) -> str:
    """Digest what a model's losses depend on.

    That is the resolved configuration, and every file and folder that it names, and that its lookup configuration and
    its table of exchange rates name in turn, wherever they are. Other files in the model's folder do not count.

    Args:
        path: its folder, or its configuration file.
        options: entries that replace those of the configuration file.
        recheck: read large files again, though size, time of change and inode are those remembered.

    Returns:
        A hexadecimal digest. It stays the same when the model is moved as a whole.

    Raises:
        OasisError: the configuration cannot be read, or names something that is not there.
        OSError: a file cannot be read.
    """
    model = read_model(path, options)
    digest = hashlib.sha256()
    paths = path_entries()
    stated = {
        name: value for name, value in model.configuration.items() if name not in paths and name not in _RUN_CONTROL
    }
    digest.update(json.dumps(stated, sort_keys=True, default=str).encode())
    with _Remembered(recheck) as remembered:
        for name, file in named_files(model):
            digest.update(f"\0{name}\0{remembered.hash_of(file)}".encode())
    return digest.hexdigest()


def named_files(model: Model) -> Iterator[tuple[str, Path]]:
    """Yield the files that a model consists of, each with a name that does not depend on where the model is.

    Raises:
        OasisError: the configuration names something that is not there.
    """
    named = dict(_named(model))
    seen: set[Path] = set()
    for entry in sorted(named):
        path = named[entry]
        files = sorted(_files_below(path)) if path.is_dir() else [path]
        for file in files:
            if (real := file.resolve()) not in seen:
                seen.add(real)
                yield (f"{entry}/{file.relative_to(path).as_posix()}" if path.is_dir() else entry), file


def _named(model: Model) -> Iterator[tuple[str, Path]]:
    for entry in sorted(path_entries() & model.configuration.keys()):
        path = model.path(entry)
        if path is None:
            continue
        if path.exists():
            yield entry, path
        elif entry != "analysis_settings_json":  # only a default for those who choose none
            raise OasisError(f"The model has no {entry}: there is no {path}")
    for entry in ("lookup_config_json", "currency_conversion_json", "lookup_complex_config_json"):
        file = model.path(entry)
        if file is not None and file.suffix == ".json":
            yield from _named_in(entry, read_object(file), file.parent, model)
    for entry in ("lookup_config", "lookup_complex_config"):
        if isinstance(content := model.configuration.get(entry), Mapping):
            yield from _named_in(entry, content, model.folder, model)
    if (module := model.path("lookup_module_path")) is not None:
        yield from _beside("lookup_module_path", module)
    if isinstance(runner := model.configuration.get("model_custom_gulcalc"), str) and runner:
        inside = model.folder / runner
        found = str(inside) if inside.is_file() else shutil.which(runner)
        if found is not None:
            yield "model_custom_gulcalc", Path(found)
    for hook in ("exposure_pre_analysis_module", "post_file_gen_module", "pre_loss_module", "post_analysis_module"):
        if (module := model.path(hook)) is not None:
            yield from _beside(hook, module)


def _named_in(entry: str, content: Mapping[str, Any], folder: Path, model: Model) -> Iterator[tuple[str, Path]]:
    """What a configuration of the model names in its turn, wherever a text in it is the path of something there."""
    keys_data = folder / str(content["keys_data_path"]) if content.get("keys_data_path") else folder
    # The folder of the whole model holds more than the lookup reads, such as its tests.
    if keys_data.is_dir() and not model.folder.resolve().is_relative_to(keys_data.resolve()):
        yield f"{entry}.keys_data_path", keys_data
    for place, text in _texts(content):
        path = Path(text.replace("%%KEYS_DATA_PATH%%", str(keys_data)))
        # A bare word may be the name of a column, which by chance some file has too.
        if not path.suffix and "/" not in text:
            continue
        for root in (folder, keys_data):
            if (root / path).is_file():
                yield f"{entry}:{place}", root / path
                if path.suffix == ".py":
                    yield from _beside(f"{entry}:{place}", root / path)
                break


def _beside(name: str, module: Path) -> Iterator[tuple[str, Path]]:
    """The Python modules beside one, which it may import."""
    for file in module.parent.glob("*.py"):
        yield f"{name}:{file.name}", file


def _texts(content: object, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _texts(value, f"{place}.{key}")
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _texts(value, f"{place}.{number}")
    elif isinstance(content, str) and content and len(content) < 1000 and "\0" not in content:
        yield place, content


def _files_below(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in _LEFT_OUT:
            continue
        if path.is_dir():
            yield from _files_below(path)
        elif path.is_file():
            yield path


class _Remembered:
    """Hashes of large files, kept from one process to the next."""

    def __init__(self, recheck: bool) -> None:
        self._recheck = recheck
        self._file = settings.make_irp_home() / "engine" / "model-hashes.json"
        self._known: dict[str, list[Any]] = {}
        self._new: dict[str, list[Any]] = {}

    def __enter__(self) -> _Remembered:
        self._known = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._new:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._file.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            write_atomically(self._file, json.dumps(self._read() | self._new))

    def hash_of(self, path: Path) -> str:
        found = path.stat()
        state = [found.st_size, found.st_mtime_ns, found.st_ino]
        key = str(path.resolve())
        known = self._known.get(key)
        if known is not None and known[:3] == state and not self._recheck and found.st_size > _READ_ALWAYS_BYTES:
            return str(known[3])
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        if found.st_size > _READ_ALWAYS_BYTES and time.time() - found.st_mtime > _SETTLED_SECONDS:
            self._new[key] = [*state, content]
        return content

    def _read(self) -> dict[str, list[Any]]:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {name: of for name, of in content.items() if isinstance(of, list) and len(of) == 4}
