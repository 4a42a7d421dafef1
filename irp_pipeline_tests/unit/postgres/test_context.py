"""Which schema a caller works in, and which names a schema can have. No database."""

import asyncio
import contextvars
import gc
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irp_pipeline.helpers.db_context import (
    carry_schema,
    check_schema_name,
    get_current_schema,
    get_schema_from_env,
    init_from_environment,
    reset_schema,
    schema_context,
    set_schema,
)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DB_SCHEMA", raising=False)
    with schema_context("from_before"):
        reset_schema()
        yield


def in_new_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


# --- the chain ----------------------------------------------------------------------------------------------------


def test_without_anything_the_schema_is_public():
    assert get_current_schema() == "public"
    assert get_schema_from_env() == "public"


def test_the_environment_names_the_schema_at_the_moment_of_asking(monkeypatch):
    monkeypatch.setenv("DB_SCHEMA", "from_env")
    assert get_current_schema() == "from_env"
    monkeypatch.setenv("DB_SCHEMA", "changed")
    assert get_current_schema() == "changed"
    monkeypatch.setenv("DB_SCHEMA", "")
    assert get_current_schema() == "public"


def test_what_is_set_wins_over_the_environment_until_it_is_reset(monkeypatch):
    monkeypatch.setenv("DB_SCHEMA", "from_env")
    set_schema("chosen")
    assert get_current_schema() == "chosen"
    reset_schema()
    assert get_current_schema() == "from_env"


def test_public_can_be_chosen_against_the_environment(monkeypatch):
    monkeypatch.setenv("DB_SCHEMA", "from_env")
    set_schema("public")
    assert get_current_schema() == "public"


def test_a_bad_name_in_the_environment_is_an_error_that_names_the_variable(monkeypatch):
    monkeypatch.setenv("DB_SCHEMA", "pg_catalog")
    with pytest.raises(ValueError, match=r"DB_SCHEMA.*'pg_catalog'"):
        get_current_schema()
    with pytest.raises(ValueError, match="DB_SCHEMA"):
        init_from_environment()
    set_schema("chosen")
    assert get_current_schema() == "chosen"


def test_init_from_environment_takes_the_name_once(monkeypatch):
    monkeypatch.setenv("DB_SCHEMA", "from_env")
    init_from_environment()
    monkeypatch.setenv("DB_SCHEMA", "changed")
    assert get_current_schema() == "from_env"


def test_init_from_environment_without_a_name_changes_nothing():
    set_schema("chosen")
    init_from_environment()
    assert get_current_schema() == "chosen"


# --- blocks -------------------------------------------------------------------------------------------------------


def test_a_block_gives_its_schema_and_takes_it_back():
    set_schema("outside")
    with schema_context("inside") as name:
        assert name == get_current_schema() == "inside"
    assert get_current_schema() == "outside"


def test_a_block_that_fails_takes_its_schema_back():
    with pytest.raises(ZeroDivisionError), schema_context("inside"):
        _ = 1 / 0
    assert get_current_schema() == "public"


def test_blocks_nest():
    with schema_context("a"):
        with schema_context("b"):
            assert get_current_schema() == "b"
        assert get_current_schema() == "a"


def test_after_a_block_the_environment_counts_again(monkeypatch):
    with schema_context("inside"):
        monkeypatch.setenv("DB_SCHEMA", "from_env")
        assert get_current_schema() == "inside"
    assert get_current_schema() == "from_env"


@pytest.mark.parametrize("change", [lambda: set_schema("changed"), reset_schema])
def test_what_is_set_inside_a_block_ends_with_it(change):
    set_schema("outside")
    with schema_context("inside"):
        change()
        assert get_current_schema() != "inside"
    assert get_current_schema() == "outside"


def test_a_bad_name_is_refused_before_the_block_starts():
    set_schema("outside")
    with pytest.raises(ValueError, match="empty"):
        schema_context("")
    with pytest.raises(ValueError, match="empty"):
        set_schema("")
    assert get_current_schema() == "outside"


