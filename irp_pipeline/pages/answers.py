"""The answers to requests: what each page reads, and which template shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from irp_pipeline import settings, store
from irp_pipeline.cycle_files import REPORT, REPORT_PAGE, report_of
from irp_pipeline.engines import EngineError
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.artefact import ArtefactError, list_artefacts, read_artefact
from irp_pipeline.helpers.batch_lookup import Batch, find_batch
from irp_pipeline.helpers.comparison import ComparisonError
from irp_pipeline.helpers.comparison.choosing import choose, choose_before, with_figures
from irp_pipeline.helpers.constants import CycleStatus, JobStatus
from irp_pipeline.helpers.cycle_lookup import Cycle, CycleError, check_cycle_name, find_cycle
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.helpers.job import job_log
from irp_pipeline.helpers.job_lookup import JobInCycle, find_job, history_of_job
from irp_pipeline.helpers.sanity import find_recorded_check
from irp_pipeline.pages import figures
from irp_pipeline.pages.addresses import Addresses
from irp_pipeline.pages.curves import draw
from irp_pipeline.pages.cycles import newest_cycles, steps_of_cycle
from irp_pipeline.pages.jobs import jobs_after, newest_batches
from irp_pipeline.pages.next_action import batch_to_act_on, next_action
from irp_pipeline.pages.rendering import render, style
from irp_pipeline.pages.sign_off import sign_off_in_words
from irp_pipeline.postgres.running import execute_command, transaction
from irp_pipeline.postgres.schemas import list_initialised_schemas
from irp_pipeline.vocabulary import USUAL_RETURN_PERIODS, Metric

ROWS: Final = 50
"""Rows of a list on one page."""
SUBJECTS: Final = 25
"""Analyses and groups on one page of results."""
_BATCHES: Final = 20
_SCHEMAS: Final = 500
_JOBS_IN_HISTORY: Final = 50
_FINDINGS: Final = 20
_STATEMENT_LIMIT: Final = "SET LOCAL statement_timeout TO '10s'"
_LARGEST_ID: Final = 2**63 - 1
_TEXT: Final = 200
"""Characters of a filter."""
_OF_REPORT: Final = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts"
)
"""The report's own policy lets only its own scripts run, by a nonce. Without ``allow-same-origin`` it has an origin of
its own: whatever is in the file, it cannot use Dagster's UI."""

_T = TypeVar("_T")


class PageError(IrpError):
    """A page cannot be shown.

    Attributes:
        status: of the response.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        request: what came.
        at: the addresses of the pages of its schema.
        schema: its schema.
    """

    request: Request
    at: Addresses
    schema: str = field(default_factory=get_current_schema)

    def text(self, name: str) -> str:
        """Return a text of the query; empty if there is none.

        Raises:
            PageError: no name contains this text.
        """
        value = self.request.query_params.get(name, "").strip()
        if len(value) > _TEXT or "\0" in value:
            raise PageError(400, f"The value of {name} in this address has a character or a length that no name has.")
        return value

    def number(self, name: str) -> int | None:
        """Return a number of the query; None if there is none.

        Raises:
            PageError: it is not the number of anything.
        """
        value = self.text(name)
        if not value:
            return None
        if not (value.isascii() and value.isdecimal() and int(value) <= _LARGEST_ID):
            raise PageError(400, f"The value of {name} in this address is not a number.")
        return int(value)

    def one_of(self, name: str, possible: type[JobStatus] | type[CycleStatus]) -> str:
        """Return a word of the query from a list; empty if there is none.

        Raises:
            PageError: it is not in the list.
        """
        value = self.text(name).upper()
        if value and value not in set(possible):
            raise PageError(400, f"The value of {name} in this address is none of {', '.join(possible)}.")
        return value

    @property
    def id(self) -> int:
        """The id in the path.

        Raises:
            PageError: nothing has such an id.
        """
        found = int(self.request.path_params["id"])
        if not 0 < found <= _LARGEST_ID:
            raise PageError(404, f"Nothing has the number {found}.")
        return found

    def cycle(self) -> Cycle:
        """Return the cycle in the path.

        Raises:
            PageError: there is no such cycle.
        """
        name = self.request.path_params["cycle"]
        try:
            found = find_cycle(check_cycle_name(name))
        except CycleError as error:
            raise PageError(404, str(error)) from error
        if found is None:
            raise PageError(404, f"There is no cycle {name!r} in schema {self.schema!r}.")
        return found

    def page(self, template: str, **values: Any) -> HTMLResponse:
        """Return a page."""
        return HTMLResponse(render(template, at=self.at, schema=self.schema, **values))


def answer(make: Callable[[Asked], Response]) -> Callable[[Request], Response]:
    """Return the endpoint of a page, which works in the schema that the request names, else in the UI's own."""

    def endpoint(request: Request) -> Response:
        named = request.query_params.get("schema") or None
        if named is not None and named not in list_initialised_schemas():
            raise PageError(404, "There is no schema of this name, or it has no cycles.")
        with schema_context(named or get_current_schema()):
            return make(Asked(request, Addresses(named)))

    return endpoint


