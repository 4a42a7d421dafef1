"""The text of a file: its encoding, stated or found, and its lines, as UTF-8 in blocks.

UTF-8 can be recognised, and so can a text with a byte order mark. No other encoding can be recognised: the same bytes
are ``Zürich`` in cp1252 and another word in cp1250. A file in such an encoding is refused until the user names it; a
stated encoding is checked against the bytes.
"""

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.readers.compressed import open_bytes

BLOCK_BYTES = 2**20

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNICODE = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
# The encodings that European and American programs use besides UTF-8, to show how a cell would read.
_USUAL_ENCODINGS = ("cp1252", "cp1250", "cp850", "mac_roman")
IN_WORKBOOK = "the column {} of sheet Portfolios"
"""Where users state how a file is written, for messages; the name of the column goes into it."""
# Control characters of ISO 8859, which no text contains; in cp1252 they are quotation marks, dashes and the euro.
_C1_CONTROLS = re.compile("[\u0080-\u009f]")
_MOST_LINE_BYTES = 2**20


@dataclass(frozen=True)
class Text:
    """A text file.

    Attributes:
        path: the file.
        encoding: of its characters, as Python calls it.
        has_mark: whether it begins with a byte order mark.
        stated_in: where users state its encoding, for messages.
    """

    path: Path
    encoding: str
    has_mark: bool
    stated_in: str = IN_WORKBOOK

    @property
    def _where(self) -> str:
        return self.stated_in.format("encoding")

    @property
    def name(self) -> str:
        """The file's name in messages."""
        return self.path.name

    def described(self) -> str:
        """Return its encoding, in words."""
        return f"{self.encoding} with a byte order mark" if self.has_mark else self.encoding

    def blocks(self) -> Iterator[bytes]:
        """Yield the text as UTF-8, without a byte order mark and without the Ctrl-Z at the end of DOS files.

        Raises:
            ExposureError: bytes are not valid in this encoding.
        """
        waiting = b""
        for block in self._transcoded():
            content = block.rstrip(b"\x1a\r\n")
            if content:
                yield waiting + content
                waiting = b""
            waiting += block[len(content) :]
        if end := waiting.partition(b"\x1a")[0]:
            yield end

    def lines(self, skip_bytes: int = 0) -> io.TextIOWrapper:
        """Return the text, with its line breaks unchanged.

        Args:
            skip_bytes: how many bytes, in UTF-8, to leave out at the beginning.
        """
        return io.TextIOWrapper(self.binary(skip_bytes), "utf-8", newline="")

    def binary(self, skip_bytes: int = 0) -> io.BufferedReader:
        """Return the text as a file in UTF-8."""
        return io.BufferedReader(_Stream(self.blocks(), skip_bytes), BLOCK_BYTES)

    def line(self, number: int) -> str:
        """Return a line by its number from 1, cut off at a bounded length."""
        with closing(self.lines()) as lines:
            return next(islice(lines, number - 1, None), "")[:_MOST_LINE_BYTES]

    def _transcoded(self) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(self.encoding)()
        is_utf8 = self.encoding == "utf-8"
        first, lines = True, 0
        with closing(open_bytes(self.path)) as binary:
            while True:
                block = binary.read(BLOCK_BYTES)
                try:
                    text = decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    raise self._not_in_encoding(error) from error
                except UnicodeError as error:
                    raise ExposureError(
                        f"{self.name}: not {self.encoding} text: {error}. Correct {self._where}"
                    ) from error
                if self.encoding not in _UNICODE and (control := _C1_CONTROLS.search(text)):
                    raise ExposureError(
                        f"{self.name}, line {lines + text.count(chr(10), 0, control.start()) + 1}: contains the "
                        f"control character U+{ord(control[0]):04X} if it is {self.encoding}. Probably it is cp1252: "
                        f"write that in {self._where}"
                    )
                lines += text.count("\n")
                yield (text.removeprefix("\ufeff") if first else text).encode() if not is_utf8 or first else block
                first = first and not text
                if not block:
                    return

    def _not_in_encoding(self, error: UnicodeDecodeError) -> ExposureError:
        place, said = self.name, f"not {self.encoding} text"
        if self.encoding not in _UNICODE or self.encoding == "utf-8":
            number, content = self._first_undecodable()
            place = f"{self.name}, line {number}"
            if self.encoding == "utf-8":
                return ExposureError(
                    f"{place}: {said}{_how_it_would_read(content)}. Save it as 'CSV UTF-8', or write its encoding in "
                    f"{self._where}"
                )
            byte = error.object[error.start]
            return ExposureError(f"{place}: {said}: the byte {byte:#04x} is not a character. Correct {self._where}")
        return ExposureError(f"{place}: {said} ({error.reason}). Correct {self._where}, or leave it empty")

    def _first_undecodable(self) -> tuple[int, bytes]:
        with closing(open_bytes(self.path)) as binary:
            for number, line in enumerate(binary, start=1):
                try:
                    line.decode(self.encoding)
                except UnicodeDecodeError:
                    return number, line
        return 1, b""


