"""IPython and Jupyter: the extension for notebooks, and a kernel that loads it.

``%load_ext irp_pipeline.notebook`` in a notebook or in IPython does two things. Code written before this package
finds it under its old name (:mod:`irp_pipeline.compat`), and a schema that a cell sets with ``set_schema`` also holds
in the next cell, for every kind of cell. :func:`install_kernel` installs a kernel that starts that way.

A notebook that is a step of a cycle says ``from irp_pipeline.notebook import begin_step, end_step, irp_output``: they
are in :mod:`irp_pipeline.helpers.notebooks`. What shows progress, losses and comparisons in the output of a cell is in
:mod:`irp_pipeline.display`, and can be imported from here, too. The other functions for notebooks are in
:mod:`irp_pipeline.helpers`. Nothing here uses a database.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irp_pipeline import compat
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.notebooks.output import irp_output as irp_output
from irp_pipeline.postgres import context as schema_state

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from irp_pipeline.display import (
        follow_batch,
        follow_cycle,
        show_compared_curves,
        show_comparison,
        show_curves,
        show_losses,
        show_progress,
    )
    from irp_pipeline.helpers.notebooks.by_hand import begin_step, end_step

__all__ = [
    "NotebookError",
    "begin_step",
    "end_step",
    "follow_batch",
    "follow_cycle",
    "install_kernel",
    "irp_output",
    "load_ipython_extension",
    "show_compared_curves",
    "show_comparison",
    "show_curves",
    "show_losses",
    "show_progress",
    "unload_ipython_extension",
]

_BY_HAND = frozenset({"begin_step", "end_step"})
_KERNEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


class NotebookError(IrpError):
    """The Jupyter kernel cannot be installed; the message says why and what to do."""


def __getattr__(name: str) -> Any:
    """Import what records steps or shows something when it is used: every kernel loads this module, and starts fast."""
    if name in _BY_HAND:
        from irp_pipeline.helpers.notebooks import by_hand

        return getattr(by_hand, name)
    if name in __all__:
        from irp_pipeline import display

        return getattr(display, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# --- the extension ------------------------------------------------------------------------------------------------


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """Make the old name ``helpers`` available in IPython, and keep the schema from cell to cell.

    Raises:
        ImportError: another package ``helpers`` has been imported in this session.
    """
    compat.activate()
    if not isinstance(ipython.run_code, _CellRunner):
        runner = _CellRunner(ipython.run_code)
        vars(ipython)["run_code"] = runner
        ipython.events.register("post_execute", runner.hand_on_schema)


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """Undo :func:`load_ipython_extension`. Modules that were imported stay imported."""
    runner = ipython.run_code
    if isinstance(runner, _CellRunner):
        vars(ipython)["run_code"] = runner.run_code
        ipython.events.unregister("post_execute", runner.hand_on_schema)
    compat.deactivate()


class _CellRunner:
    """Runs the code of a cell as IPython does, and passes the schema at its end on to the next cell.

    A cell with a top-level ``await`` runs in a separate asyncio task, and the schema it sets ends with that task: the
    next cell would work in the previous schema, and write there. The schema is kept for each thread, since the cells
    of ipykernel's subshells run in separate threads.
    """

    def __init__(self, run_code: Callable[..., Awaitable[bool]]) -> None:
        self.run_code = run_code
        self._left = threading.local()

    async def __call__(self, *args: Any, **kwargs: Any) -> bool:
        """Run the code in the task of its cell."""
        try:
            return await self.run_code(*args, **kwargs)
        finally:
            self._left.schema = schema_state._schema.get()

    def hand_on_schema(self) -> None:
        """Take over the schema that the cell left, once its task has ended."""
        if hasattr(self._left, "schema"):
            schema_state._schema.set(self._left.schema)
            del self._left.schema


# --- the kernel ---------------------------------------------------------------------------------------------------


def install_kernel(
    name: str = "irp",
    display_name: str = "IRP pipeline",
    prefix: str | os.PathLike[str] | None = None,
    user: bool = True,
) -> Path:
    """Install a Jupyter kernel that runs this Python, with the extension loaded and ``IRP_HOME`` set.

    The kernel stores the current ``IRP_HOME``, so that a notebook in any folder finds the same cycles. It stores
    nothing else of the environment, and no password: the variables that name a database server come from the Jupyter
    that starts the kernel. An installed kernel with the same name is replaced.

    Args:
        name: Jupyter's name for the kernel: letters, digits, ``.``, ``_`` and ``-``; capitals become lower case.
        display_name: the name that people see in the list of kernels.
        prefix: install below this folder, in ``share/jupyter/kernels``, such as ``sys.prefix`` for the Jupyter of this
            virtual environment.
        user: without ``prefix``: True installs for the current user, False for all users of the machine.

    Returns:
        The folder of the kernel, with its ``kernel.json``.

    Raises:
        NotebookError: ipykernel is not installed, the name is not valid, or the folder cannot be written.
        SettingsError: no ``IRP_HOME`` can be found.
    """
    if not _KERNEL_NAME.fullmatch(name.lower()):
        raise NotebookError(
            f"{name!r} is not a valid kernel name. Use letters, digits, '.', '_' and '-', beginning with a letter or a "
            "digit"
        )
    folder = _kernels_folder(prefix, user) / name.lower()
    content = json.dumps(_kernel_spec(display_name), indent=1) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / "kernel.json", content)
    except OSError as error:
        raise NotebookError(
            f"The kernel cannot be written to {folder}: {error.strerror}. Give a folder that you can write as the "
            "prefix, or install the kernel only for yourself"
        ) from error
    return folder


def _kernel_spec(display_name: str) -> dict[str, Any]:
    """Return the content of ``kernel.json``.

    https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs
    """
    from irp_pipeline import settings

    try:
        from ipykernel.kernelspec import get_kernel_dict
    except ImportError as error:
        raise _not_installed(error) from error
    # jupyter_client fills in variables in the values of env; a doubled dollar sign stands for one dollar sign.
    home = str(settings.irp_home()).replace("$", "$$")
    spec: dict[str, Any] = get_kernel_dict(extra_arguments=["--ext", __name__])
    return {**spec, "display_name": display_name, "env": {"IRP_HOME": home}}


def _kernels_folder(prefix: str | os.PathLike[str] | None, user: bool) -> Path:
    """Return the folder where Jupyter looks for kernels.

    https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs
    """
    if prefix is not None:
        return Path(os.path.abspath(prefix)) / "share" / "jupyter" / "kernels"  # noqa: PTH100 - without ".." in it
    try:
        from jupyter_core.paths import SYSTEM_JUPYTER_PATH, jupyter_data_dir
    except ImportError as error:
        raise _not_installed(error) from error
    return Path(jupyter_data_dir() if user else SYSTEM_JUPYTER_PATH[0]) / "kernels"


def _not_installed(error: ImportError) -> NotebookError:
    return NotebookError(
        f"The packages that a Jupyter kernel needs are not installed ({error}). To install them, run: pip install "
        "'irp-pipeline[notebook]'"
    )


def _replace(file: Path, content: str) -> None:
    """Write a file in one step: Jupyter always reads either the old content or the new."""
    new = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        new.write_text(content, encoding="utf-8")
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
