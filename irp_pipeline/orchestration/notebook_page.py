"""The page of an executed notebook, which the Dagster UI shows in a frame: ``/notebook?path=…``.

Dagster's own page shows only notebooks below the working folder of its code server. This one shows the executed
notebooks of cycles, wherever the code server works, and passes all other requests on. Nothing in a notebook is trusted:
its page has no scripts, loads nothing from elsewhere, and no other file can be named.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline import settings, store
from irp_pipeline.cycle_files import NOTEBOOKS

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

_PATH: Final = "/notebook"
_PART_OF_NOTEBOOKS: Final = 2
"""Where the folder of executed notebooks is below that of all cycles: after schema and cycle."""
_HEADERS: Final = {
    "content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def routes(of_dagster: Sequence[Any]) -> "list[BaseRoute]":
    """Return the route of the page, to be put before those of Dagster's webserver.

    Args:
        of_dagster: its routes; the one with the same path gets the requests that are not for a notebook of a cycle.
    """
    from starlette.concurrency import run_in_threadpool
    from starlette.routing import Route

    other: Callable[[Request], Awaitable[Response]] | None = next(
        (route.endpoint for route in of_dagster if getattr(route, "path", None) == _PATH), None
    )

    async def page(request: "Request") -> "Response":
        found = executed_notebook(request.query_params.get("path", ""))
        if found is None and other is not None:
            return await other(request)
        return await run_in_threadpool(_page_of, found)

    return [Route(_PATH, page)]


def executed_notebook(path: str) -> Path | None:
    """Return an executed notebook of a cycle; None if the path is anything else."""
    root = settings.cycles_root().resolve()
    try:
        found = Path(path).resolve()
        parts = found.relative_to(root).parts
    except (OSError, RuntimeError, ValueError):
        return None
    is_one = len(parts) > _PART_OF_NOTEBOOKS + 1 and parts[_PART_OF_NOTEBOOKS] == NOTEBOOKS
    return found if is_one and found.suffix == ".ipynb" else None


def _page_of(path: Path | None) -> "Response":
    import nbformat
    from starlette.responses import HTMLResponse, PlainTextResponse

    try:
        from nbconvert import HTMLExporter
    except ImportError:
        return PlainTextResponse("To show notebooks, run: pip install 'irp-pipeline[ui]'", 501, _HEADERS)
    if path is None or not store.bring(path).is_file():
        return PlainTextResponse("There is no such notebook on this machine.", 404, _HEADERS)
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    body, _ = HTMLExporter().from_notebook_node(notebook)  # type: ignore[no-untyped-call]
    return HTMLResponse(body, headers=_HEADERS)
