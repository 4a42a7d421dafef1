"""What a DataFrame cell, a dict or a list becomes on its way to the driver. What the server makes of it is shown in
``integration/test_database.py``."""

import datetime as dt
import decimal
import enum
import json
import math
import pathlib
import subprocess
import sys
import uuid
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irp_pipeline.postgres.parameters import (
    UnstorableError,
    bind,
    bind_all,
    bind_jsonb,
    check_values,
    json_text,
    jsonb_positions,
    storable_text,
    unstorable_parameter,
    unstorable_text,
)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Status(enum.StrEnum):
    ACTIVE = "ACTIVE"


def naive(*parts: int) -> dt.datetime:
    return dt.datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001


UTC_NOON = dt.datetime(2024, 3, 1, 12, tzinfo=dt.UTC)

MISSING = [None, math.nan, float("-nan"), np.float64("nan"), np.float32("nan"), pd.NaT, pd.NA, decimal.Decimal("NaN"),
           decimal.Decimal("sNaN"), np.datetime64("NaT"), np.timedelta64("NaT")]  # fmt: skip


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_every_kind_of_missing_value_is_null(value):
    assert bind(value) is None
    assert bind_jsonb(value) is None
    assert bind_all((value, 1)) == (None, 1)
    assert json.loads(json_text({"a": value, "b": [value]})) == {"a": None, "b": [None]}