def test_one_block_object_can_be_entered_again_inside_itself():
    block = schema_context("inside")
    with block, schema_context("other"), block:
        assert get_current_schema() == "inside"
    assert get_current_schema() == "public"


def test_one_block_object_serves_several_threads_at_once():
    block = schema_context("shared")
    first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()

    def first() -> str:
        with block:
            first_is_in.set()
            second_is_in.wait(10)
        first_is_out.set()
        return get_current_schema()

    def second() -> str:
        set_schema("second")
        first_is_in.wait(10)
        with block:
            second_is_in.set()
            first_is_out.wait(10)
        return get_current_schema()

    with ThreadPoolExecutor(2) as pool:
        after = [pool.submit(first), pool.submit(second)]
        assert [future.result() for future in after] == ["public", "second"]


def test_generators_that_end_in_another_order_leave_no_schema_behind():
    def in_schema(name: str) -> Iterator[str]:
        with schema_context(name):
            yield get_current_schema()

    first, second = in_schema("a"), in_schema("b")
    assert (next(first), next(second)) == ("a", "b")
    assert list(first) == list(second) == []
    assert get_current_schema() == "public"


def test_a_forgotten_generator_does_not_disturb_the_thread_that_collects_it():
    def in_schema() -> Iterator[None]:
        with schema_context("forgotten"):
            yield

    kept = [in_schema()]
    in_new_thread(lambda: next(kept[0]))
    with schema_context("mine"):
        kept.clear()
        gc.collect()
        assert get_current_schema() == "mine"
    assert get_current_schema() == "public"


# --- decorator ----------------------------------------------------------------------------------------------------


def test_a_decorated_function_runs_in_the_schema():
    @schema_context("inside")
    def schema_and(value: int, *, more: int) -> tuple[str, int]:
        """Say where it runs."""
        return get_current_schema(), value + more

    assert schema_and(1, more=2) == ("inside", 3)
    assert get_current_schema() == "public"
    assert (schema_and.__name__, schema_and.__doc__) == ("schema_and", "Say where it runs.")


def test_a_decorated_function_can_call_itself():
    @schema_context("inside")
    def depth(left: int) -> list[str]:
        return [get_current_schema(), *(depth(left - 1) if left else [])]

    assert depth(3) == ["inside"] * 4
    assert get_current_schema() == "public"


def test_a_decorated_coroutine_stays_in_the_schema_over_its_pauses():
    @schema_context("inside")
    async def schemas() -> list[str]:
        before = get_current_schema()
        await asyncio.sleep(0)
        return [before, get_current_schema()]

    async def main() -> tuple[list[str], str]:
        return await schemas(), get_current_schema()

    assert asyncio.run(main()) == (["inside", "inside"], "public")


@schema_context("inside")
def echoing() -> Generator[str, Any, str]:
    """Say the schema at each step, and at the end which end it was."""
    try:
        while True:
            try:
                sent = yield get_current_schema()
            except LookupError:
                sent = "thrown"
            seen.append((sent, get_current_schema()))
            if sent == "return":
                return get_current_schema()
    finally:
        seen.append(("end", get_current_schema()))


seen: list[tuple[Any, str]] = []


def test_a_decorated_generator_is_in_its_schema_while_it_runs_and_its_consumer_never():
    seen.clear()
    generator = echoing()
    assert next(generator) == "inside"
    assert get_current_schema() == "public"
    with schema_context("other"):
        assert generator.send("sent") == "inside"
        assert get_current_schema() == "other"
        assert generator.throw(LookupError()) == "inside"
        set_schema("changed")
        next(generator)
        assert get_current_schema() == "changed"
    generator.close()
    assert get_current_schema() == "public"
    assert seen == [("sent", "inside"), ("thrown", "inside"), (None, "inside"), ("end", "inside")]


