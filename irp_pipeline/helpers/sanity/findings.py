"""Findings about losses: what one is, how bad it is, and which checks there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How bad a finding is.

    An ERROR: the figures cannot be right, and the cycle's report does not say COMPLETED. A WARNING: they are probably
    wrong or incomplete, and a person should look at them. A NOTE is good to know.
    """

    ERROR = "ERROR"
    WARNING = "WARNING"
    NOTE = "NOTE"


class Check(StrEnum):
    """The checks, in the order in which findings of one severity are shown. ``docs/sanity.md`` describes them."""

    NO_NUMBER = "no-number"
    ORDER = "order"
    CURVE = "curve"
    NO_LOSS = "no-loss"
    NOT_COVERED = "not-covered"
    EXPOSURE_DATE = "exposure-date"
    CHANGE = "change"


@dataclass(frozen=True, kw_only=True, slots=True)
class LossFinding:
    """One finding; ``str()`` is a line for a file.

    Attributes:
        severity: how bad it is.
        check: the check that found it.
        subject: the analysis or group that it is about; several are joined by commas.
        what: what is wrong, as a clause without its full stop.
        size: how large it is, in words with its unit; empty if it has no size.
        remedy: what to do, as a clause without its full stop.
    """

    severity: Severity
    check: Check
    subject: str
    what: str
    size: str = ""
    remedy: str

    def __str__(self) -> str:
        """Write the finding as one line."""
        size = f" ({self.size})" if self.size else ""
        return f"{self.severity}: {self.subject}: {self.what}{size}. {self.remedy}"

    def as_json(self) -> dict[str, str]:
        """Return it as plain data."""
        return {name: str(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LossFinding:
        """Read the plain data of :meth:`as_json`."""
        texts = {name: str(data[name]) for name in ("subject", "what", "size", "remedy")}
        return cls(severity=Severity(data["severity"]), check=Check(data["check"]), **texts)


def in_order(findings: Iterable[LossFinding]) -> tuple[LossFinding, ...]:
    """Return findings with the worst first; those of one severity by check, and then as they were found."""
    severities, checks = list(Severity), list(Check)
    return tuple(sorted(findings, key=lambda one: (severities.index(one.severity), checks.index(one.check))))