PLAIN: list[tuple[Any, Any]] = [
    (True, True),
    (12, 12),
    (2**70, 2**70),
    (1.5, 1.5),
    (math.inf, math.inf),
    ("text", "text"),
    (b"bytes", b"bytes"),
    (UTC_NOON, UTC_NOON),
    (dt.date(2024, 3, 1), dt.date(2024, 3, 1)),
    (dt.timedelta(1), dt.timedelta(1)),
    (decimal.Decimal("1.10"), decimal.Decimal("1.10")),
    (np.int64(5), 5),
    (np.uint8(5), 5),
    (np.float32(0.5), 0.5),
    (np.float64(0.5), 0.5),
    (np.bool_(True), True),
    (np.str_("text"), "text"),
    (np.datetime64("2024-03-01T12:00:00.123456789"), naive(2024, 3, 1, 12, 0, 0, 123456)),
    (np.timedelta64(90, "s"), dt.timedelta(seconds=90)),
    (pd.Timestamp("2024-03-01 12:00", tz="UTC"), UTC_NOON),
    (pd.Timestamp("2024-03-01 12:00"), naive(2024, 3, 1, 12)),
    (pd.Timestamp("2024-03-01 12:00:00.123456789"), naive(2024, 3, 1, 12, 0, 0, 123456)),
    (pd.Timedelta("1 day 00:00:00.000001"), dt.timedelta(days=1, microseconds=1)),
    (pd.Timedelta(np.timedelta64(200_000 * 86_400, "s")), dt.timedelta(days=200_000)),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (Status.ACTIVE, "ACTIVE"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ([1, np.int64(2), math.nan], [1, 2, None]),
    ((np.int64(1), pd.NaT), (1, None)),
    ([[1], [np.int64(2)]], [[1], [2]]),
    (np.array([1, 2]), [1, 2]),
    (np.array(7), 7),
    (np.array([1.5, math.nan]), [1.5, None]),
    (np.array(["2024-03-01", "NaT"], dtype="datetime64[ns]"), [naive(2024, 3, 1), None]),
    (np.array([["2024-03-01"]], dtype="datetime64[D]"), [[naive(2024, 3, 1)]]),
    (np.array([pd.Timestamp("2024-03-01"), None], dtype=object), [naive(2024, 3, 1), None]),
]


@pytest.mark.parametrize(("value", "expected"), PLAIN, ids=lambda value: repr(value)[:60])
def test_a_value_becomes_the_python_value_that_it_stands_for(value, expected):
    bound = bind(value)
    assert bound == expected
    assert type(bound) is type(expected) or (isinstance(value, enum.StrEnum) and isinstance(bound, str))


@pytest.mark.filterwarnings("error")
def test_nanoseconds_are_dropped_without_a_warning():
    assert bind(pd.Timestamp(1)) == naive(1970, 1, 1)


def test_what_is_not_known_is_left_for_the_driver_to_refuse():
    for value in (object(), np.longdouble(1.5), pd.Interval(0, 1)):
        assert bind(value) is value


# --- JSON ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, {}),
        ({"n": np.int64(1), "f": np.float32(0.5), "b": np.bool_(False)}, {"n": 1, "f": 0.5, "b": False}),
        ({"nan": math.nan, "inf": math.inf, "d": decimal.Decimal("Infinity")}, {"nan": None, "inf": None, "d": None}),
        ({"t": pd.Timestamp("2024-03-01", tz="UTC")}, {"t": "2024-03-01T00:00:00+00:00"}),
        ({"d": dt.date(2024, 3, 1), "e": dt.time(12)}, {"d": "2024-03-01", "e": "12:00:00"}),
        ({"s": dt.timedelta(minutes=1), "p": pd.Timedelta("1min")}, {"s": 60.0, "p": 60.0}),
        ({"a": np.array([[1, 2]]), "t": (1, pd.NaT)}, {"a": [[1, 2]], "t": [1, None]}),
        ({"set": {3, 1, 2}}, {"set": [1, 2, 3]}),
        ({"e": Colour.RED, "l": Level.HIGH, "s": Status.ACTIVE}, {"e": "red", "l": 3, "s": "ACTIVE"}),
        ({"d": decimal.Decimal("1.5"), "i": decimal.Decimal(2)}, {"d": 1.5, "i": 2}),
        ({"u": uuid.UUID(int=1)}, {"u": "00000000-0000-0000-0000-000000000001"}),
        ({"p": pathlib.PurePosixPath("a/b")}, {"p": "a/b"}),
        ({"deep": [{"x": [math.nan, {"y": np.int64(1)}]}]}, {"deep": [{"x": [None, {"y": 1}]}]}),
        ({"Ünïcode": "日本"}, {"Ünïcode": "日本"}),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_document_is_written_with_whatever_is_inside(value, expected):
    assert json.loads(json_text(value)) == expected


@pytest.mark.parametrize("companion", [1, math.nan])
def test_keys_are_written_the_same_whatever_else_is_in_the_document(companion):
    document = {None: 0, True: 0, 2: 0, 1.5: 0, "s": 0, Status.ACTIVE: 0, "companion": companion}
    assert [*json.loads(json_text(document))] == ["null", "true", "2", "1.5", "s", "ACTIVE", "companion"]


def test_keys_out_of_a_data_frame_are_written():
    assert json.loads(json_text({np.int64(1): 0, pd.Timestamp("2024-03-01"): 0})) == {"1": 0, "2024-03-01 00:00:00": 0}


STORABLE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | STORABLE,
        lambda inner: st.lists(inner) | st.dictionaries(STORABLE, inner),
        max_leaves=8,
    )
)
def test_any_document_comes_back_with_only_impossible_numbers_missing(document):
    def possible(value: Any) -> Any:
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, list):
            return [possible(item) for item in value]
        if isinstance(value, dict):
            return {key: possible(item) for key, item in value.items()}
        return value

    assert json.loads(json_text(document)) == possible(document)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, {"b": "x\0"}]}, "a[1].b holds a NUL character"),
        ({"a": {"b\0": math.nan}}, "a.b\ufffd has a key that holds a NUL character"),
        ({"a": ("\ud800",)}, "a[0] holds half of a surrogate pair (U+D800)"),
        ({"a": {math.nan: 1}}, "a.nan has a key that is nan"),
        ({"a": {-math.inf: 1}}, "a.-inf has a key that is -inf"),
        ({"a": 10**5000}, "a is a whole number of more than 4300 digits"),
        ("\0", "It holds a NUL character"),
    ],
)
def test_what_postgresql_cannot_store_is_an_error_that_shows_the_place(value, place):
    with pytest.raises(UnstorableError) as caught:
        json_text(value)
    assert str(caught.value).startswith(place)


