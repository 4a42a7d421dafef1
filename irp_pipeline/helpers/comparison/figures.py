"""Figures: those of two sides matched by analysis or group, segment, perspective, metric and return period.

Pure: it works on two tables, and by columns, since there can be millions of figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.vocabulary import Metric, Perspective

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, Any]

WHOLE: Final = "{}"
"""The segment fields, and the segment, of a whole portfolio, as PostgreSQL writes an empty array."""

_TEXTS: Final = ("analysis_name", "segment_by", "segment", "perspective", "metric", "currency")
_NUMBERS: Final = ("return_period", "loss_factor")
_KEY: Final = ("analysis_name", "segment_by", "segment", "perspective", "metric", *_NUMBERS)
_NONE: Final = -1.0

_COMPARED, _CURRENCY, _NO_SUBJECT, _NO_LEVEL, _NO_SEGMENT, _NO_FIGURE = range(6)


def compare_figures(
    before: pd.DataFrame, after: pd.DataFrame, labels: tuple[str, str], differences: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Match the figures of two sides.

    Args:
        before: those of the earlier side: analysis_name, is_group, segment_by and segment (arrays as PostgreSQL writes
            them, ``{}`` for a whole portfolio), perspective, metric, return_period (years), loss_factor, loss,
            currency. No figure is there twice.
        after: those of the later side, likewise.
        labels: how the two sides are called.
        differences: in what else an analysis or group differs, by its name.

    Returns:
        A row for each figure of either side: analysis_name, is_group, segment_by and segment (joined by ``+``, empty
        for a whole portfolio), perspective, metric, return_period, loss_factor, currency_before, currency_after,
        before, after, change, relative_change (a share of before; missing if that is zero, or too small to divide by),
        not_compared (why there is no change; missing if there is one), differences (in words, empty if there are none).
        Whole portfolios come first. Analyses and groups, and the segments of each kind, are sorted by how much they
        move the total, those with losses at loss factors after those with averages. Those that cannot be compared come
        last, except what is on one side only, which moves the total by all it has.
    """
    import numpy as np
    import pandas as pd

    rows = _Rows(before, after)
    row_before, row_after = _matched(rows)
    there = np.where(row_after >= 0, row_after, row_before)
    codes = {name: of[there] for name, of in rows.codes.items()}
    loss_before, loss_after = (np.where(row >= 0, rows.loss[row], np.nan) for row in (row_before, row_after))
    items, item_there = _items(rows, there)
    reason, absent_after = _reasons(rows, codes, items, item_there, row_before, row_after)
    change = np.where(reason == _COMPARED, loss_after - loss_before, np.nan)
    weight, at_factors = _weights(rows, codes, items, reason, change, loss_before, loss_after)
    order = np.lexsort(
        (
            *(codes[name] for name in ("loss_factor", "return_period", "metric", "perspective", "segment")),
            *(codes["analysis_name"], np.where(np.isnan(weight), np.inf, -weight), at_factors, codes["segment_by"]),
        )
    )
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = change / loss_before
    relative = np.where(np.isfinite(share), share, np.nan)
    currency = {
        name: _categorical(np.where(row >= 0, rows.codes["currency"][row], -1)[order], rows.words["currency"])
        for name, row in (("currency_before", row_before), ("currency_after", row_after))
    }
    names = rows.words["analysis_name"]
    said = ["; ".join(differences.get(name, ())) for name in names]
    found = {
        **{
            name: _words(codes[name][order], [show(word) for word in rows.words[name]]) for name, show in _SHOWN.items()
        },
        **{name: rows.numbers[name][there][order] for name in _NUMBERS},
        **currency,
        "before": loss_before[order],
        "after": loss_after[order],
        "change": change[order],
        "relative_change": relative[order],
        "not_compared": _in_words(rows, codes, reason, absent_after, row_before, row_after, labels, order),
        "differences": _words(codes["analysis_name"][order], said),
    }
    table = pd.DataFrame(found, copy=False)
    table.insert(1, "is_group", rows.is_group[there][order])
    return table