def test_a_decorated_generator_returns_and_raises_as_it_is():
    generator = echoing()
    next(generator)
    with pytest.raises(StopIteration) as stopped:
        generator.send("return")
    assert stopped.value.value == "inside"
    failing = echoing()
    next(failing)
    with pytest.raises(ZeroDivisionError):
        failing.throw(ZeroDivisionError())
    assert list(schema_context("inside")(lambda: iter(()))()) == []
    assert inspect.isgeneratorfunction(echoing)
    assert echoing.__doc__ == "Say the schema at each step, and at the end which end it was."
    assert get_current_schema() == "public"


def test_a_decorated_generator_that_is_forgotten_ends_in_its_schema():
    seen.clear()
    with schema_context("other"):
        generator = echoing()
        next(generator)
        del generator
        gc.collect()
        assert get_current_schema() == "other"
    assert seen == [("end", "inside")]


def test_a_decorated_async_generator_is_in_its_schema_while_it_runs_and_its_consumer_never():
    ends: list[tuple[Any, str]] = []

    @schema_context("inside")
    async def steps() -> AsyncGenerator[str, Any]:
        try:
            while True:
                await asyncio.sleep(0)
                try:
                    sent = yield get_current_schema()
                except LookupError:
                    sent = "thrown"
                ends.append((sent, get_current_schema()))
        finally:
            await asyncio.sleep(0)
            ends.append(("end", get_current_schema()))

    async def main() -> None:
        set_schema("consumer")
        generator = steps()
        assert await anext(generator) == "inside"
        assert get_current_schema() == "consumer"
        with schema_context("other"):
            assert await generator.asend("sent") == "inside"
            assert get_current_schema() == "other"
        assert await generator.athrow(LookupError()) == "inside"
        await generator.aclose()
        assert get_current_schema() == "consumer"
        assert [schema async for schema in short()] == ["short", "short"]
        assert get_current_schema() == "consumer"

    @schema_context("short")
    async def short() -> AsyncIterator[str]:
        yield get_current_schema()
        yield get_current_schema()

    asyncio.run(main())
    assert ends == [("sent", "inside"), ("thrown", "inside"), ("end", "inside")]


def test_carry_schema_serves_a_generator():
    with schema_context("carried"):
        carried = carry_schema(schemas_in_steps)
    with schema_context("mine"):
        assert list(zip(carried(), ["mine", "mine"], strict=True)) == [("carried", "mine")] * 2


def schemas_in_steps() -> Iterator[str]:
    yield get_current_schema()
    yield get_current_schema()


# --- blocks in generators -----------------------------------------------------------------------------------------


def in_block(name: str, steps: int = 3) -> Iterator[str]:
    with schema_context(name):
        for _ in range(steps):
            yield get_current_schema()


def test_generators_in_step_each_stay_in_their_own_schema():
    assert list(zip(in_block("a"), in_block("b"), in_block("c"), strict=True)) == [("a", "b", "c")] * 3
    assert get_current_schema() == "public"


def test_generators_in_step_stay_in_their_own_schema_in_blocks_of_context_managers():
    @contextmanager
    def working_in(name: str) -> Iterator[None]:
        with schema_context(name):
            yield

    def steps(name: str) -> Iterator[str]:
        with working_in(name):
            yield get_current_schema()
            with working_in(f"{name}{name}"):
                yield get_current_schema()
            yield get_current_schema()

    assert list(zip(steps("a"), steps("b"), strict=True)) == [("a", "b"), ("aa", "bb"), ("a", "b")]
    with working_in("mine"):
        assert get_current_schema() == "mine"
    assert get_current_schema() == "public"


def test_a_generator_stays_in_its_schema_within_a_block_that_its_consumer_opened_meanwhile():
    generator = in_block("inside")
    next(generator)
    with schema_context("consumer"):
        assert next(generator) == "inside"
        assert get_current_schema() == "consumer"
        assert list(generator) == ["inside"]
        assert get_current_schema() == "consumer"
    assert get_current_schema() == "public"


