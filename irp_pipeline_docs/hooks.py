"""MkDocs hooks: insert the parts of pages that come from the code, and add pages from outside ``docs/``.

A line ``<!-- made from the code: NAME -->`` marks the place for such a part. The names are those of ``MAKERS``.

https://www.mkdocs.org/dev-guide/plugins/#events
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from irp_pipeline_docs import layers, reference, states
from irp_pipeline_docs.run_picture import run_picture
from irp_pipeline_docs.topology import topology

ROOT: Final = Path(__file__).parents[1]
_FROM_OUTSIDE: Final = ("CONTRIBUTING.md", "CHANGELOG.md", "examples/cycle.ipynb", "examples/losses.ipynb")


def _start_of_readme() -> str:
    """Return the text between the title of the README and its second heading."""
    _, _, text = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n# irp_pipeline\n")
    start, _, _ = text.partition("\n## ")
    return start.strip()


MAKERS: Final[dict[str, Callable[[], str]]] = {
    "the start of the README": _start_of_readme,
    "settings": reference.settings,
    "commands": reference.commands,
    "declared": reference.declared,
    "layers": lambda: layers.layers(ROOT / "pyproject.toml"),
    "a run": run_picture,
    "topology": topology,
    "states of a step run": lambda: states.page(states.STEP_RUN),
    "states of a batch": lambda: states.page(states.BATCH),
    "states of a job": lambda: states.page(states.JOB),
}
_PLACE = re.compile(r"^<!-- made from the code: (.+) -->$", re.MULTILINE)
_LINK = re.compile(r"\]\((?:\.\./|docs/)([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are outside ``docs/``, where readers of the repository look for them."""
    for name in _FROM_OUTSIDE:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Fill the places of a page, and change its links to where the site has their targets.

    Raises:
        PluginError: a page marks a place for something that nothing makes.
    """

    def made(place: re.Match[str]) -> str:
        try:
            return MAKERS[place[1]]()
        except KeyError:
            known = ", ".join(MAKERS)
            raise PluginError(f"{page.file.src_uri}: nothing makes {place[1]!r}. There are: {known}") from None

    in_folder = page.file.src_uri.count("/")
    text = _PLACE.sub(made, markdown)
    return text if in_folder else _LINK.sub(r"](\1)", text)