class _Rows:
    """The rows of both sides, one below the other, with each column that identifies a figure as numbers.

    Attributes:
        split: how many rows are of the earlier side.
        codes: by column, for each row the position of its word or number among ``words``, or among all numbers.
        words: the words of a column, in the order in which they are sorted.
        numbers: return periods and loss factors; NaN where there is none.
        loss: the losses.
        is_group: whether the figure is of a group.
    """

    def __init__(self, before: pd.DataFrame, after: pd.DataFrame) -> None:
        import numpy as np
        from pandas.api.types import union_categoricals

        self.split = len(before)
        self.codes: dict[str, Array] = {}
        self.words: dict[str, list[str]] = {}
        self.numbers: dict[str, Array] = {}
        for name in _TEXTS:
            both = union_categoricals([side[name].astype("category") for side in (before, after)])
            words = [str(word) for word in both.categories]
            ranked = sorted(range(len(words)), key=lambda code, name=name, words=words: _ORDER[name](words[code]))  # type: ignore[misc]
            place = np.empty(len(words), np.int32)
            place[ranked] = np.arange(len(words))
            self.codes[name] = place[both.codes] if len(words) else np.zeros(0, np.int32)
            self.words[name] = [words[code] for code in ranked]
        for name in _NUMBERS:
            both_numbers = np.concatenate(
                [side[name].to_numpy(np.float64, na_value=np.nan) for side in (before, after)]
            )
            self.numbers[name] = both_numbers
            _, codes = np.unique(np.nan_to_num(both_numbers, nan=_NONE), return_inverse=True)
            self.codes[name] = codes.astype(np.int32)
        self.loss = np.concatenate([side["loss"].to_numpy(np.float64) for side in (before, after)])
        self.is_group = np.concatenate([side["is_group"].to_numpy(bool) for side in (before, after)])

    def key(self, names: Sequence[str]) -> Array:
        """Return one number for each row that is the same where these columns are."""
        import numpy as np

        key = np.zeros(len(self.loss), np.int64)
        for name in names:
            codes = self.codes[name]
            key = key * (int(codes.max(initial=0)) + 1) + codes
        return key


@dataclass(frozen=True)
class _ItemsThere:
    """On which sides a subject, a kind of its segments, and a segment are: an array for each side, by row."""

    subjects: tuple[Array, Array]
    levels: tuple[Array, Array]
    segments: tuple[Array, Array]


def _matched(rows: _Rows) -> tuple[Array, Array]:
    """Return the row of each different figure on both sides, -1 where it has none."""
    import numpy as np

    different, line = np.unique(rows.key(_KEY), return_inverse=True)
    row_before, row_after = (np.full(len(different), -1, np.int32) for _ in range(2))
    row_before[line[: rows.split]] = np.arange(rows.split)
    row_after[line[rows.split :]] = np.arange(rows.split, len(line))
    return row_before, row_after


def _items(rows: _Rows, there: Array) -> tuple[Array, _ItemsThere]:
    """Return the segment of each line as a number, and on which sides it is."""
    import numpy as np

    found = []
    item = np.zeros(0, np.int64)
    for names in (("analysis_name",), ("analysis_name", "segment_by"), ("analysis_name", "segment_by", "segment")):
        _, item = np.unique(rows.key(names), return_inverse=True)
        count = int(item.max(initial=-1)) + 1
        sides = (item[: rows.split], item[rows.split :])
        found.append(tuple((np.bincount(side, minlength=count) > 0)[item[there]] for side in sides))
    return item[there], _ItemsThere(*found)  # type: ignore[arg-type]


def _reasons(
    rows: _Rows, codes: Mapping[str, Array], items: Array, there: _ItemsThere, row_before: Array, row_after: Array
) -> tuple[Array, Array]:
    """Return why each line has no change, and whether it is the later side that lacks something."""
    import numpy as np

    absent_after = row_after < 0
    one_sided = absent_after | (row_before < 0)

    def lacks(sides: tuple[Array, Array]) -> Array:
        missing: Array = one_sided & ~np.where(absent_after, sides[1], sides[0])
        return missing

    currency = rows.codes["currency"]
    reason = np.full(len(row_before), _COMPARED, np.int8)
    reason[one_sided] = _NO_FIGURE
    reason[lacks(there.segments)] = _NO_SEGMENT
    reason[lacks(there.levels)] = _NO_LEVEL
    reason[lacks(there.subjects)] = _NO_SUBJECT
    reason[~one_sided & (currency[row_before] != currency[row_after])] = _CURRENCY
    return reason, absent_after


