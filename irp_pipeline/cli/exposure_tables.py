"""The exposure at a glance for ``irp exposure``: as tables, and as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from irp_pipeline.cli import output
from irp_pipeline.exposure.profile.changes import TITLES, Row, fields_of, rows_of, shown_value
from irp_pipeline.exposure.profile.records import CurrencyProfile, PortfolioProfile

NO_CURRENCY = "(no currency)"


def print_exposure(
    portfolio: PortfolioProfile, before: PortfolioProfile | None, cycle_before: str | None, most: int
) -> None:
    """Print the exposure of a portfolio, or of all together.

    Args:
        portfolio: the exposure.
        before: that of the cycle before, if there is one.
        cycle_before: the name of that cycle.
        most: how many values of a field are shown.
    """
    since = [] if cycle_before is None else [f"Since {cycle_before}"]
    if not portfolio.currencies:
        why = "no location" if portfolio.has_locations else "no location table"
        output.say(f"{output.counted(portfolio.accounts, 'account')}, {why}: there is no insured value by location.")
        return
    output.print_table(
        ("Currency", "Insured value", "Locations", "Accounts", *since),
        (
            (
                part.currency or NO_CURRENCY,
                _money(part.amount.tiv),
                part.amount.locations,
                part.amount.accounts,
                *([_change(part.amount.tiv, then.amount.tiv if then else None)] if since else []),
            )
            for part, then in _pairs(portfolio, before)
        ),
    )
    for part, then in _pairs(portfolio, before):
        currency = part.currency or NO_CURRENCY
        for field in fields_of(part):
            output.say()
            output.print_table(
                (TITLES[field], currency, "Share", "Locations", "Accounts", *since),
                (_cells(row, bool(since)) for row in rows_of(part, then, field, most)),
            )
        _print_circles(part, currency)
        output.say()
        output.print_table(
            ("Known", f"Of {currency}", "Of locations"),
            (
                (
                    measure.value,
                    _share(known.tiv, part.amount.tiv),
                    _share(known.locations, part.amount.locations),
                )
                for measure, known in part.known.items()
            ),
        )
    if portfolio.placed < portfolio.locations:
        missing = output.counted(portfolio.locations - portfolio.placed, "location")
        output.print_note(f"Without valid coordinates, and so in no circle: {missing}.")
    if portfolio.repeated:
        shared = output.counted(portfolio.repeated, "location")
        output.print_note(f"In more than one portfolio, and counted in each: {shared}.")


def as_data(
    portfolio: PortfolioProfile, before: PortfolioProfile | None, cycle_before: str | None, most: int
) -> dict[str, Any]:
    """Return the exposure of a portfolio as data; otherwise as :func:`print_exposure`."""
    return {
        "portfolio": portfolio.name or None,
        "cycle_before": cycle_before,
        "locations": portfolio.locations,
        "accounts": portfolio.accounts,
        "locations_with_coordinates": portfolio.placed,
        "locations_in_several_portfolios": portfolio.repeated,
        "currencies": [
            {
                "currency": part.currency,
                **asdict(part.amount),
                "tiv_before": then.amount.tiv if then else None,
                "segments": {
                    field: [_as_record(row) for row in rows_of(part, then, field, most)] for field in fields_of(part)
                },
                "circles": [asdict(circle) for circle in part.circles],
                "known": {
                    measure.value: {"tiv": known.tiv, "locations": known.locations}
                    for measure, known in part.known.items()
                },
            }
            for part, then in _pairs(portfolio, before)
        ],
    }


def _pairs(
    portfolio: PortfolioProfile, before: PortfolioProfile | None
) -> Iterator[tuple[CurrencyProfile, CurrencyProfile | None]]:
    for part in portfolio.currencies:
        yield part, before.in_currency(part.currency) if before else None


def _print_circles(part: CurrencyProfile, currency: str) -> None:
    if not part.circles:
        return
    output.say()
    output.print_table(
        ("Circle", currency, "Share", "Locations", "Latitude", "Longitude", "Account", "Location"),
        (
            (
                f"{circle.radius:,} m",
                _money(circle.tiv),
                _share(circle.tiv, part.amount.tiv),
                circle.locations,
                f"{circle.latitude:.4f}",
                f"{circle.longitude:.4f}",
                circle.account,
                circle.location,
            )
            for circle in part.circles
        ),
    )


def _cells(row: Row, with_change: bool) -> tuple[object, ...]:
    label = shown_value(row.value, row.values)
    return (
        f"{label} {row.name}" if row.name and row.name != row.value else label,
        _money(row.now.tiv),
        f"{row.share:.1%}",
        row.now.locations,
        "" if row.value is None else row.now.accounts,
        *([_change(row.now.tiv, None if row.before is None else row.before.tiv)] if with_change else []),
    )


def _as_record(row: Row) -> dict[str, Any]:
    is_one = row.value is not None
    return {
        "value": row.value,
        "name": row.name or None,
        "values": row.values,
        "tiv": row.now.tiv,
        "locations": row.now.locations,
        "accounts": row.now.accounts if is_one else None,
        "tiv_before": None if row.before is None else row.before.tiv,
    }


def _money(amount: float) -> str:
    return f"{amount:,.0f}"


def _share(part: float, of: float) -> str:
    return f"{part / of:.1%}" if of else ""


def _change(now: float, before: float | None) -> str:
    if before is None:
        return ""
    return f"{now / before - 1:+.1%}" if before else "new"
