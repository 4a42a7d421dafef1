"""The blocks of README and docs, and a reader who runs them one after the other as a person would.

What a page can say, in an HTML comment on a line of its own:

``<!-- begins with: the tutorial's cycle -->``
    once, for the page: its blocks go on from where the tutorial has losses. Else they begin in an empty folder.
``<!-- begins with: a database of the old framework -->``
    once, for the page: the schema ``public`` is one of the old framework.
``<!-- file: NAME -->``
    the block that follows is the content of a file in the reader's folder.
``<!-- change: NAME -->``
    the block that follows is a change of a file of this project, as ``diff`` writes one without numbers of lines.
``<!-- fill: FILE, sheet NAME -->``
    the table that follows is typed into a sheet of a workbook, from its second row on; columns are found by header.
``<!-- not run: REASON -->``
    the block that follows cannot be run here, for this reason.
``<!-- other pages go on from here -->``
    once, in the tutorial.

Blocks of the language ``console`` hold commands, each after ``$``. Lines without ``$`` are what the command says, where
``...`` stands for anything. ``irp`` runs in this process, anything else in a shell. Blocks of the language
``python`` run in this process, with one namespace for a page; blocks of the language ``ipython`` in IPython.
"""

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openpyxl
from typer.testing import CliRunner

from irp_pipeline.cli import app

ROOT = Path(__file__).parents[2]
LANGUAGES_THAT_RUN = frozenset({"console", "python", "ipython"})
LANGUAGES = LANGUAGES_THAT_RUN | {"csv", "diff", "sql", "text", "toml", "yaml"}

_FENCE = re.compile(r"^( *)```(\S*)\s*$")
_COMMENT = re.compile(r"^<!-- (begins with|file|change|fill|not run|other pages go on from here)(?:: (.+))? -->$")
_BEGINS = "begins with"
_SECONDS = 300


@dataclass(frozen=True)
class Block:
    """A block of a page, or a table that is typed into a workbook.

    Attributes:
        page: the file it is in.
        line: where its text begins.
        language: what its fence says; ``table`` for a table.
        text: its lines.
        word, argument: the comment before it; empty if there is none.
    """

    page: Path
    line: int
    language: str
    text: str
    word: str = ""
    argument: str = ""

    @property
    def is_run(self) -> bool:
        return self.language in LANGUAGES_THAT_RUN and self.word not in {"file", "change", "not run"}

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass
class Page:
    """The blocks of a page.

    Attributes:
        path: its file.
        begins_with: what there is when its first block runs; empty means nothing.
        blocks: its blocks in their order.
        pause: how many blocks come before the place from where other pages go on.
    """

    path: Path
    begins_with: str = ""
    blocks: list[Block] = field(default_factory=list)
    pause: int | None = None


def pages() -> list[Page]:
    """Return README, CONTRIBUTING and the pages of the docs."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [read_page(file) for file in files]


def read_page(path: Path) -> Page:
    """Read the blocks of a page."""
    page = Page(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    word = argument = ""
    number = 0
    while number < len(lines):
        line = lines[number]
        if comment := _COMMENT.match(line):
            word, argument = comment[1], comment[2] or ""
            if word == _BEGINS:
                page.begins_with, word = argument, ""
            elif word.startswith("other pages"):
                page.pause, word = len(page.blocks), ""
        elif fence := _FENCE.match(line):
            indent, language = fence[1], fence[2]
            end = next(n for n in range(number + 1, len(lines)) if lines[n].strip() == "```")
            text = "\n".join(text.removeprefix(indent) for text in lines[number + 1 : end])
            page.blocks.append(Block(path, number + 2, language, text, word, argument))
            word, number = "", end
        elif word == "fill" and line.startswith("|"):
            end = next((n for n in range(number, len(lines)) if not lines[n].startswith("|")), len(lines))
            page.blocks.append(Block(path, number + 1, "table", "\n".join(lines[number:end]), word, argument))
            word, number = "", end
        elif line.strip():
            assert not word, f"{path}:{number + 1}: what is {word!r} about?"
        number += 1
    return page


def blocks_under(path: Path, heading: str) -> list[Block]:
    """Return the blocks of a page under a heading of the second level."""
    lines = path.read_text(encoding="utf-8").splitlines()
    begins = lines.index(f"## {heading}")
    ends = next((n for n in range(begins + 1, len(lines)) if lines[n].startswith("## ")), len(lines))
    return [block for block in read_page(path).blocks if begins < block.line <= ends]


class Reader:
    """Somebody who works through a page, in the current folder."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {"__name__": "docs"}

    def do(self, block: Block) -> None:
        """Do what a block says.

        Raises:
            AssertionError: a command fails, or says something else than the page.
        """
        if block.word == "file":
            Path(block.argument).write_text(block.text + "\n", encoding="utf-8")
        elif block.language == "table":
            _fill(block)
        elif not block.is_run:
            return
        elif block.language == "console":
            for command, said in commands(block):
                self._run(block, command, said)
        elif block.language == "ipython":
            _shell(block, shlex.join([sys.executable, "-m", "IPython", "--no-banner", "-c", block.text]))
        else:
            # The lines before let a traceback name the line of the page.
            code = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec")
            with contextlib.redirect_stdout(io.StringIO()):
                exec(code, self._names)  # noqa: S102 - that is what the page tells its reader to do

    def _run(self, block: Block, command: str, said: str) -> None:
        words = shlex.split(command, comments=True)
        if words[0] == "export":
            os.environ.update((name, value) for name, _, value in (word.partition("=") for word in words[1:]))
            return
        output = _irp(block, words[1:]) if words[0] == "irp" and "|" not in words else _shell(block, command)
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        if said and not doctest.OutputChecker().check_output(f"{said}\n", output, flags):
            raise AssertionError(f"{block}: `{command}` says\n{output}\nand not, as the page has it,\n{said}")


def commands(block: Block) -> list[tuple[str, str]]:
    """Return the commands of a block, each with what it is to say."""
    found: list[tuple[str, str]] = []
    is_continued = False
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            assert found, f"{block}: what says {line!r}? A command begins with `$ `"
            command, said = found[-1]
            found[-1] = (f"{command}\n{line}", said) if is_continued else (command, f"{said}\n{line}".strip("\n"))
        is_continued = line.endswith("\\")
    return found


def _irp(block: Block, words: list[str]) -> str:
    result = CliRunner().invoke(app, words, prog_name="irp")
    assert result.exit_code == 0, f"{block}: irp {shlex.join(words)}\n{result.output}\n{result.exception!r}"
    return result.output


def _shell(block: Block, command: str) -> str:
    folder = str(Path(sys.executable).parent)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env=os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{block}: {command}\n{done.stdout}"
    return done.stdout


def _fill(block: Block) -> None:
    file, _, sheet = block.argument.partition(", sheet ")
    header, _, *rows = ([cell.strip(" `") for cell in line.strip("|").split("|")] for line in block.text.splitlines())
    book = openpyxl.load_workbook(file)
    columns = {cell.value: cell.column for cell in book[sheet][1]}
    for number, row in enumerate(rows, 2):
        if sheet == "Metadata":  # a setting is a row there
            number = next(cell.row for cell in book[sheet]["A"] if cell.value == row[0])
        for name, value in zip(header, row, strict=True):
            book[sheet].cell(number, columns[name]).value = value or None
    book.save(file)