def test_a_generator_that_left_its_block_is_in_that_of_its_consumer():
    def steps() -> Iterator[str]:
        with schema_context("inside"):
            yield get_current_schema()
        yield get_current_schema()

    generator = steps()
    next(generator)
    with schema_context("consumer"):
        assert next(generator) == "consumer"
    assert get_current_schema() == "public"


@pytest.mark.parametrize("how", ["closed", "exhausted", "collected"])
def test_a_generator_that_ends_within_anothers_block_takes_nothing_and_leaves_nothing(how):
    set_schema("outside")
    generators = [in_block("a")]
    next(generators[0])
    with schema_context("b"):
        if how == "closed":
            generators[0].close()  # type: ignore[attr-defined]
        elif how == "exhausted":
            list(generators[0])
        generators.clear()
        gc.collect()
        assert get_current_schema() == "b"
        set_schema("c")
        assert get_current_schema() == "c"
    assert get_current_schema() == "outside"


def test_a_generator_that_another_thread_ends_takes_its_block_with_it():
    generator = in_block("a")
    next(generator)
    assert get_current_schema() == "a"  # its consumer works in its block until it goes on
    in_new_thread(generator.close)  # type: ignore[attr-defined]
    assert get_current_schema() == "public"


def test_an_async_generator_that_the_loop_ends_takes_its_block_with_it():
    async def steps() -> AsyncIterator[str]:
        with schema_context("a"):
            yield get_current_schema()
            yield get_current_schema()

    async def main() -> str:
        async for _ in steps():
            break
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return get_current_schema()

    assert asyncio.run(main()) == "public"


def test_a_task_keeps_the_block_that_it_began_in_after_its_parent_left_it():
    async def child(left: asyncio.Event) -> str:
        await left.wait()
        return get_current_schema()

    async def main() -> str:
        left = asyncio.Event()
        with schema_context("a"):
            task = asyncio.create_task(child(left))
        left.set()
        return await task

    assert asyncio.run(main()) == "a"


def test_one_block_object_serves_generators_in_step():
    block = schema_context("shared")

    def steps() -> Iterator[str]:
        with block:
            yield get_current_schema()
            with schema_context("deeper"):
                yield get_current_schema()

    first, second = steps(), steps()
    assert [next(first), next(second), next(first), next(second)] == ["shared", "shared", "deeper", "deeper"]
    assert list(first) == []
    with schema_context("mine"):
        assert list(second) == []
        assert get_current_schema() == "mine"
    assert get_current_schema() == "public"


# --- threads and tasks --------------------------------------------------------------------------------------------


def test_a_new_thread_starts_from_the_chain(monkeypatch):
    monkeypatch.setenv("DB_SCHEMA", "from_env")
    set_schema("parent")
    assert in_new_thread(get_current_schema) == "from_env"


def test_what_a_thread_sets_stays_in_it():
    set_schema("parent")
    in_new_thread(lambda: set_schema("child"))
    assert get_current_schema() == "parent"


def test_carry_schema_takes_the_schema_of_now_to_a_pool():
    with schema_context("carried"):
        carried = carry_schema(get_current_schema)
    assert in_new_thread(carried) == "carried"
    with ThreadPoolExecutor(1) as pool:
        assert [*pool.map(carried, [])] == []
        assert pool.submit(carried).result() == "carried"
        assert pool.submit(get_current_schema).result() == "public"


def test_carry_schema_serves_a_coroutine_function():
    async def schema() -> str:
        await asyncio.sleep(0)
        return get_current_schema()

    with schema_context("carried"):
        carried = carry_schema(schema)
    assert asyncio.run(carried()) == "carried"


