"""The table of exchange rates that an analysis names, and the entries with which Oasis LMF converts by it.

A currency without a rate, or a rate that is no number, does not stop Oasis LMF in a way that a user can act on; so the
table is checked when the workbook is read, and the currencies of the portfolio before a job runs.
"""

import csv
import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from irp_pipeline.columns import quoted
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.exposure.currencies import CURRENCIES
from irp_pipeline.files import write_atomically

_COLUMNS: Final = ("cur_from", "cur_to", "roe")
Rates = Mapping[tuple[str, str], float]
"""How much one unit of the first currency is in the second."""


def read_rates(path: Path) -> Rates:
    """Read a table of exchange rates.

    Raises:
        OasisError: it is not one; the message names the row and what is wrong there.
        OSError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if lacking := [column for column in _COLUMNS if column not in (reader.fieldnames or ())]:
                raise OasisError(
                    f"{path.name} has no column {' and no '.join(lacking)}; a table of exchange rates is CSV with "
                    f"{', '.join(_COLUMNS)}"
                )
            found: dict[tuple[str, str], float] = {}
            for number, row in enumerate(reader, start=2):
                pair = str(row["cur_from"]).strip(), str(row["cur_to"]).strip()
                for message in _problems(pair, str(row["roe"]).strip(), found):
                    raise OasisError(f"{path.name}, line {number}: {message}")
                found[pair] = float(str(row["roe"]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise OasisError(f"{path.name} is not CSV in UTF-8: {error}") from None
    return found


def _problems(pair: tuple[str, str], rate: str, before: Rates) -> Iterator[str]:
    for code in pair:
        if code not in CURRENCIES:
            yield f"{quoted(code)} is not an ISO 4217 currency code"
    try:
        if not (math.isfinite(float(rate)) and float(rate) > 0):
            yield f"the rate {rate} must be above 0"
    except ValueError:
        yield f"the rate {quoted(rate)} is not a number"
    if pair in before:
        yield f"the rate from {pair[0]} to {pair[1]} is there twice"


def conversion_of(
    folder: Path, request: Mapping[str, Any], currencies: Mapping[str, Collection[str]], wanted: str
) -> dict[str, str]:
    """Write the exchange rates of a job as Oasis LMF reads them.

    Args:
        folder: the job's folder.
        request: its request; ``currency_rates`` is the table on this machine.
        currencies: the currencies of the portfolio, by OED column.
        wanted: the currency of the workbook.

    Returns:
        The entries of the model's configuration for the conversion; empty if the analysis names no table.

    Raises:
        OasisError: the table is wrong, or has no rate for a currency of the portfolio.
    """
    if not request.get("currency_rates"):
        return {}
    path = Path(str(request["currency_rates"]))
    rates = read_rates(path)
    for column, codes in currencies.items():
        for code in sorted(codes):
            if code != wanted and (code, wanted) not in rates and (wanted, code) not in rates:
                raise OasisError(
                    f"{path.name} has no rate from {code} to {wanted}, and the portfolio has amounts in {code} "
                    f"({column}): add it to the table"
                )
    target = folder / "currency_conversion.json"
    content = {
        "currency_conversion_type": "DictBasedCurrencyRates",
        "source_type": "list",
        "currency_rates": [[*pair, rate] for pair, rate in rates.items()],
    }
    write_atomically(target, json.dumps(content, indent=1))
    return {"currency_conversion_json": str(target), "reporting_currency": wanted}
