"""The picture of the layers, from the import contract in ``pyproject.toml``."""

import ast
import tomllib
from html import escape
from pathlib import Path

from irp_pipeline_docs.roles import plain


def layers(project: Path) -> str:
    """Return the layers from top to bottom, each with the first line of its modules' docstrings.

    Args:
        project: ``pyproject.toml``; the packages are in the same folder.
    """
    contracts = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    contract = next(contract for contract in contracts if contract["type"] == "layers")
    rows = []
    for layer in contract["layers"]:
        modules = (module.strip(" ()") for module in layer.replace("|", ":").split(":"))
        boxes = "".join(_box(module, _docstring(project.parent, module)) for module in modules)
        rows.append(f'<div class="irp-layer">{boxes}</div>')
    return f'<div class="irp-layers" role="img" aria-label="Layers, the highest first">{"".join(rows)}</div>'


def _box(module: str, docstring: str) -> str:
    sentence = plain(docstring.partition("\n")[0]).replace("`", "")
    return f"<div><b>{escape(module.partition('.')[2])}</b><span>{escape(sentence)}</span></div>"


def _docstring(root: Path, module: str) -> str:
    path = root / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