def cycles(asked: Asked) -> Response:
    """Show the cycles, the newest first."""
    name, status, after = asked.text("name"), asked.one_of("status", CycleStatus), asked.number("after")
    with _reading():
        found = newest_cycles(ROWS + 1, status=status, name=name, after=after)
    shown, more = _first(found, ROWS)
    return asked.page(
        "cycles",
        cycles=shown,
        name=name,
        status=status,
        statuses=list(CycleStatus),
        is_first=after is None,
        further=asked.at.cycles(name=name, status=status, after=shown[-1].id) if more else None,
    )


def cycle(asked: Asked) -> Response:
    """Show a cycle: what to do next, its stages and steps, its batches, and what was found about its losses."""
    with _reading():
        found = asked.cycle()
        steps = steps_of_cycle(found.id)
        batches, more = _first(newest_batches(found.id, _BATCHES + 1), _BATCHES)
        has_figures = with_figures(found) is not None
        losses = find_recorded_check(found.id)
        has_report = REPORT_PAGE in {Path(key).name for key in list_artefacts(found.id, REPORT)}
    signed = sign_off_in_words(found) if has_figures else None
    has_report = has_report or report_of(settings.cycle_dir(asked.schema, found.cycle_name)).is_file()
    action = next_action(found, asked.schema, steps, batch_to_act_on(batches), has_figures=has_figures)
    return asked.page(
        "cycle",
        cycle=found,
        steps=steps,
        batches=batches,
        more_batches=more,
        signed=signed,
        has_figures=has_figures,
        has_report=has_report,
        losses=losses,
        most_findings=_FINDINGS,
        action=action,
    )


def batch(asked: Asked) -> Response:
    """Show a batch with its jobs."""
    status, analysis, after = asked.one_of("status", JobStatus), asked.text("analysis"), asked.number("after")
    with _reading():
        found = _found_batch(asked)
        jobs = jobs_after(found.id, ROWS + 1, status=status, analysis=analysis, after=after or 0)
    shown, more = _first(jobs, ROWS)
    return asked.page(
        "batch",
        batch=found,
        jobs=shown,
        status=status,
        statuses=list(JobStatus),
        analysis=analysis,
        is_first=after is None,
        further=asked.at.batch(found.id, status=status, analysis=analysis, after=shown[-1].id) if more else None,
    )


def job(asked: Asked) -> Response:
    """Show a job: its parameters, its history, its error, and the end of its log."""
    with _reading():
        found = _found_job(asked)
        history = history_of_job(found.id)
    entries = [(one.job.id, entry) for one in history[-_JOBS_IN_HISTORY:] for entry in one.tracking]
    return asked.page(
        "job",
        job=found,
        entries=entries,
        others=[one.job.id for one in history if one.job.id != found.id][-_JOBS_IN_HISTORY:],
    )


def log(asked: Asked) -> Response:
    """Show what the risk engine printed for a job; only the end of a long log."""
    with _reading():
        found = _found_job(asked)
    try:
        text, problem = job_log(found.id), None
    except (EngineError, store.StoreError, OSError) as error:
        text, problem = "", f"The log cannot be read here: {error}"
    return asked.page("log", job=found, text=text, problem=problem)


def results(asked: Asked) -> Response:
    """Show the figures of a cycle: a list of analyses and groups, or one of them, perhaps by segment."""
    name, by = asked.text("analysis"), asked.text("by")
    signed = None if asked.text("batch") else sign_off_in_words(asked.cycle())
    with _reading():
        found = asked.cycle()
        batch_id = asked.number("batch") or _batch_with_figures(found)
        if batch_id is not None and asked.number("batch") is not None:
            batch_id = _or_404(lambda: choose(found, batch_id).batch_id)
        if batch_id is None:
            return asked.page("results", cycle=found, batch_id=None, subjects=[], further=None, is_first=True)
        if name:
            return _results_of_one(asked, found, batch_id, name, by, signed)
        after = asked.text("after")
        names, more = _first(figures.names_after([batch_id], SUBJECTS + 1, after), SUBJECTS)
        subjects = list(figures.read_subjects(batch_id, names).values())
    return asked.page(
        "results",
        cycle=found,
        signed=signed,
        batch_id=batch_id,
        subjects=subjects,
        columns=_columns(subjects),
        is_first=not after,
        further=asked.at.results(found.cycle_name, batch=asked.number("batch"), after=names[-1]) if more else None,
    )


def _results_of_one(asked: Asked, cycle: Cycle, batch_id: int, name: str, by: str, signed: str | None) -> Response:
    subject = figures.read_subjects(batch_id, [name], whole=True).get(name)
    if subject is None:
        raise PageError(404, f"Batch {batch_id} has no figures of {name!r}.")
    kinds = {"+".join(fields): fields for fields in figures.segment_fields(batch_id, name)}
    segments: list[figures.Subject] = []
    further = None
    if by:
        if by not in kinds:
            raise PageError(404, f"{name} has no figures by {by}.")
        after = tuple(asked.request.query_params.getlist("after"))
        if any("\0" in value for value in after):
            raise PageError(400, "The value of after in this address has a character that no name has.")
        keys, more = _first(figures.segments_after(batch_id, kinds[by], name, ROWS + 1, after), ROWS)
        segments = figures.read_segments(batch_id, kinds[by], name, keys)
        if more:
            further = asked.at.results(
                cycle.cycle_name, batch=asked.number("batch"), analysis=name, by=by, after=keys[-1]
            )
    return asked.page(
        "analysis",
        signed=signed,
        cycle=cycle,
        batch_id=batch_id,
        chosen_batch=asked.number("batch"),
        subject=subject,
        drawing=draw(subject),
        kinds=list(kinds),
        by=by,
        segments=segments,
        columns=_columns(segments),
        further=further,
    )