@pytest.mark.parametrize("text", ["\\u0000", 'NaN":', "Infinity", "\\\\u0000", "\x1b\x7f", "\U0001f600"])
def test_what_only_looks_unstorable_is_stored(text):
    assert json.loads(json_text({text: text})) == {text: text}


def test_a_document_that_is_nested_too_deep_or_in_itself_is_an_error_that_says_so():
    itself: list[Any] = []
    itself.append(itself)
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    for value in (itself, deep):
        with pytest.raises(UnstorableError, match="is nested deeper than 100 levels"):
            json_text(value)


@given(st.text(st.characters()))
def test_text_is_made_storable_and_stays_as_it_is_if_it_is(text):
    clean = storable_text(text)
    assert unstorable_text(clean) is None
    assert not any(char < " " and char not in "\t\n" for char in clean)
    assert storable_text(clean) == clean
    if unstorable_text(text) is None and text.isprintable():
        assert clean == text


def test_text_is_cut_where_it_is_too_long():
    assert storable_text("abcdef", 3) == "abc …"
    assert storable_text("abc", 3) == "abc"


def test_the_parameter_that_cannot_be_stored_is_named():
    assert unstorable_parameter(("a", 1, None, {"b": math.nan}, ["c"], math.nan)) is None
    assert str(unstorable_parameter(("a", "b\0"), ("id", "message"))).startswith(
        "Parameter 2 (message) holds a NUL character"
    )
    assert str(unstorable_parameter(({"a": ["\ud800"]},))).startswith("Parameter 1, at a[0], holds half of a surrogate")


@pytest.mark.parametrize("value", [{"a": object()}, {"a": [complex(1)]}, {"a": math.nan, "b": np.longdouble(1)}])
def test_what_has_no_json_form_is_an_error_that_shows_its_type_only(value):
    with pytest.raises(TypeError, match="has no JSON form") as caught:
        json_text(value)
    assert "0x" not in str(caught.value)


def test_lists_and_scalars_are_json_where_the_column_says_so():
    bound = bind_all(([1, 2], [1, 2], "{}", 5, math.nan), frozenset({1, 2, 3, 4}))
    assert bound[0] == [1, 2]
    assert [getattr(value, "adapted", value) for value in bound[1:]] == [[1, 2], "{}", 5, None]
    assert type(bound[1]) is type(bind({})) is type(bound[3])


# --- how values come ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["Q1", 5, {"a": 1}, {1}, np.array([1]), pd.Series([1]), iter([1])])
def test_a_lone_value_is_refused_and_not_shown(value):
    with pytest.raises(TypeError, match=rf"not {type(value).__name__}: write \(value,\)") as caught:
        check_values(value)
    assert "Q1" not in str(caught.value)


def test_values_come_in_a_tuple_a_list_or_not_at_all():
    assert check_values(None) == ()
    assert check_values((1,)) == (1,)
    assert check_values([1]) == [1]


def test_jsonb_columns_are_named_or_counted():
    columns = ("id", "Data", "data", "data")
    assert jsonb_positions(None, columns, 4) == frozenset()
    assert jsonb_positions(["Data"], columns, 4) == {1, 2, 3}
    assert jsonb_positions(["data"], columns, 4) == {2, 3}
    assert jsonb_positions([0, "id"], columns, 4) == {0}
    assert jsonb_positions([1], (), 2) == {1}


@pytest.mark.parametrize("unknown", ["other", 4, -1])
def test_a_jsonb_column_that_is_not_filled_is_refused(unknown):
    with pytest.raises(ValueError, match=str(unknown)):
        jsonb_positions([unknown], ("id", "a", "b", "c"), 4)


def test_neither_pandas_nor_numpy_is_imported_for_who_does_not_use_them():
    code = (
        "import sys; from irp_pipeline.helpers import database; from irp_pipeline.postgres import parameters; "
        "parameters.bind_all((1, 1.5, 'x', {'a': [1]}, [1], object())); "
        "assert not {'pandas', 'numpy', 'dagster'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
