"""The picture of a run of a cycle: its stages, and where they read and write."""

from typing import Final

from irp_pipeline_docs.drawing import Box, Path, svg

STAGES: Final = {
    "Setup": ("read workbook,", "make jobs"),
    "Extract": ("copy exposure,", "compare totals"),
    "Process": ("check it,", "write OED files"),
    "Submit": ("hand jobs over", ""),
    "Monitor": ("follow jobs,", "add up groups"),
    "Report": ("export figures,", "write the page"),
}
"""What each stage does; a test compares the names with those of the pipeline."""

_WIDTH, _GAP, _LEFT = 132, 20, 10


def run_picture() -> str:
    """Return the picture."""
    places = {stage: _LEFT + number * (_WIDTH + _GAP) for number, stage in enumerate(STAGES)}
    middle = {stage: x + _WIDTH / 2 for stage, x in places.items()}
    boxes = [
        Box("run", 2, 92, 918, 122, "group", ("",)),
        Box("one Dagster run, one cycle, one schema", 240, 92, 280, 32, "label"),
        *(
            Box(stage, x, 125, _WIDTH, 78, "state", (f"{number} {stage}", *filter(None, STAGES[stage])))
            for number, (stage, x) in enumerate(places.items(), 1)
        ),
        Box("sources", places["Setup"], 10, 2 * _WIDTH + _GAP, 44, "store", ("workbook, exposure files, databases",)),
        Box("engine", places["Submit"], 10, 2 * _WIDTH + _GAP, 44, "store", ("risk engine",)),
        Box("files", places["Setup"], 290, 3 * _WIDTH + 2 * _GAP, 62, "store",
            ("files of the cycle", "extracts, portfolios, jobs, results, report")),
        Box("records", places["Submit"], 290, 3 * _WIDTH + 2 * _GAP, 62, "store",
            ("PostgreSQL, the schema of the run", "step runs, batches, jobs, hashes, figures")),
    ]  # fmt: skip
    files, records = places["Process"] + _WIDTH / 2, middle["Monitor"]
    paths = [
        *(
            Path(((places[left] + _WIDTH, 164), (places[right], 164)))
            for left, right in zip(list(STAGES)[:-1], list(STAGES)[1:], strict=True)
        ),
        Path(((middle["Setup"], 54), (middle["Setup"], 125)), ("read",), (middle["Setup"] + 28, 78)),
        Path(((middle["Extract"], 54), (middle["Extract"], 125)), ("read",), (middle["Extract"] + 28, 78)),
        Path(((middle["Submit"], 125), (middle["Submit"], 54)), ("requests",), (middle["Submit"] - 40, 78)),
        Path(((middle["Monitor"], 54), (middle["Monitor"], 125)), ("results",), (middle["Monitor"] + 36, 78)),
        Path(((files, 214), (files, 290)), ("publish, whole or not at all",), (files - 115, 255)),
        Path(((records, 214), (records, 290)), ("who, when, from what, with which result",), (records - 155, 255)),
    ]
    return svg("A run of a cycle: six stages between sources, risk engine, files and records", (924, 362), boxes, paths)
