"""Where a record is in the user's source, in words: the line of a file, or the number of a record."""

import base64
import json
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from irp_pipeline.exposure import ExposureError

_METADATA_KEY = b"irp.places"


@dataclass(frozen=True)
class Places:
    """Where the records of a source are.

    Attributes:
        source: the source's name in messages.
        unit: what is counted, ``line`` or ``record``.
        first: the number of the first record, or of its line.
        jumps: the records, counted from 0, whose number is not one more than that of the previous record.
        numbers: the numbers of these records.
    """

    source: str
    unit: str = "record"
    first: int = 1
    jumps: "array[int]" = field(default_factory=lambda: array("q"))
    numbers: "array[int]" = field(default_factory=lambda: array("q"))

    def number(self, record: int) -> int:
        """Return the line or number of a record, given its position from 0."""
        jump = bisect_right(self.jumps, record) - 1
        return self.first + record if jump < 0 else self.numbers[jump] + record - self.jumps[jump]

    def locate(self, record: int) -> str:
        """Return where a record is, such as ``location.csv, line 17``."""
        return f"{self.source}, {self.unit} {self.number(record)}"

    def to_metadata(self) -> dict[bytes, bytes]:
        """Return the metadata to store in a Parquet file."""
        return {
            _METADATA_KEY: json.dumps(
                {
                    "source": self.source,
                    "unit": self.unit,
                    "first": self.first,
                    "jumps": _packed(self.jumps),
                    "numbers": _packed(self.numbers),
                }
            ).encode()
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None) -> "Places | None":
        """Read the metadata of :meth:`to_metadata`; None if there is none.

        Raises:
            ExposureError: the metadata are not valid.
        """
        text = (metadata or {}).get(_METADATA_KEY)
        if text is None:
            return None
        try:
            record = json.loads(text)
            return cls(
                str(record["source"]),
                str(record["unit"]),
                int(record["first"]),
                _unpacked(record["jumps"]),
                _unpacked(record["numbers"]),
            )
        except (ValueError, TypeError, KeyError, zlib.error) as error:
            raise ExposureError(f"the places of records in the file's metadata cannot be read: {error}") from error


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 record`` or ``1,001 records``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _packed(numbers: "array[int]") -> str:
    return base64.b85encode(zlib.compress(numbers.tobytes())).decode() if numbers else ""


def _unpacked(text: str) -> "array[int]":
    numbers = array("q")
    if text:
        numbers.frombytes(zlib.decompress(base64.b85decode(text)))
    return numbers
