"""``irp notebook``: using this package in Jupyter."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.options import AsJson

app = typer.Typer(no_args_is_help=True, help="Work with irp-pipeline in Jupyter.")


@app.command("install-kernel", epilog="Example: irp notebook install-kernel --name irp")
def install_kernel(
    name: Annotated[str, typer.Option("--name", help="Name of the kernel, as for jupyter --kernel.")] = "irp",
    display_name: Annotated[str, typer.Option("--display-name", help="Name in Jupyter's menu.")] = "IRP pipeline",
    user: Annotated[bool, typer.Option("--user", help="Install it for this user: the default.")] = False,
    prefix: Annotated[
        Path | None, typer.Option("--prefix", metavar="FOLDER", help="Install it in FOLDER/share/jupyter/kernels.")
    ] = None,
    sys_prefix: Annotated[
        bool, typer.Option("--sys-prefix", help="Install it in this Python's own environment.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Install a Jupyter kernel for this package.

    The kernel has irp-pipeline installed, and uses the right IRP_HOME.
    """
    if user + sys_prefix + (prefix is not None) > 1:
        raise typer.BadParameter("Say only one of them.", param_hint="--user / --prefix / --sys-prefix")
    from irp_pipeline import notebook

    chosen = sys.prefix if sys_prefix else None if prefix is None else str(prefix)
    folder = notebook.install_kernel(name=name, display_name=display_name, prefix=chosen, user=chosen is None)
    if as_json:
        output.print_json({"name": name, "display_name": display_name, "folder": str(folder)})
    else:
        output.say(f"Installed the kernel {name!r} in {folder}. In Jupyter it is called {display_name!r}.")
