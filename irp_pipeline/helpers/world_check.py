"""Checks of jobs against the world before any of them is submitted: all problems at once.

The checks of the workbook say whether a job makes sense. These say whether its engine could run it now: whether the
model, the program or the server are there. Each engine that has such checks makes them itself
(:class:`irp_pipeline.engines.protocol.CheckingEngine`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from irp_pipeline.engines import CheckingEngine, UnknownEngineError
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.batch_of_jobs import engine_of, require_open_batch
from irp_pipeline.helpers.handover import requests_of, select_jobs
from irp_pipeline.storable import one_line

_NAMES_SHOWN: Final = 5
_LONGEST_PROBLEM: Final = 1000


class NotReadyError(IrpError):
    """Jobs cannot run as the world is now; ``problems`` lists why."""

    def __init__(self, message: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(message)
        self.problems = problems


@dataclass(frozen=True)
class Problem:
    """Something that keeps jobs from running.

    Attributes:
        engine: the risk engine that says so; None: it was found before an engine was asked.
        message: what is wrong and what to do, in one line.
        jobs: the names of the jobs.
    """

    engine: str | None
    message: str
    jobs: tuple[str, ...]

    def __str__(self) -> str:
        named = ", ".join(self.jobs[:_NAMES_SHOWN])
        more = f" and {len(self.jobs) - _NAMES_SHOWN} more" if len(self.jobs) > _NAMES_SHOWN else ""
        source = "" if self.engine is None else f"{self.engine}: "
        return f"{source}{self.message} (needed by {_counted(len(self.jobs))}: {named}{more})"


def check_batches(batch_ids: Collection[int]) -> None:
    """Let the engines check all jobs of batches that wait to be handed over, before any of them is.

    A job whose request cannot be made is left out: its handover says why, and does not stop the others.

    Args:
        batch_ids: the batches.

    Raises:
        NotReadyError: there are problems; the message has all of them, each once, with the jobs that it concerns.
        BatchError: there is no such batch.
        CycleError: its cycle is archived.
    """
    problems: list[Problem] = []
    for batch_id in batch_ids:
        batch = require_open_batch(batch_id)
        waiting = select_jobs(batch_id, "j.status = 'INITIATED'", None)
        parameters = {job.id: job.job_configuration_data for job in waiting}
        requests, _ = requests_of(batch, parameters)
        problems += problems_of(batch.cycle_name, parameters, requests)
    if problems:
        raise NotReadyError(
            "\n".join(
                [
                    "Nothing was submitted, since jobs could not run as things are now:",
                    *(f"- {problem}" for problem in problems),
                ]
            ),
            tuple(problems),
        )


def problems_of(
    cycle_name: str, parameters: Mapping[int, Mapping[str, Any]], requests: Mapping[int, Mapping[str, Any]]
) -> list[Problem]:
    """Ask the engines what keeps jobs from running now.

    One object of each engine is asked about all of its jobs, so that it can remember what it has looked at.

    Args:
        cycle_name: the cycle of the jobs.
        parameters: those of each job, by its id.
        requests: those of the jobs that have one.

    Returns:
        The problems, each once.
    """
    found: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    of_engines: defaultdict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for job_id, of_job in parameters.items():
        of_engines[str(of_job.get("engine"))][job_id] = of_job
    for name, jobs in of_engines.items():
        try:
            engine = engine_of(cycle_name, next(iter(jobs.values())))
        except UnknownEngineError as error:
            found[name, str(error)] = dict.fromkeys(str(of_job.get("name")) for of_job in jobs.values())
            continue
        if not isinstance(engine, CheckingEngine):
            continue
        for job_id in filter(requests.__contains__, jobs):
            for message in _problems(engine, requests[job_id]):
                found[name, one_line(str(message), _LONGEST_PROBLEM)][str(jobs[job_id].get("name"))] = None
    return [Problem(engine, message, tuple(names)) for (engine, message), names in found.items()]


def _problems(engine: CheckingEngine, request: Mapping[str, Any]) -> Iterable[str]:
    try:
        return list(engine.check(request))
    except IrpError as error:
        return [str(error)]
    except Exception as error:
        return [f"its check of jobs failed, which is a mistake in that engine: {type(error).__name__}: {error}"]


def _counted(jobs: int) -> str:
    return f"{jobs} job" if jobs == 1 else f"{jobs} jobs"