def open_text(path: Path, stated: str | None, stated_in: str = IN_WORKBOOK) -> Text:
    """Find the encoding of a file, and check whether a stated encoding is possible.

    Args:
        path: the file.
        stated: the encoding that the user states, if any.
        stated_in: where users state it, for messages, such as :data:`IN_WORKBOOK`.

    Raises:
        ExposureError: the stated encoding is unknown, or the file has a different one.
    """
    with closing(open_bytes(path)) as binary:
        beginning = binary.read(4)
    marked = next((encoding for mark, encoding in _MARKS if beginning.startswith(mark)), None)
    if stated is None:
        return Text(path, marked or "utf-8", marked is not None, stated_in)
    where = stated_in.format("encoding")
    encoding = _known_encoding(stated, path.name, where)
    if marked is not None and not encoding.startswith(marked):
        raise ExposureError(
            f"{path.name}: begins with the byte order mark of {marked}, but {where} says {stated!r}. Write {marked} "
            "there, or leave it empty"
        )
    if encoding not in _UNICODE:
        _refuse_utf8(path, encoding, where)
    return Text(path, encoding, marked is not None, stated_in)


def _known_encoding(stated: str, name: str, where: str) -> str:
    try:
        codec = codecs.lookup(stated.strip())
        "".encode(codec.name)  # fails for codecs that are not text encodings, such as base64
    except (LookupError, ValueError) as error:
        raise ExposureError(
            f"{name}: {where} says {stated!r}, which is not an encoding that can be read; write one such as utf-8, "
            "cp1252 or utf-16"
        ) from error
    return "utf-8" if codec.name == "utf-8-sig" else codec.name


def _refuse_utf8(path: Path, encoding: str, where: str) -> None:
    """Refuse a UTF-8 file for which another encoding is stated: ``Zürich`` would become ``ZÃ¼rich``."""
    decoder, example = codecs.getincrementaldecoder("utf-8")(), ""
    with closing(open_bytes(path)) as binary:
        while block := binary.read(BLOCK_BYTES):
            try:
                text = decoder.decode(block)
            except UnicodeDecodeError:
                return
            example = example or next(iter(re.findall(r"\w*[^\x00-\x7f]\w*", text)), "")
    if example:
        misread = example.encode().decode(encoding, errors="replace")
        raise ExposureError(
            f"{path.name}: {where} says {encoding}, but the file is utf-8: {example!r} would become {misread!r}. "
            "Write utf-8 there, or leave it empty"
        )


def _how_it_would_read(line: bytes) -> str:
    """Show how the usual encodings read a word that is not UTF-8."""
    if b"\0" in line:
        return "; it may be utf-16-le or utf-16-be"
    word = next(iter(re.findall(rb"[\w\x80-\xff]*[\x80-\xff][\w\x80-\xff]*", line)), b"")
    readings: dict[str, list[str]] = {}
    for encoding in _USUAL_ENCODINGS:
        try:
            readings.setdefault(word.decode(encoding), []).append(encoding)
        except UnicodeDecodeError:
            continue
    shown = ", ".join(f"{reading!r} in {' and '.join(encodings)}" for reading, encodings in readings.items())
    return f"; a word there would be {shown}" if shown else ""


class _Stream(io.RawIOBase):
    """Blocks of bytes as a file."""

    def __init__(self, blocks: Iterator[bytes], skip_bytes: int) -> None:
        super().__init__()
        self._blocks = blocks
        self._skip = skip_bytes
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)[self._skip :]
            self._skip = max(0, self._skip - len(block))
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def close(self) -> None:
        closing_blocks = getattr(self._blocks, "close", None)
        if closing_blocks is not None:
            closing_blocks()
        super().close()
