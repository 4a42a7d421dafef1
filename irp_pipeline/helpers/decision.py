"""Whether a step has anything to do: decided by content, and explained in one sentence.

A step is skipped if its newest work completed with the same inputs, and its output is still as recorded: its files on
this machine, its records in the database. It does not matter who asks, where, or how many runs failed before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from irp_pipeline import hashes, settings
from irp_pipeline.helpers.artefact import Artefact, artefact_of_row, first_difference
from irp_pipeline.helpers.constants import StepStatus
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.postgres.running import fetch_all, fetch_one

Records = Callable[[], Mapping[str, Any]]

_NEVER_RAN: Final = "it has not run before"
_LONGEST_KEPT: Final = 80
_SHOWN: Final = 12
_HEXADECIMAL: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Verdict:
    """Whether a step would run now.

    Attributes:
        cycle_name: the cycle of the step.
        newest_id: the newest tracked run that is not SKIPPED; None if there is none.
        newest_num: its number.
        newest_status: its status.
        skip: whether there is nothing to do.
        reason: why it runs, or why it is skipped, as a sentence without its full stop.
    """

    cycle_name: str
    newest_id: int | None
    newest_num: int | None
    newest_status: StepStatus | None
    skip: bool
    reason: str

    @classmethod
    def never_ran(cls, cycle_name: str) -> Verdict:
        """Return the verdict on a step without any run."""
        return cls(cycle_name, None, None, None, False, _NEVER_RAN)


def kept_inputs(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return inputs as they are recorded: short text unchanged, anything else as its hash.

    Args:
        inputs: plain data by the name of the input.
    """
    return {
        name: value if isinstance(value, str) and len(value) <= _LONGEST_KEPT else hashes.value_hash(value)
        for name, value in inputs.items()
    }


def fingerprint_of(inputs: Mapping[str, Any]) -> str:
    """Return one hash of all inputs of a step."""
    return hashes.value_hash(kept_inputs(inputs))


def decide(
    step_id: int,
    fingerprint: str | None,
    inputs: Mapping[str, Any] | None = None,
    *,
    rerun: bool = False,
    records: Records | None = None,
    pending: str | None = None,
) -> Verdict | None:
    """Say whether a step has anything to do, without doing it.

    Args:
        step_id: the step.
        fingerprint: a hash of everything that the result depends on.
        inputs: the same, input by input, to say which one changed.
        rerun: whether it must run in any case.
        records: returns the content of the records that the step keeps in the database, as they are now.
        pending: work that waits to be done, whatever was done before.

    Returns:
        The verdict; None if there is no such step. It does not judge an ACTIVE run.
    """
    row = fetch_one(
        """
        SELECT c.cycle_name, r.id, r.run_num, r.status, r.input_hash, r.inputs, r.records,
               (SELECT jsonb_agg(to_jsonb(a)) FROM irp_artefact a WHERE a.step_run_id = r.id) AS artefacts
          FROM irp_step st
          JOIN irp_stage sg ON sg.id = st.stage_id
          JOIN irp_cycle c ON c.id = sg.cycle_id
          LEFT JOIN LATERAL (SELECT * FROM irp_step_run
                              WHERE step_id = st.id AND tracked AND status <> 'SKIPPED'
                              ORDER BY run_num DESC LIMIT 1) r ON true
         WHERE st.id = %s
        """,
        (step_id,),
    )
    if row is None:
        return None
    if row["id"] is None:
        return Verdict.never_ran(row["cycle_name"])
    newest = _Work(
        id=row["id"],
        run_num=row["run_num"],
        status=StepStatus(row["status"]),
        input_hash=row["input_hash"],
        inputs=row["inputs"],
        records=row["records"] or {},
        artefacts=tuple(artefact_of_row(artefact) for artefact in row["artefacts"] or ()),
    )
    why = _why_it_runs(newest, row["cycle_name"], fingerprint, inputs, rerun, records, pending)
    skipped = f"run {newest.run_num} did the work, and what it read and wrote is unchanged"
    return Verdict(row["cycle_name"], newest.id, newest.run_num, newest.status, why is None, why or skipped)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """The newest tracked run of a step that is not SKIPPED: what it read and wrote."""

    id: int
    run_num: int
    status: StepStatus
    input_hash: str | None
    inputs: Mapping[str, str] | None
    records: Mapping[str, str]
    artefacts: tuple[Artefact, ...]


def _why_it_runs(
    newest: _Work,
    cycle_name: str,
    fingerprint: str | None,
    inputs: Mapping[str, Any] | None,
    rerun: bool,
    records: Records | None,
    pending: str | None,
) -> str | None:
    run = f"run {newest.run_num}"
    if newest.status is StepStatus.FAILED:
        return f"{run} failed"
    if newest.status is not StepStatus.COMPLETED:
        return f"{run} did not end"
    if rerun:
        return "it was asked to run again"
    if newest.input_hash != fingerprint:
        return _changed(newest.inputs, inputs, run)
    if newest.artefacts:
        folder = settings.cycle_dir(get_current_schema(), cycle_name)
        if (differs := first_difference(folder, newest.artefacts)) is not None:
            return differs
    if records is not None:
        now = kept_inputs(records())
        for name in sorted(now):
            if newest.records.get(name) != now[name]:
                return f"the records of {run} are not as it left them ({name})"
    return pending


def _changed(before: Mapping[str, str] | None, inputs: Mapping[str, Any] | None, run: str) -> str:
    if before is None or inputs is None:
        return f"its inputs differ from those of {run}"
    return "; ".join(changed_inputs(before, kept_inputs(inputs))) or f"its inputs differ from those of {run}"


def changed_inputs(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Say how each input that differs has changed.

    Args:
        before: recorded inputs by name.
        now: the inputs now, as :func:`kept_inputs` returns them.
    """
    for name in sorted({*before, *now}):
        if name not in now:
            yield f"{name} is gone"
        elif name not in before:
            yield f"{name} is new"
        elif before[name] != now[name]:
            yield f"{name} changed from {short(before[name])} to {short(now[name])}"


def short(value: str) -> str:
    """Return an input for people to read: the beginning of a hash, any other text unchanged."""
    return value[:_SHOWN] if len(value) == 64 and set(value) <= _HEXADECIMAL else value


def outputs_of_steps(cycle_id: int) -> dict[str, str]:
    """Return a hash of the output of each keyed step of a cycle, by the key of the step.

    Args:
        cycle_id: the cycle.

    Returns:
        The output hash of its newest completed run; ``run <number>`` where that run declared no outputs.
    """
    rows = fetch_all(
        """
        SELECT st.step_key, done.output_hash, done.run_num
          FROM irp_stage sg
          JOIN irp_step st ON st.stage_id = sg.id
          JOIN LATERAL (
                SELECT output_hash, run_num FROM irp_step_run
                 WHERE step_id = st.id AND tracked AND status = 'COMPLETED' ORDER BY run_num DESC LIMIT 1) done ON true
         WHERE sg.cycle_id = %s AND st.step_key IS NOT NULL
        """,
        (cycle_id,),
    )
    return {row["step_key"]: row["output_hash"] or f"run {row['run_num']}" for row in rows}
