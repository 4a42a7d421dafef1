"""What-ifs in the answer of ``irp results``: each beside its base."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from irp_pipeline.cli import output

if TYPE_CHECKING:
    from irp_pipeline.helpers.result import WhatIf


def show_what_ifs(what_ifs: Iterable[WhatIf], return_periods: Collection[float]) -> None:
    """Print the table of what-ifs, and what each differs in; nothing if there are none.

    Args:
        what_ifs: the what-ifs.
        return_periods: the return periods to show, in years.
    """
    found = list(what_ifs)
    if rows := [row for item in found for row in _rows(item, return_periods)]:
        titles = ("What-if", "Base", "Figure", "Losses", "Currency", "Of base", "Of what-if", "Difference", "Relative")
        output.print_table(titles, rows)
    for item in found:
        differs = "; ".join(f"{of.name}: {of.of_base} → {of.own}" for of in item.parameters) or "nothing"
        missing = f"; no difference, since {item.missing}" if item.missing else ""
        output.print_note(f"{item.name} differs from {item.base} in {differs}{missing}")


def _rows(item: WhatIf, return_periods: Collection[float]) -> Iterator[tuple[object, ...]]:
    from irp_pipeline.report.what_if import relative, words_of

    for difference in item.differences:
        figure = difference.figure
        if figure.is_whole and (figure.return_period is None or figure.return_period in return_periods):
            yield (
                item.name,
                item.base,
                words_of(figure),
                figure.perspective.value,
                item.currency,
                difference.base_loss,
                figure.loss,
                difference.amount,
                relative(difference),
            )
