"""The hash of everything that a model's losses depend on: what its resolved configuration names, wherever it is.

Large files are read once. After that, :mod:`irp_pipeline.hashes` remembers their hash with size, modification time and
inode, as it does for all files of an installation.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.model import Model, path_entries, read_model, read_object
from irp_pipeline.hashes import file_sha256

_READ_ALWAYS_BYTES: Final = 1_000_000
_LEFT_OUT: Final = frozenset({"__pycache__", ".git", ".ipynb_checkpoints"})
_RUN_CONTROL: Final = frozenset(
    {"verbose", "log_level", "log_format", "kernel_num_processes", "lookup_num_processes", "resource_monitor_interval"}
)
"""Entries on which no loss depends, or whose use the provenance records."""


def model_hash(path: Path, options: Mapping[str, Any] | None = None, *, recheck: bool = False) -> str:
    """Hash what a model's losses depend on.

    This is the resolved configuration, every file and folder that it names, and those that its lookup configuration and
    its table of exchange rates name in turn, wherever they are. Other files in the model's folder do not count.

    Args:
        path: its folder, or its configuration file.
        options: entries that replace those of the configuration file.
        recheck: read large files again, even if size, modification time and inode have not changed.

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
    for name, file in named_files(model):
        is_small = file.stat().st_size <= _READ_ALWAYS_BYTES
        content = hashlib.sha256(file.read_bytes()).hexdigest() if is_small else file_sha256(file, recheck=recheck)
        digest.update(f"\0{name}\0{content}".encode())
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
        elif entry != "analysis_settings_json":  # only a default, for analyses without a settings file
            raise OasisError(f"The model has no {entry}: there is no {path}")
    for entry in ("lookup_config_json", "currency_conversion_json", "lookup_complex_config_json"):
        file = model.path(entry)
        if file is not None and file.suffix == ".json":
            yield from _named_in(entry, read_object(file), file.parent, model)
    for entry in ("lookup_config", "lookup_complex_config"):
        if isinstance(content := model.configuration.get(entry), Mapping):
            yield from _named_in(entry, content, model.folder, model)
    if (storage := model.path("model_storage_json")) is not None:
        options = read_object(storage).get("options")
        root = model.folder / str(options.get("root_dir") or "") if isinstance(options, Mapping) else model.folder
        if root.is_dir() and not model.folder.resolve().is_relative_to(root.resolve()):  # a storage on this machine
            yield "model_storage_json.root_dir", root
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
    """What a configuration of the model names in turn: every text in it that is an existing path."""
    keys_data = folder / str(content["keys_data_path"]) if content.get("keys_data_path") else folder
    # The folder of the whole model holds more than the lookup reads, such as its tests.
    if keys_data.is_dir() and not model.folder.resolve().is_relative_to(keys_data.resolve()):
        yield f"{entry}.keys_data_path", keys_data
    for place, text in _texts(content):
        path = Path(text.replace("%%KEYS_DATA_PATH%%", str(keys_data)))
        # A bare word may be the name of a column, and by chance also that of a file.
        if not path.suffix and "/" not in text:
            continue
        for root in (folder, keys_data):
            if (root / path).is_file():
                yield f"{entry}:{place}", root / path
                if path.suffix == ".py":
                    yield from _beside(f"{entry}:{place}", root / path)
                break


def _beside(name: str, module: Path) -> Iterator[tuple[str, Path]]:
    """The Python modules beside a module, which it may import."""
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
