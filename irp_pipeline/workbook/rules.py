"""The rules between the rows and sheets of a workbook.

The rules look at fields by name and skip missing ones, so that one unreadable cell does not hide mistakes elsewhere,
and is not reported twice. They apply to a workbook that is being read and to a complete one.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from irp_pipeline import engines
from irp_pipeline.columns import Folders, WorkbookError, quoted, suggestion
from irp_pipeline.columns.paths import file_problem
from irp_pipeline.vocabulary import OedTable, Perspective
from irp_pipeline.workbook.bases import base_findings, counted_twice, reinsurance_finding
from irp_pipeline.workbook.choices import NotebookStage, PortfolioSource
from irp_pipeline.workbook.parameters import sql_file_problems
from irp_pipeline.workbook.sources import table_problem

Fields = Mapping[str, Any]
Table = Mapping[int, Fields]
"""The rows of a sheet by their number; each holds the fields that could be read."""

_REINSURANCE = {OedTable.RI_INFO, OedTable.RI_SCOPE}

_ROW_NAMES = {"portfolios": "portfolio", "analyses": "analysis", "groupings": "group", "notebooks": "notebook"}
_MAY_BE_EMPTY = {"groupings", "notebooks"}
_LISTED_NAMES = 5


@dataclass(frozen=True)
class BrokenRule:
    """A problem with sheet, row and column, but not yet its cell.

    Attributes:
        sheet: the field of the workbook that the sheet fills.
        row: the row in the sheet; None for the whole sheet.
        column: the field.
        message: as in :class:`~irp_pipeline.columns.Problem`.
    """

    sheet: str
    row: int | None
    column: str | None
    message: str


def findings_between_rows(tables: Mapping[str, Table | None]) -> Iterator[BrokenRule]:
    """All broken rules between rows and sheets. A sheet that could not be read is None, and is not checked."""
    portfolios, analyses, groupings, notebooks = (tables[sheet] for sheet in _ROW_NAMES)
    for sheet, row_name in _ROW_NAMES.items():
        if (table := tables[sheet]) is not None:
            if not table and sheet not in _MAY_BE_EMPTY:
                yield BrokenRule(sheet, None, None, f"has no rows yet; write one row per {row_name} below the header")
            yield from _repeated_names(sheet, table)
    if portfolios is not None and analyses is not None:
        yield from _portfolio_findings(portfolios, analyses)
    if analyses is not None:
        known = _by_name(analyses)
        for name, column, message in base_findings({name: fields for name, (_, fields) in known.items()}):
            yield BrokenRule("analyses", known[name][0], column, message)
    if analyses is not None and groupings is not None:
        yield from _grouping_findings(analyses, groupings)
    if notebooks is not None:
        yield from _notebook_findings(notebooks)


def _repeated_names(sheet: str, table: Table) -> Iterator[BrokenRule]:
    first: dict[str, int] = {}
    for row, fields in table.items():
        if (name := fields.get("name")) is None:
            continue
        other = first.setdefault(name.casefold(), row)
        if other != row:
            message = f"{quoted(name)} is already the name of the {_ROW_NAMES[sheet]} in row {other}"
            yield BrokenRule(sheet, row, "name", message)


def _by_name(table: Table) -> dict[str, tuple[int, Fields]]:
    found: dict[str, tuple[int, Fields]] = {}
    for row, fields in table.items():
        if "name" in fields:
            found.setdefault(fields["name"], (row, fields))
    return found


def _portfolio_findings(portfolios: Table, analyses: Table) -> Iterator[BrokenRule]:
    known = _by_name(portfolios)
    by_name = {name: fields for name, (_, fields) in known.items()}
    for row, analysis in analyses.items():
        name = analysis.get("portfolio")
        if name is None or not known:
            continue
        if name not in known:
            message = f"there is no portfolio {quoted(name)} in the sheet Portfolios{suggestion(name, known)}"
            yield BrokenRule("analyses", row, "portfolio", message)
            continue
        for column, message in missing_tables(analysis, known[name][1]):
            yield BrokenRule("analyses", row, column, message)
        if problem := reinsurance_finding(analysis, by_name):
            yield BrokenRule("analyses", row, "reinsurance", problem)


def missing_tables(analysis: Fields, portfolio: Fields, folders: Folders | None = None) -> Iterator[tuple[str, str]]:
    """Tables that the analysis needs according to its engine, but its portfolio lacks, as column and message.

    Args:
        analysis: a row of the sheet Analyses.
        portfolio: its portfolio.
        folders: where its files are, such as its model; None: they are not read.

    Raises:
        WorkbookError: a file that it names does not exist.
    """
    name = quoted(portfolio["name"])
    lacks = {table for table in OedTable if table in portfolio and not portfolio[table]}
    if analysis.get("reinsurance"):
        lacks -= _REINSURANCE
    perspectives = analysis.get("perspectives", ())
    if OedTable.ACCOUNT in lacks and (Perspective.IL in perspectives or Perspective.RI in perspectives):
        lacks.discard(OedTable.ACCOUNT)
        yield "perspectives", f"IL and RI need the terms of accounts, but portfolio {name} has no account table"
    if lacks >= _REINSURANCE and Perspective.RI in perspectives:
        yield "perspectives", f"RI needs the terms of reinsurance, but portfolio {name} has no reinsurance tables"
    if analysis.get("engine") is None:
        return
    for table, reason in engines.needs(analysis, folders).tables.items():
        if table in lacks - _REINSURANCE:
            yield "portfolio", f"the portfolio {name} has no {table} table; {reason}"


def _grouping_findings(analyses: Table, groupings: Table) -> Iterator[BrokenRule]:
    known = {name: fields for name, (_, fields) in _by_name(analyses).items()}
    groups = _by_name(groupings)
    yield from _reference_findings(known, groups, groupings)
    members = {
        name: tuple(dict.fromkeys(fields.get("members", ())))
        for name, (_, fields) in groups.items()
        if name not in known
    }
    order, circles = members_first(members)
    for circle in circles:
        message = f"the group contains itself: {' → '.join(circle)}; take one of them out"
        yield BrokenRule("groupings", groups[circle[0]][0], "members", message)
    within: dict[str, tuple[str, ...]] = {}
    for name in order:
        if any(member in members and member not in within for member in members[name]):
            continue  # it contains a group that is wrong or part of a circle, which is reported already
        leaves, twice = analyses_below(members[name], known, within)
        messages = [*_unaddable([known[leaf] for leaf in leaves]), *counted_twice([known[leaf] for leaf in leaves])]
        if twice:
            messages.insert(0, f"{_some(twice)} would be counted twice, directly or through another group")
        for message in messages:
            yield BrokenRule("groupings", groups[name][0], "members", message)
        if not messages:
            within[name] = leaves


def _reference_findings(
    analyses: Mapping[str, Fields], groups: Mapping[str, object], groupings: Table
) -> Iterator[BrokenRule]:
    analysis_by_key = {name.casefold(): name for name in analyses}
    for row, fields in groupings.items():
        same = analysis_by_key.get(fields.get("name", "").casefold())
        if same is not None:
            yield BrokenRule("groupings", row, "name", f"{quoted(same)} is already the name of an analysis")
        for member in fields.get("members", ()):
            if analyses and member not in analyses and member not in groups:
                message = f"there is no analysis or group {quoted(member)}{suggestion(member, [*analyses, *groups])}"
                yield BrokenRule("groupings", row, "members", message)


def _notebook_findings(notebooks: Table) -> Iterator[BrokenRule]:
    known = _by_name(notebooks)
    for row, fields in notebooks.items():
        for name in fields.get("after", ()):
            if name not in known:
                yield BrokenRule(
                    "notebooks", row, "after", f"there is no notebook {quoted(name)}{suggestion(name, known)}"
                )
            elif fields.get("stage") == NotebookStage.PROCESS and known[name][1].get("stage") == NotebookStage.REPORT:
                message = (
                    f"{quoted(name)} runs in the stage report, which comes later; leave it out, or move one of them"
                )
                yield BrokenRule("notebooks", row, "after", message)
    _, circles = members_first({name: fields.get("after", ()) for name, (_, fields) in known.items()})
    for circle in circles:
        message = f"the notebook waits for itself: {' → '.join(circle)}; take one of them out"
        yield BrokenRule("notebooks", known[circle[0]][0], "after", message)


def members_first(members: Mapping[str, Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Order groups so that each comes after those it contains.

    Args:
        members: the members of each group; a name that is not a key is an analysis.

    Returns:
        The groups in order, and the circles among them, each with its first name repeated at the end.
    """
    order: list[str] = []
    circles: list[list[str]] = []
    done: set[str] = set()
    for start in members:
        if start in done:
            continue
        path = {start: iter(members[start])}
        while path:
            group, remaining = next(reversed(path.items()))
            child = next((member for member in remaining if member in members and member not in done), None)
            if child is None:
                path.popitem()
                done.add(group)
                order.append(group)
            elif child in path:
                names = list(path)
                circles.append([*names[names.index(child) :], child])
            else:
                path[child] = iter(members[child])
    return order, circles