def test_to_thread_takes_the_schema_along_and_brings_none_back():
    def set_and_say() -> str:
        before = get_current_schema()
        set_schema("changed_in_thread")
        return before

    async def main() -> tuple[str, str]:
        with schema_context("task"):
            return await asyncio.to_thread(set_and_say), get_current_schema()

    assert asyncio.run(main()) == ("task", "task")


def test_a_task_starts_in_the_schema_of_its_parent_and_keeps_its_own():
    async def child(name: str) -> tuple[str, str]:
        before = get_current_schema()
        set_schema(name)
        await asyncio.sleep(0)
        return before, get_current_schema()

    async def main() -> tuple[list[tuple[str, str]], str]:
        set_schema("parent")
        children = await asyncio.gather(child("a"), child("b"), asyncio.create_task(child("c")))
        return list(children), get_current_schema()

    assert asyncio.run(main()) == ([("parent", "a"), ("parent", "b"), ("parent", "c")], "parent")


def test_many_threads_and_tasks_each_see_their_own_schema():
    callers, rounds = 64, 200
    together = threading.Barrier(callers)

    def thread(number: int) -> None:
        together.wait(30)
        for _ in range(rounds):
            set_schema(f"thread_{number}")
            with schema_context(f"block_{number}"):
                assert get_current_schema() == f"block_{number}"
            assert get_current_schema() == f"thread_{number}"

    async def task(number: int) -> None:
        set_schema(f"task_{number}")
        for _ in range(rounds):
            with schema_context(f"block_{number}"):
                await asyncio.sleep(0)
                assert get_current_schema() == f"block_{number}"
            await asyncio.sleep(0)
            assert get_current_schema() == f"task_{number}"

    async def tasks() -> None:
        await asyncio.gather(*(task(number) for number in range(callers)))

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(thread, range(callers)))
    asyncio.run(tasks())
    assert get_current_schema() == "public"


# --- names --------------------------------------------------------------------------------------------------------

HARMLESS = [
    "public",
    "q1_2024",
    "Q1-2024",
    "select",
    "1st",
    "a.b",
    "per%cent %s",
    'quo"te',
    "it's",
    '"; drop schema public cascade; --',
    "with space",
    " ",
    "line\nbreak\n",
    "back\\slash",
    "$$",
    "été",
    "日本" * 10,
    "🙂",
    "PG_upper",
    "Information_Schema",
    "x" * 63,
    "é" * 31,
]
REFUSED = [
    ("", "empty"),
    ("x" * 64, "64"),
    ("é" * 32, "64"),
    ("nul\x00", "NUL"),
    ("\x00", "NUL"),
    ("lone \udc80", "Unicode"),
    ("pg_catalog", "pg_catalog"),
    ("pg_", "pg_"),
    ("pg_temp", "pg_temp"),
    ("information_schema", "information_schema"),
    ("$user", "user"),
    (None, "NoneType"),
    (1, "int"),
    (b"bytes", "bytes"),
    (["list"], "list"),
]


@pytest.mark.parametrize("name", HARMLESS)
def test_a_postgresql_identifier_is_a_schema_name(name):
    assert check_schema_name(name) == name
    with schema_context(name):
        assert get_current_schema() == name


@pytest.mark.parametrize(("name", "named"), REFUSED)
def test_anything_else_is_refused_with_its_name(name, named):
    set_schema("before")
    for use in (check_schema_name, set_schema, schema_context):
        with pytest.raises(ValueError, match=named) as caught:
            use(name)
        assert repr(name) in str(caught.value)
    assert get_current_schema() == "before"


@given(st.text(max_size=70) | st.text(st.sampled_from("pg_PG$useré\x00\udc80"), max_size=8))
def test_a_name_is_taken_as_it_is_or_refused(name):
    def try_it() -> None:
        try:
            set_schema(name)
        except ValueError:
            assert get_current_schema() == "public"
        else:
            assert get_current_schema() == name
            assert 1 <= len(name.encode()) <= 63
            assert "\x00" not in name
            assert not name.startswith("pg_")

    contextvars.copy_context().run(try_it)
