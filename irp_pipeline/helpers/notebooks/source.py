"""The code of a notebook: what identifies it, whatever its outputs are.

https://nbformat.readthedocs.io/en/stable/format_description.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from irp_pipeline import hashes
from irp_pipeline.helpers.notebooks.errors import NotebookStepError

INJECTED: Final = "injected-parameters"
"""The tag of the cell that papermill adds."""
MARKER: Final = "papermill-error-cell-tag"
"""The tag of the cells in which papermill shows an error."""


@dataclass(frozen=True)
class Source:
    """A notebook as it is on disk.

    Attributes:
        path: the file.
        content: the file as JSON.
        code: its code cells, in order, without empty ones.
    """

    path: Path
    content: Mapping[str, Any]
    code: tuple[str, ...]

    @property
    def code_hash(self) -> str:
        """A hash of its code cells. Outputs, execution counts, metadata and text cells do not affect it."""
        return hash_of_code(self.code)


def read_source(path: Path) -> Source:
    """Read a notebook.

    Raises:
        NotebookStepError: there is no such file, or it is not a notebook of format 4 in Python.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise NotebookStepError(f"The notebook {path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise NotebookStepError(f"The file {path} is not a notebook: it does not hold JSON") from None
    cells = content.get("cells") if isinstance(content, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise NotebookStepError(
            f"The file {path} is not a notebook of format 4. Open and save it in Jupyter to bring it up to date"
        )
    metadata = content.get("metadata") or {}
    language = (metadata.get("kernelspec") or {}).get("language") or (metadata.get("language_info") or {}).get("name")
    if language not in {None, "python", "ipython"}:
        raise NotebookStepError(f"The notebook {path} is in {language!r}; notebooks as steps are in Python")
    return Source(path, content, code_of(text_of(cell) for cell in cells if is_code(cell)))


def is_code(cell: Mapping[str, Any]) -> bool:
    """Whether a cell is code that a person wrote."""
    return cell.get("cell_type") == "code" and INJECTED not in tags_of(cell)


def tags_of(cell: Mapping[str, Any]) -> Iterable[str]:
    """Return the tags of a cell."""
    tags = (cell.get("metadata") or {}).get("tags")
    return tags if isinstance(tags, list) else ()


def text_of(cell: Mapping[str, Any]) -> str:
    """Return the text of a cell, which a file holds in one piece or line by line."""
    source = cell.get("source", "")
    return "".join(source) if isinstance(source, list) else str(source)


def code_of(cells: Iterable[str]) -> tuple[str, ...]:
    """Return the text of cells that are not empty, as it is compared: with the same line ends, and none at its end."""
    texts = (cell.replace("\r\n", "\n").replace("\r", "\n").rstrip() for cell in cells)
    return tuple(text for text in texts if text.strip())


def hash_of_code(code: Iterable[str]) -> str:
    """Return a hash of code cells."""
    return hashes.value_hash(list(code))
