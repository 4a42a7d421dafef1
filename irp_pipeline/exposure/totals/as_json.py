"""Control totals as JSON."""

import json
from collections.abc import Iterable
from decimal import Decimal

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.totals.control_total import ControlTotal, ControlTotals

_AMOUNTS = {
    "building_tiv": "BuildingTIV",
    "other_tiv": "OtherTIV",
    "contents_tiv": "ContentsTIV",
    "bi_tiv": "BITIV",
}


def totals_to_json(totals: Iterable[ControlTotal]) -> str:
    """Write control totals as JSON, amounts as text with all their digits."""
    by_account = totals.by_account if isinstance(totals, ControlTotals) else None
    lines = [json.dumps(vars(total), default=str) for total in (*totals, *(by_account or ()))]
    return "[" + ",\n".join(lines) + "]"


def totals_from_json(text: str) -> ControlTotals:
    """Read the text of :func:`totals_to_json`.

    Raises:
        ExposureError: it is something else.
    """
    try:
        totals = [
            ControlTotal(**record | {name: Decimal(record[name]) for name in _AMOUNTS}) for record in json.loads(text)
        ]
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise ExposureError(f"these are not control totals: {error}") from error
    by_account = [total for total in totals if total.account]
    return ControlTotals((total for total in totals if not total.account), by_account or None)
