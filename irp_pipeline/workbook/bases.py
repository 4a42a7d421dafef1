"""What-ifs: analyses that name a base, take its values where their own cells are empty, and are shown beside it.

Here: what a row takes from its base, and the rules between the two. Not here: the columns
(:mod:`irp_pipeline.workbook.analyses`), and the differences between their figures
(:mod:`irp_pipeline.helpers.result.what_if`).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from irp_pipeline.columns import quoted, suggestion
from irp_pipeline.vocabulary import OedTable

Fields = Mapping[str, Any]

_NOT_TAKEN: Final = frozenset({"name", "base"})
_EXPOSURE: Final = ("source", "location", "account", "database", "encoding", "delimiter", "decimal")
"""What two portfolios with the same locations and accounts have in common."""
_REINSURANCE: Final = (OedTable.RI_INFO.value, OedTable.RI_SCOPE.value)


def with_base(fields: Fields, base: Fields) -> dict[str, Any]:
    """Return the fields of a what-if: its own where they are filled, else those of its base."""
    own = {name: value for name, value in fields.items() if value is not None and value != ""}
    return {name: value for name, value in base.items() if name not in _NOT_TAKEN} | own


def with_bases(analyses: Iterable[Any]) -> list[Any]:
    """Complete the what-ifs among analyses that are plain data, as of JSON; others stay as they are."""
    rows = list(analyses)
    by_name = {row["name"]: row for row in rows if isinstance(row, Mapping) and isinstance(row.get("name"), str)}
    return [
        with_base(row, base)
        if isinstance(row, Mapping)
        and isinstance(name := row.get("base"), str)
        and (base := by_name.get(name)) is not None
        and base is not row
        else row
        for row in rows
    ]


def base_findings(analyses: Mapping[str, Fields]) -> Iterator[tuple[str, str, str]]:
    """Say what is wrong with the bases of analyses, as analysis, column and message.

    Args:
        analyses: all analyses by name.
    """
    for name, fields in analyses.items():
        base = fields.get("base")
        if base is None:
            continue
        if base not in analyses:
            yield name, "base", f"there is no analysis {quoted(base)} in this sheet{suggestion(base, analyses)}"
        elif circle := _circle(name, analyses):
            yield name, "base", f"the bases form a circle: {' → '.join(circle)}; empty one of them"
        elif (further := analyses[base].get("base")) is not None:
            yield (
                name,
                "base",
                f"{quoted(base)} has a base itself; name an analysis without one, such as {quoted(further)}",
            )
        else:
            yield from ((name, column, message) for column, message in _unlike(fields, analyses[base]))


def _circle(name: str, analyses: Mapping[str, Fields]) -> list[str]:
    """Return the way from an analysis over the bases to itself; empty if there is none."""
    way = [name]
    while (base := analyses[way[-1]].get("base")) is not None and base in analyses:
        way.append(str(base))
        if base == name:
            return way
        if base in way[:-1]:
            return []
    return []


def _unlike(fields: Fields, base: Fields) -> Iterator[tuple[str, str]]:
    for column, why in (
        ("portfolio", "; for other reinsurance fill the column reinsurance"),
        ("engine", ""),
    ):
        if column in fields and column in base and fields[column] != base[column]:
            yield column, f"must be that of the base {quoted(base['name'])}, which is {quoted(base[column])}{why}"


def reinsurance_finding(analysis: Fields, portfolios: Mapping[str, Fields]) -> str | None:
    """Say why an analysis cannot have the reinsurance that it names; None if it can.

    Args:
        analysis: the analysis; its portfolio is known.
        portfolios: all portfolios by name.
    """
    name, own = analysis.get("reinsurance"), portfolios[analysis["portfolio"]]
    if name is None:
        return None
    if name not in portfolios:
        return f"there is no portfolio {quoted(name)} in the sheet Portfolios{suggestion(name, portfolios)}"
    other = portfolios[name]
    if lacking := [table for table in _REINSURANCE if table in other and not other[table]]:
        return f"the portfolio {quoted(name)} has no {' and no '.join(lacking)} table"
    different = [
        column
        for column in _EXPOSURE
        if column in own and column in other and (own[column] or "") != (other[column] or "")
    ]
    if different:
        return (
            f"the portfolio {quoted(name)} differs from {quoted(own['name'])} in {', '.join(different)}; its "
            "reinsurance applies to the same locations and accounts only"
        )
    return None


def counted_twice(analyses: Collection[Fields]) -> Iterator[str]:
    """Say which what-ifs are in a group together with their base or another what-if of it.

    Args:
        analyses: those of the group.
    """
    of_base: dict[str, list[str]] = {}
    for fields in analyses:
        if "name" in fields:
            of_base.setdefault(fields.get("base") or fields["name"], []).append(fields["name"])
    for base, names in of_base.items():
        if len(names) > 1:
            what = f"{quoted(base)} and its what-ifs" if base in names else f"what-ifs of {quoted(base)}"
            yield f"{', '.join(map(quoted, names))} are {what}: they would count the same exposure twice"
