"""Reading the two sides of a comparison: a fixed number of statements for each, however many figures there are.

Figures come as columns, through a file that is not in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.helpers.comparison.choosing import Chosen
from irp_pipeline.helpers.comparison.sides import Compared, Side, Source
from irp_pipeline.helpers.portfolio_facts import facts_of
from irp_pipeline.postgres.running import copy_out, fetch_all, fetch_one
from irp_pipeline.vocabulary import Metric

if TYPE_CHECKING:
    import pandas as pd

_LEADING: Final = (Metric.AAL, Metric.LOSS)
_WORDS: Final = ("analysis_name", "segment_by", "segment", "perspective", "metric", "currency")
_NUMBERS: Final = ("return_period", "loss_factor", "loss")


def read_side(chosen: Chosen, label: str) -> Side:
    """Read what a side of a comparison is, without its figures.

    Args:
        chosen: the batch.
        label: how the side is called.
    """
    configuration = fetch_one(
        """
        SELECT f.configuration_data -> 'portfolios' AS portfolios
          FROM irp_batch b JOIN irp_configuration f ON f.id = b.configuration_id WHERE b.id = %s
        """,
        (chosen.batch_id,),
    )
    output = _output(chosen.cycle_id)
    names = [str(portfolio["name"]) for portfolio in (configuration or {}).get("portfolios") or ()]
    return Side(
        cycle_name=chosen.cycle_name,
        label=label,
        batch_id=chosen.batch_id,
        exposure_date=chosen.exposure_date,
        portfolios={name: facts_of(name, output) for name in names},
        subjects=_subjects(chosen.batch_id),
    )


def read_figures(batch_id: int, analysis: str | None = None, *, only_leading_of_segments: bool = False) -> pd.DataFrame:
    """Read the saved figures of a batch as columns.

    Args:
        batch_id: the batch.
        analysis: only those of this analysis or group.
        only_leading_of_segments: of segments only the average annual loss and losses at loss factors.

    Returns:
        What :func:`~irp_pipeline.helpers.comparison.figures.compare_figures` takes.
    """
    import pyarrow as pa
    import pyarrow.csv

    conditions, values = ["r.batch_id = %s"], [batch_id]
    if analysis is not None:
        conditions.append("r.analysis_name = %s")
        values.append(analysis)  # type: ignore[arg-type]
    if only_leading_of_segments:
        conditions.append("(r.segment_by = '{}' OR r.metric = ANY (%s))")
        values.append(list(_LEADING))  # type: ignore[arg-type]
    with TemporaryFile() as file:
        copy_out(
            f"""
            SELECT r.analysis_name, r.is_group::int AS is_group, r.segment_by, r.segment, r.perspective, r.metric,
                   r.return_period, r.loss_factor, r.loss, r.currency
              FROM irp_analysis_result r WHERE {" AND ".join(conditions)}
            """,  # noqa: S608
            values,
            file,
        )
        file.seek(0)
        word = pa.dictionary(pa.int32(), pa.string())
        table = pyarrow.csv.read_csv(
            file,
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(_WORDS, word)
                | {name: pa.float64() for name in _NUMBERS}
                | {"is_group": pa.int8()}
            ),
        )
    frame: pd.DataFrame = table.to_pandas(self_destruct=True)
    return frame


def _subjects(batch_id: int) -> dict[str, Compared]:
    """Return the analyses and groups that have figures, with the sources of these."""
    rows = fetch_all(
        """
        -- From one name to the next by the index, not through all figures.
        WITH RECURSIVE names (name) AS (
            SELECT min(analysis_name) FROM irp_analysis_result WHERE batch_id = %s AND segment_by = '{}'
            UNION ALL
            SELECT (SELECT min(r.analysis_name) FROM irp_analysis_result r
                     WHERE r.batch_id = %s AND r.segment_by = '{}' AND r.analysis_name > names.name)
              FROM names WHERE names.name IS NOT NULL)
        SELECT figure.*
          FROM names, LATERAL (SELECT r.analysis_name, r.is_group, r.currency, r.job_ids FROM irp_analysis_result r
                                WHERE r.batch_id = %s AND r.segment_by = '{}' AND r.analysis_name = names.name
                                LIMIT 1) figure
        """,
        (batch_id, batch_id, batch_id),
    )
    jobs = _sources({job_id for row in rows for job_id in row["job_ids"]})
    return {
        row["analysis_name"]: Compared(
            name=row["analysis_name"],
            is_group=row["is_group"],
            sources=tuple(jobs[job_id] for job_id in row["job_ids"] if job_id in jobs),
        )
        for row in rows
    }


def _sources(job_ids: Collection[int]) -> dict[int, Source]:
    """Return what is recorded of jobs, without their figures."""
    rows = fetch_all(
        """
        SELECT j.id, c.job_configuration_data AS parameters, j.request_data - '{analysis,inputs}'::text[] AS request,
               j.result_data ->> 'currency' AS currency, j.result_data -> 'provenance' AS provenance
          FROM irp_job j JOIN irp_job_configuration c ON c.id = j.job_configuration_id
         WHERE j.id = ANY (%s)
        """,
        (sorted(job_ids),),
    )
    return {
        row["id"]: Source(
            analysis=str(row["parameters"].get("name")),
            parameters=row["parameters"],
            request=row["request"] or {},
            currency=str(row["currency"]),
            provenance=row["provenance"] if isinstance(row["provenance"], Mapping) else {},
        )
        for row in rows
    }


def _output(cycle_id: int) -> dict[str, Any]:
    """Return the combined output data of the newest run of each step."""
    rows = fetch_all(
        """
        SELECT newest.output_data
          FROM irp_stage sg JOIN irp_step st ON st.stage_id = sg.id,
               LATERAL (SELECT r.status, r.output_data FROM irp_step_run r
                         WHERE r.step_id = st.id ORDER BY r.run_num DESC LIMIT 1) newest
         WHERE sg.cycle_id = %s AND newest.status IN ('COMPLETED', 'SKIPPED')
         ORDER BY sg.stage_num, st.step_num
        """,
        (cycle_id,),
    )
    found: defaultdict[str, Any] = defaultdict()
    for row in rows:
        if isinstance(row["output_data"], dict):
            found |= row["output_data"]
    return dict(found)