def comparison(asked: Asked) -> Response:
    """Show the main figures of a cycle beside those of an earlier one."""
    other, after = asked.text("with"), asked.text("after")
    with _reading():
        found = asked.cycle()
        try:
            later = choose(found)
            earlier, reason = choose_before(later, found, other or None)
            if earlier.batch_id == later.batch_id:
                raise ComparisonError(f"{found.cycle_name} cannot be compared with itself: name another cycle")
        except ComparisonError as error:
            return asked.page("comparison", cycle=found, other=other, problem=str(error))
        names, more = _first(figures.names_after([later.batch_id, earlier.batch_id], SUBJECTS + 1, after), SUBJECTS)
        now, then = (figures.read_subjects(one.batch_id, names) for one in (later, earlier))
    return asked.page(
        "comparison",
        cycle=found,
        other=other,
        problem=None,
        earlier=earlier,
        reason=reason,
        names=names,
        now=now,
        then=then,
        columns=_columns([*now.values(), *then.values()]),
        is_first=not after,
        further=asked.at.comparison(found.cycle_name, **{"with": other, "after": names[-1]}) if more else None,
    )


def report(asked: Asked) -> Response:
    """Show the whole report of a cycle: the one that its step recorded, else the one that ``irp report`` wrote."""
    with _reading():
        found = asked.cycle()
        recorded = list_artefacts(found.id, REPORT).get(f"{REPORT}/{REPORT_PAGE}")
    folder = settings.cycle_dir(asked.schema, found.cycle_name)
    written, path = report_of(folder), None
    if recorded is not None:
        with suppress(ArtefactError, store.MissingFileError):
            path = read_artefact(found.cycle_name, recorded)
    if path is None and written.is_file():
        path = written
    if path is None or path.resolve() != report_of(folder.resolve()):  # not through a link to elsewhere
        raise PageError(
            404, f"There is no report of {found.cycle_name} here; to write one: irp report {found.cycle_name}"
        )
    headers = {"content-security-policy": _OF_REPORT}
    return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)


def schemas(asked: Asked) -> Response:
    """Show the schemas of the database that have cycles."""
    found, more = _first(list_initialised_schemas(), _SCHEMAS)
    own = Addresses() if asked.at.schema is None else None
    pages = [(name, own if own and name == asked.schema else Addresses(name)) for name in found]
    return asked.page("schemas", pages=pages, more=more)


def stylesheet(_: Request) -> Response:
    """Return the style of all pages."""
    return Response(style(), media_type="text/css", headers={"cache-control": "private, max-age=300"})


@contextmanager
def _reading() -> Iterator[None]:
    """Read in one snapshot that nothing can change, and not for long."""
    with transaction():
        execute_command("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        execute_command(_STATEMENT_LIMIT)
        yield


def _first(found: list[_T], most: int) -> tuple[list[_T], bool]:
    """Return the first of what was found, and whether there is more."""
    return found[:most], len(found) > most


def _found_batch(asked: Asked) -> Batch:
    found = find_batch(asked.id)
    if found is None:
        raise PageError(404, f"There is no batch with the id {asked.id} in schema {asked.schema!r}.")
    return found


def _found_job(asked: Asked) -> JobInCycle:
    found = find_job(asked.id, with_data=True)
    if found is None:
        raise PageError(404, f"There is no job with the id {asked.id} in schema {asked.schema!r}.")
    return found


def _batch_with_figures(cycle: Cycle) -> int | None:
    found = with_figures(cycle)
    return None if found is None else found.batch_id


def _or_404(find: Callable[[], _T]) -> _T:
    try:
        return find()
    except ComparisonError as error:
        raise PageError(404, str(error)) from error


def _columns(subjects: list[figures.Subject]) -> list[tuple[str, str, float | None]]:
    """Return the main figures that any of these has: title, metric, and return period or loss factor."""
    there = {(figure.metric, figure.return_period) for of in subjects for figure in of.figures}
    found: list[tuple[str, str, float | None]] = []
    if (Metric.AAL, None) in there:
        found.append(("AAL", Metric.AAL, None))
    for metric in (Metric.OEP, Metric.AEP):
        found += [
            (f"{metric} {years:,}", metric, float(years)) for years in USUAL_RETURN_PERIODS if (metric, years) in there
        ]
    factors = sorted({figure.loss_factor for of in subjects for figure in of.figures if figure.loss_factor is not None})
    return found + [(f"Loss at factor {factor:g}", Metric.LOSS, factor) for factor in factors[:4]]