def analyses_below(
    members: Sequence[str], analyses: Mapping[str, object], within: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], list[str]]:
    """The analyses that ``members`` contain, directly or through groups, and those contained more than once.

    Args:
        members: analyses and groups.
        analyses: all analyses by name.
        within: the analyses in each group that ``members`` may contain.
    """
    leaves: dict[str, None] = {}
    twice: dict[str, None] = {}
    for member in members:
        for leaf in (member,) if member in analyses else within.get(member, ()):
            if leaf in leaves:
                twice[leaf] = None
            leaves[leaf] = None
    return tuple(leaves), list(twice)


def _unaddable(analyses: Sequence[Fields]) -> Iterator[str]:
    """Why the losses of these analyses cannot be added up year by year."""
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    modelled: list[Fields] = []
    for item in analyses:
        declaration = engines.declared(item)
        if declaration is None:  # its cell is broken, which is reported already
            continue
        if declaration.in_groups is None:
            reasons[f"{declaration.name} has no simulated years, so it cannot be part of a group"].append(item["name"])
            continue
        modelled.append(item)
        for reason in declaration.in_groups(item):
            reasons[reason].append(item["name"])
    for reason, names in reasons.items():
        yield f"{_some(names)}: {reason}"
    samples = sorted({item["samples"] for item in modelled if item.get("samples")})
    if len(samples) > 1:
        yield f"the members have different numbers of samples ({', '.join(map(str, samples))}); give all the same"
    perspectives = [set(item["perspectives"]) for item in modelled if item.get("perspectives")]
    if perspectives and not set.intersection(*perspectives):
        yield "the members have no perspective in common, so there is nothing to add up"


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(quoted(name) for name in names[:_LISTED_NAMES])
    return listed if len(names) <= _LISTED_NAMES else f"{listed} and {len(names) - _LISTED_NAMES} more"


