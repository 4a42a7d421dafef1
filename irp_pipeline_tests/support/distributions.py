"""Distributions as an installation has them, made of the files that a page names, and changes of files of this project.

A distribution is a folder on the path with modules and a hand-written ``.dist-info``.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from irp_pipeline_tests.support.blocks import Block


def write_distribution(folder: Path, name: str, entry_points: Mapping[str, Mapping[str, str]], **modules: str) -> Path:
    """Write a distribution with its modules; return the folder that belongs on the path."""
    folder.mkdir(parents=True, exist_ok=True)
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text, encoding="utf-8")
    information = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = (f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
              for group, entries in entry_points.items())  # fmt: skip
    (information / "entry_points.txt").write_text("\n".join(groups))
    return folder


def write_files(blocks: Iterable[Block], folder: Path) -> list[Path]:
    """Write the files of a page, and of each ``pyproject.toml`` what an installer makes of it.

    Returns:
        The folders of the distributions.
    """
    found = []
    for block in blocks:
        if block.word != "file":
            continue
        file = folder / block.argument
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text + "\n", encoding="utf-8")
        if file.name == "pyproject.toml":
            project = tomllib.loads(block.text)["project"]
            found.append(write_distribution(file.parent, project["name"], project["entry-points"]))
    return found


def change_files(blocks: Iterable[Block], folder: Path) -> list[str]:
    """Change the files that a page changes; what a change begins from must be there once.

    Returns:
        The names of the files.
    """
    changed = []
    for block in blocks:
        if block.word != "change":
            continue
        lines = [(line[:1], line[1:]) for line in block.text.splitlines()]
        assert {sign for sign, _ in lines} <= {" ", "+", "-", ""}, block
        old = "".join(f"{line}\n" for sign, line in lines if sign != "+")
        new = "".join(f"{line}\n" for sign, line in lines if sign != "-")
        file = folder / block.argument
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{block}: {block.argument} has this {text.count(old)} times:\n{old}"
        file.write_text(text.replace(old, new), encoding="utf-8")
        changed.append(block.argument)
    return changed