def _weights(
    rows: _Rows,
    codes: Mapping[str, Array],
    items: Array,
    reason: Array,
    change: Array,
    loss_before: Array,
    loss_after: Array,
) -> tuple[Array, Array]:
    """Return by how much the segment of each line moves the total, NaN if it cannot be told; and whether by a loss at a
    loss factor, which is not to be ranked among averages.

    It is the change of the average annual loss, or of the loss at the largest loss factor, in the perspective closest
    to the insurer.
    """
    import numpy as np

    metrics = rows.words["metric"]
    is_average, is_loss = (
        codes["metric"] == (metrics.index(metric) if metric in metrics else -1) for metric in (Metric.AAL, Metric.LOSS)
    )
    leading = np.flatnonzero(is_average | is_loss)
    order = leading[
        np.lexsort(
            (
                codes["loss_factor"][leading],
                codes["perspective"][leading],
                is_average[leading],
                reason[leading] == _COMPARED,
                items[leading],
            )
        )
    ]
    moved = np.where(
        np.isin(reason, (_NO_SUBJECT, _NO_SEGMENT)),
        np.abs(np.where(np.isnan(loss_after), loss_before, loss_after)),
        np.abs(change),
    )
    weight = np.full(int(items.max(initial=-1)) + 1, np.nan)
    weight[items[order]] = moved[order]  # the last of each item counts
    at_factors = np.zeros(len(weight), bool)
    at_factors[items[order]] = ~is_average[order]
    return weight[items], at_factors[items]


def _in_words(
    rows: _Rows,
    codes: Mapping[str, Array],
    reason: Array,
    absent_after: Array,
    row_before: Array,
    row_after: Array,
    labels: tuple[str, str],
    order: Array,
) -> pd.Categorical:
    """Return the reason of each line in words."""
    import numpy as np

    currency = rows.codes["currency"]
    detail = np.where(
        reason == _CURRENCY,
        currency[row_before] * len(rows.words["currency"]) + currency[row_after],
        np.where(reason == _NO_LEVEL, codes["segment_by"], 0),
    )
    width = int(detail.max(initial=0)) + 1
    different, line = np.unique((reason * 2 + absent_after) * width + detail, return_inverse=True)
    texts: list[str] = []
    place = np.full(len(different), -1, np.int32)
    for number, code in enumerate(different.tolist()):
        rest, of = divmod(code, width)
        kind, is_after = divmod(rest, 2)
        if kind == _COMPARED:
            continue
        text = _reason_text(rows, kind, of, labels[is_after], labels)
        if text not in texts:
            texts.append(text)
        place[number] = texts.index(text)
    return _categorical(place[line][order], texts)


def _reason_text(rows: _Rows, kind: int, detail: int, lacking: str, labels: tuple[str, str]) -> str:
    if kind == _CURRENCY:
        before, after = (rows.words["currency"][code] for code in divmod(detail, len(rows.words["currency"])))
        return f"other currency: {before} in {labels[0]}, {after} in {labels[1]}"
    if kind == _NO_LEVEL:
        fields = readable(rows.words["segment_by"][detail])
        return f"no segments by {fields} in {lacking}" if fields else f"no whole portfolio in {lacking}"
    return f"no figure in {lacking}" if kind == _NO_FIGURE else f"not in {lacking}"


def _words(codes: Array, words: Sequence[str]) -> pd.Categorical:
    """Return a column of words, of which several may be equal."""
    import numpy as np

    position = {word: number for number, word in enumerate(dict.fromkeys(words))}
    place = np.array([position[word] for word in words], np.int32)
    return _categorical(place[codes], list(position))


def _categorical(codes: Array, words: Sequence[str]) -> pd.Categorical:
    """Return a column of words by their positions, -1 for a missing one."""
    import numpy as np
    import pandas as pd

    column: pd.Categorical = pd.Categorical.from_codes(codes.astype(np.int32), pd.Index(list(words), dtype=object))
    return column


def readable(array: str) -> str:
    """Return an array as PostgreSQL writes it as readers see it: its parts joined by ``+``."""
    from psycopg2.extensions import STRINGARRAY

    return "+".join("" if part is None else part for part in STRINGARRAY(array, None))


def _position(words: type[Perspective] | type[Metric]) -> Callable[[str], tuple[int, str]]:
    known = [str(word) for word in words]
    return lambda word: (known.index(word) if word in known else len(known), word)


_ORDER: Final[dict[str, Callable[[str], Any]]] = {
    "analysis_name": str,
    "segment_by": lambda word: (word != WHOLE, word),
    "segment": str,
    "perspective": _position(Perspective),
    "metric": _position(Metric),
    "currency": str,
}
_SHOWN: Final[dict[str, Callable[[str], str]]] = {
    "analysis_name": str,
    "segment_by": readable,
    "segment": readable,
    "perspective": str,
    "metric": str,
}