def findings_on_disk(
    tables: Mapping[str, Table | None],
    data_dir: Path,
    models_dir: Path | None,
    notebooks_dir: Path | None = None,
) -> Iterator[BrokenRule]:
    """Files and models that are missing or outside their folder, except for paths that are wrong in themselves.

    Args:
        tables: as for :func:`findings_between_rows`.
        data_dir: the data folder.
        models_dir: the models folder, if there is one.
        notebooks_dir: the notebooks folder, if there is one.
    """
    for row, fields in (tables["notebooks"] or {}).items():
        if "notebook" in fields and (problem := _notebook_problem(fields["notebook"], data_dir, notebooks_dir)):
            yield BrokenRule("notebooks", row, "notebook", problem)
    for row, files in (tables["portfolios"] or {}).items():
        if files.get("source") in {PortfolioSource.CSV, PortfolioSource.PARQUET}:
            for column, problem in _portfolio_files(files, data_dir):
                yield BrokenRule("portfolios", row, column, problem)
        elif files.get("source") == PortfolioSource.SQL and "parameters" in files:
            for column, problem in sql_file_problems(files, data_dir):
                if not table_problem(PortfolioSource.SQL, files[column]):
                    yield BrokenRule("portfolios", row, column, problem)
    folders = Folders(data_dir, models_dir)
    portfolios = _by_name(tables["portfolios"] or {})
    for row, analysis in (tables["analyses"] or {}).items():
        portfolio = portfolios.get(analysis.get("portfolio", ""))
        missing = () if portfolio is None else _missing_with_files(analysis, portfolio[1], folders)
        for column, message in chain(engines.checks(analysis, folders), missing):
            yield BrokenRule("analyses", row, column, message)


def _notebook_problem(path: str, data_dir: Path, notebooks_dir: Path | None) -> str | None:
    """Why a path is not a notebook on this machine; None if it is one."""
    try:
        found = Folders(data_dir, notebooks_dir).find(path)
    except WorkbookError as error:
        return str(error)
    return None if found.is_file() else f"{quoted(path)} is a folder; name the notebook in it"


def _missing_with_files(analysis: Fields, portfolio: Fields, folders: Folders) -> Iterator[tuple[str, str]]:
    """The missing tables that an analysis needs only according to its files, such as its model."""
    told = set(missing_tables(analysis, portfolio))
    try:
        yield from (found for found in missing_tables(analysis, portfolio, folders) if found not in told)
    except WorkbookError:  # a file does not exist, which the checks of the engine report
        return


def _portfolio_files(portfolio: Fields, data_dir: Path) -> Iterator[tuple[str, str]]:
    for column in OedTable:
        path = portfolio.get(column)
        if path and not table_problem(portfolio["source"], path) and (problem := file_problem(data_dir, path)):
            yield column.value, problem
