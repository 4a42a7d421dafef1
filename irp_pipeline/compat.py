"""The old import name ``helpers``, for code written before this package.

``import irp_pipeline.compat`` makes ``helpers`` another name of :mod:`irp_pipeline.helpers`, in this process only:
``from helpers.database import create_cycle`` uses the very same modules, each loaded on first use. No package named
``helpers`` is installed, so other programs are not affected. Code that must not change gets the name from outside::

    python -m irp_pipeline.compat script.py arguments ...
    pytest -p irp_pipeline.compat
    %load_ext irp_pipeline.notebook

Names that only the old framework had come from :mod:`irp_pipeline.old_framework`: its functions work and name what
replaces them, or raise an error when they are called.

From then on, Python no longer finds a folder ``helpers`` on ``sys.path``, such as that of the old workspace, not even
for modules that this package does not have.
"""

import builtins
import importlib
import importlib.util
import io
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

OLD_NAME = "helpers"
"""The name that old code uses for the package."""

_PACKAGE = "irp_pipeline.helpers"
_OLD_PACKAGE = "irp_pipeline.old_framework"
_USAGE = "usage: python -m irp_pipeline.compat script.py [argument ...]"


def activate() -> None:
    """Make ``helpers`` mean this package from now on, in this process. Importing this module has done it already.

    Raises:
        ImportError: another ``helpers`` has been imported already; the message says which and what to do.
    """
    package = importlib.import_module(_PACKAGE)
    imported = sys.modules.get(OLD_NAME)
    if imported is not None and imported is not package:
        raise ImportError(
            f"Another package {OLD_NAME!r} has been imported already, from {_origin(imported)}, and its functions are "
            f"in use. Import irp_pipeline.compat before it: in the first line of the script or conftest.py, with "
            "`python -m irp_pipeline.compat script.py` or `pytest -p irp_pipeline.compat`, or in the first cell after "
            "a restart of the kernel.",
            name=OLD_NAME,
        )
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    importlib.import_module(OLD_NAME)


def deactivate() -> None:
    """Remove the name ``helpers`` again. Modules that were imported under it stay imported."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    for name in [name for name in sys.modules if _is_old(name)]:
        module = sys.modules[name]
        if module in (sys.modules.get(_new(name)), sys.modules.get(_old(name))):
            del sys.modules[name]
        if isinstance(fallback := module.__dict__.get("__getattr__"), _OldNames):
            fallback.remove_from(module)


class _Finder(MetaPathFinder):
    """Finds ``helpers`` and everything below it, only in this package."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not _is_old(fullname):
            return None
        name = _new(fullname)
        found = importlib.util.find_spec(name)
        if found is None:  # a module that only the old framework had
            name = _old(fullname)
            found = _found(name)
        if found is None:
            return None
        spec = ModuleSpec(fullname, _Alias(name), origin=found.origin)
        spec.submodule_search_locations = found.submodule_search_locations
        return spec


class _Alias(Loader):
    """Returns the module of this package instead of a new one, with the old names that it does not have."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._name)
        spec.loader_state = module.__spec__
        old = _old(spec.name)
        if old not in {self._name, _OLD_PACKAGE} and _found(old) is not None:
            _OldNames(module, old).add_to(module)
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has put the alias's spec into the module. Restore the module's own: reload, pickle and
        # inspect use it.
        alias = module.__spec__
        if alias is not None and isinstance(alias.loader, _Alias):
            module.__spec__ = alias.loader_state


class _OldNames:
    """Finds the names of the old framework that a module of this package does not have, each when it is first used."""

    def __init__(self, module: ModuleType, old: str) -> None:
        self._own = module.__dict__.get("__getattr__")
        self._module = module
        self._old = old

    def add_to(self, module: ModuleType) -> None:
        if not isinstance(self._own, _OldNames):
            module.__getattr__ = self  # type: ignore[method-assign]

    def remove_from(self, module: ModuleType) -> None:
        del module.__getattr__
        if self._own is not None:
            module.__getattr__ = self._own  # type: ignore[method-assign]

    def __call__(self, name: str) -> Any:
        if self._own is not None:
            try:
                return self._own(name)
            except AttributeError:
                pass
        if name.startswith("__"):
            raise AttributeError(f"module {self._module.__name__!r} has no attribute {name!r}")
        try:
            return getattr(importlib.import_module(self._old), name)
        except AttributeError:
            raise AttributeError(
                f"module {self._module.__name__!r} has no attribute {name!r}, nor had the old framework"
            ) from None


def _is_old(name: str) -> bool:
    return name == OLD_NAME or name.startswith(f"{OLD_NAME}.")


def _new(old_name: str) -> str:
    return _PACKAGE + old_name.removeprefix(OLD_NAME)


def _found(name: str) -> ModuleSpec | None:
    """Return the spec of a module; None if there is none, or no package that it would be in."""
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None


def _old(old_name: str) -> str:
    return _OLD_PACKAGE + old_name.removeprefix(OLD_NAME)


def _origin(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or ", ".join(getattr(module, "__path__", [])) or repr(module)


# --- python -m irp_pipeline.compat --------------------------------------------------------------------------------


def _run_script(arguments: list[str]) -> None:
    """Run a script as ``python script.py arguments`` would, but with the old name available."""
    if not arguments or arguments[0].startswith("-"):
        print(_USAGE, file=sys.stderr)
        sys.exit(2)
    script = arguments[0]
    file = str(Path.cwd() / script)
    try:
        with io.open_code(file) as source_file:
            source = source_file.read()
    except OSError as error:
        print(f"{sys.executable}: can't open file {file!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        sys.exit(2)
    sys.argv[:] = arguments
    if not sys.flags.safe_path:
        sys.path[0] = str(Path(script).resolve().parent)
    sys.excepthook = _report_without_own_frames
    main = _main_module(file)
    sys.modules["__main__"] = main
    exec(compile(source, file, "exec", dont_inherit=True), main.__dict__)  # noqa: S102 - what the user asked for


def _main_module(file: str) -> ModuleType:
    main = ModuleType("__main__")
    main.__file__ = file
    main.__loader__ = SourceFileLoader("__main__", file)
    main.__dict__.update(__builtins__=builtins, __cached__=None, __annotations__={})
    return main


def _report_without_own_frames(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print an uncaught error as Python does, without the frames above the script."""
    while traceback is not None and traceback.tb_frame.f_code is not _run_script.__code__:
        traceback = traceback.tb_next
    if traceback is not None:
        error.__traceback__ = traceback.tb_next
    sys.__excepthook__(kind, error, error.__traceback__)


if __name__ == "__main__":
    from irp_pipeline import compat  # by its own name, so that an import of it in the script finds it loaded

    compat._run_script(sys.argv[1:])
else:
    activate()
