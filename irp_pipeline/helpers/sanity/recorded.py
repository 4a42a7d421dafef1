"""The findings about losses as the step ``check_losses`` records them, and reading them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from irp_pipeline.helpers.sanity.checking import CheckedLosses
from irp_pipeline.helpers.sanity.findings import LossFinding, Severity
from irp_pipeline.postgres.running import fetch_one

STEP_KEY: Final = "monitor.check_losses"
_MOST_RECORDED: Final = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedCheck:
    """What the newest completed check of a cycle's losses found.

    Attributes:
        errors: how many errors.
        warnings: how many warnings.
        notes: how many notes.
        findings: the first of them, the worst first; the file of the step has all.
        compared_with: the cycle before; None if no earlier cycle had figures.
        content: a hash of the figures that were checked
            (:func:`irp_pipeline.helpers.sanity.checking.content_of_figures`).
    """

    errors: int
    warnings: int
    notes: int
    findings: tuple[LossFinding, ...]
    compared_with: str | None
    content: str

    @property
    def total(self) -> int:
        """How many findings there are."""
        return self.errors + self.warnings + self.notes

    @property
    def left_out(self) -> int:
        """How many findings are in the file alone."""
        return self.total - len(self.findings)

    def of(self, severity: Severity | str) -> tuple[LossFinding, ...]:
        """Return the findings of a severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "errors": self.errors,
            "warnings": self.warnings,
            "notes": self.notes,
            "findings": [finding.as_json() for finding in self.findings],
            "compared_with": self.compared_with,
        }


def output_of_check(checked: CheckedLosses) -> dict[str, Any]:
    """Return findings as the output data of the step."""
    return {
        "errors": checked.count(Severity.ERROR),
        "warnings": checked.count(Severity.WARNING),
        "notes": checked.count(Severity.NOTE),
        "figures checked": checked.figures,
        "compared with": checked.compared_with,
        "content checked": checked.content,
        "findings": [finding.as_json() for finding in checked.findings[:_MOST_RECORDED]],
    }


def find_recorded_check(cycle_id: int) -> RecordedCheck | None:
    """Return what the newest completed check of a cycle found; None if there was none.

    Args:
        cycle_id: the cycle.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    row = fetch_one(
        """
        SELECT r.output_data
          FROM irp_stage sg
          JOIN irp_step st ON st.stage_id = sg.id
          JOIN irp_step_run r ON r.step_id = st.id
         WHERE sg.cycle_id = %s AND st.step_key = %s AND r.status = 'COMPLETED'
         ORDER BY r.run_num DESC LIMIT 1
        """,
        (cycle_id, STEP_KEY),
    )
    output = row["output_data"] if row is not None else None
    if not isinstance(output, dict) or "findings" not in output:
        return None
    return RecordedCheck(
        errors=output["errors"],
        warnings=output["warnings"],
        notes=output["notes"],
        findings=tuple(map(LossFinding.from_json, output["findings"])),
        compared_with=output["compared with"],
        content=output["content checked"],
    )
