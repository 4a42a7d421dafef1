"""All of a transaction or nothing of it, in one schema, in the hands of the thread or task that opened it."""

import asyncio
import contextvars
import gc
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from irp_pipeline import settings
from irp_pipeline.helpers.database import (
    DatabaseError,
    bulk_insert,
    dispose_engine,
    drop_schema,
    execute_command,
    execute_insert,
    execute_scalar,
    fetch_all,
    get_engine,
    init_database,
    transaction,
)
from irp_pipeline.helpers.db_context import get_current_schema, schema_context, set_schema
from irp_pipeline.postgres.transactions import in_transaction

pytestmark = [
    pytest.mark.usefixtures("test_schema"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

ANOTHER_CALLER = "belongs to the thread or task that opened it"


@pytest.fixture(scope="module", autouse=True)
def _notes(test_schema: str) -> None:
    execute_command(
        "CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY, text text UNIQUE DEFERRABLE INITIALLY IMMEDIATE)"
    )


@pytest.fixture(autouse=True)
def no_notes(_notes: None) -> Iterator[None]:
    execute_command("TRUNCATE note")
    yield
    assert not in_transaction()
    assert " Current Checked out connections: 0" in get_engine().pool.status()


@pytest.fixture
def other_schema(test_schema: str) -> Iterator[str]:
    name = f"{test_schema}_other"
    init_database(name)
    yield name
    drop_schema(name)


def note(text: str) -> None:
    execute_command("INSERT INTO note (text) VALUES (%s)", (text,))


def notes() -> list[str]:
    return [row["text"] for row in fetch_all("SELECT text FROM note ORDER BY id")]


def notes_of_others() -> list[str]:
    """What another caller sees now."""
    return contextvars.Context().run(notes_in, get_current_schema())


def notes_in(schema: str) -> list[str]:
    set_schema(schema)
    return notes()


def refused_everything(what: str = ANOTHER_CALLER) -> None:
    """Every operation is refused here."""
    operations: list[Callable[[], object]] = [
        lambda: note("not mine"),
        notes,
        lambda: execute_scalar("SELECT 1"),
        lambda: execute_insert("INSERT INTO note (text) VALUES ('not mine')"),
        lambda: bulk_insert("INSERT INTO note (text) VALUES (%s)", [("not mine",)]),
        open_and_close,
    ]
    for operation in operations:
        with pytest.raises(DatabaseError, match=what):
            operation()


def open_and_close() -> None:
    with transaction():
        pass


# --- all or nothing -----------------------------------------------------------------------------------------------


def test_what_a_block_wrote_is_there_for_others_at_its_end():
    with transaction():
        note("a")
        assert notes() == ["a"]
        assert notes_of_others() == []
        execute_insert("INSERT INTO note (text) VALUES ('b')")
        bulk_insert("INSERT INTO note (text) VALUES (%s)", [("c",), ("d",)])
    assert notes_of_others() == ["a", "b", "c", "d"]


@pytest.mark.parametrize("failure", [LookupError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_a_block_that_fails_writes_nothing_and_its_error_goes_on(failure):
    def fail() -> None:
        with transaction():
            note("a")
            raise failure("why")

    with pytest.raises(failure, match="why"):
        fail()
    assert notes() == []
    note("afterwards, each statement is its own transaction again")
    assert len(notes_of_others()) == 1


def test_a_failed_statement_that_is_caught_dooms_the_block():
    def go_on_regardless() -> None:
        with transaction():
            note("a")
            with pytest.raises(DatabaseError, match="zero"):
                execute_command("SELECT 1 / 0")
            with pytest.raises(DatabaseError, match="aborted") as caught:
                note("b")
            assert caught.value.sqlstate == "25P02"

    with pytest.raises(DatabaseError, match="cannot be committed: a statement in it failed"):
        go_on_regardless()
    assert notes() == []


def test_a_statement_may_fail_behind_a_savepoint():
    with transaction():
        note("a")
        execute_command("SAVEPOINT before")
        with pytest.raises(DatabaseError):
            execute_command("SELECT 1 / 0")
        execute_command("ROLLBACK TO SAVEPOINT before")
        note("b")
    assert notes() == ["a", "b"]


def test_a_commit_that_fails_is_an_error():
    def break_the_constraint_at_the_end() -> None:
        with transaction():
            execute_command("SET CONSTRAINTS ALL DEFERRED")
            note("a")
            note("a")

    with pytest.raises(DatabaseError, match="unique constraint") as caught:
        break_the_constraint_at_the_end()
    assert caught.value.sqlstate == "23505"
    assert notes() == []
    note("a")


def test_another_connection_is_not_part_of_the_block():
    with transaction():
        note("a")
        with get_engine().connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM note").scalar() == 0


# --- nesting ------------------------------------------------------------------------------------------------------


def test_an_inner_block_joins_the_outer_one():
    with transaction():
        note("outer")
        pid = execute_scalar("SELECT pg_backend_pid()")
        with transaction():
            note("inner")
            assert execute_scalar("SELECT pg_backend_pid()") == pid
        assert notes_of_others() == []
    assert notes() == ["outer", "inner"]


def test_an_inner_block_that_fails_takes_the_outer_one_with_it():
    def fail_inside(inside: Callable[[], None]) -> None:
        with transaction():
            note("outer")
            inside()
            note("more")

    def inner() -> None:
        with transaction():
            note("inner")
            raise LookupError("inner")

    def caught() -> None:
        with pytest.raises(LookupError):
            inner()

    with pytest.raises(LookupError, match="inner"):
        fail_inside(inner)
    with pytest.raises(DatabaseError, match=r"cannot be committed: a transaction\(\) block inside it failed"):
        fail_inside(caught)
    assert notes() == []


def test_blocks_after_one_another_are_two_transactions():
    with transaction():
        note("a")
    with pytest.raises(LookupError), transaction():
        raise LookupError
    assert notes_of_others() == ["a"]


# --- one schema ---------------------------------------------------------------------------------------------------


def test_another_schema_inside_of_a_block_is_refused(test_schema, other_schema):
    with transaction():
        note("a")
        with schema_context(other_schema):
            refused_everything(f"'{test_schema}' is open: nothing can be done in schema '{other_schema}'")
        with pytest.raises(DatabaseError, match="is open"):
            execute_scalar("SELECT 1", schema=other_schema)
        with pytest.raises(DatabaseError, match="is open"), transaction(other_schema):
            pass
        note("b")
    assert notes() == ["a", "b"]


def test_a_block_can_name_its_schema(test_schema, other_schema):
    with transaction(other_schema):
        assert execute_scalar("SELECT current_schema()") == other_schema
    assert execute_scalar("SELECT current_schema()") == test_schema


def test_naming_the_same_schema_inside_of_a_block_is_allowed(test_schema):
    with transaction(), transaction(test_schema), schema_context(test_schema):
        execute_command("INSERT INTO note (text) VALUES ('a')", schema=test_schema)
    assert notes() == ["a"]


def test_a_schema_is_neither_made_nor_dropped_inside_of_a_block(other_schema):
    with transaction():
        for act in (init_database, drop_schema):
            with pytest.raises(DatabaseError, match="inside a transaction"):
                act(other_schema)


# --- one owner ----------------------------------------------------------------------------------------------------


def test_another_thread_is_not_in_the_block(test_schema):
    with transaction(), ThreadPoolExecutor(1) as pool:
        note("mine")
        assert pool.submit(notes_in, test_schema).result() == []
        assert pool.submit(in_transaction).result() is False


def test_a_thread_that_carries_the_context_is_refused():
    with transaction(), ThreadPoolExecutor(1) as pool:
        note("mine")
        pool.submit(contextvars.copy_context().run, refused_everything).result()
        note("still mine")
    assert notes() == ["mine", "still mine"]


def test_a_thread_that_lives_on_after_the_block_is_refused():
    ended = threading.Event()

    def wait_and_try() -> None:
        assert ended.wait(30)
        refused_everything()

    with ThreadPoolExecutor(1) as pool:
        with transaction():
            late = pool.submit(contextvars.copy_context().run, wait_and_try)
        ended.set()
        late.result()
    assert notes() == []


def test_another_task_is_refused_and_the_own_goes_on():
    async def child() -> None:
        refused_everything()

    async def main() -> None:
        with transaction():
            note("a")
            await asyncio.gather(child(), asyncio.create_task(child()))
            await asyncio.to_thread(refused_everything)
            await asyncio.sleep(0)
            note("b")

    asyncio.run(main())
    assert notes() == ["a", "b"]


def test_a_block_around_an_event_loop_is_not_that_of_its_tasks():
    async def main() -> None:
        refused_everything()

    with transaction():
        note("a")
        asyncio.run(main())
    assert notes() == ["a"]


def test_a_callback_of_the_loop_is_refused():
    async def main() -> None:
        with transaction():
            note("a")
            called: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def callback() -> None:
                try:
                    refused_everything()
                except BaseException as error:
                    called.set_exception(error)
                else:
                    called.set_result(None)

            asyncio.get_running_loop().call_soon(callback)
            await called

    asyncio.run(main())
    assert notes() == ["a"]


def test_tasks_have_their_own_transactions_at_the_same_time():
    async def write(number: int) -> None:
        with transaction():
            note(f"first {number}")
            await asyncio.sleep(0)
            note(f"second {number}")
            if number % 2:
                raise LookupError

    async def main() -> list[Any]:
        return await asyncio.gather(*(write(number) for number in range(6)), return_exceptions=True)

    results = asyncio.run(main())
    assert [type(result) for result in results] == [type(None), LookupError] * 3
    assert sorted(notes()) == sorted(f"{which} {number}" for number in (0, 2, 4) for which in ("first", "second"))


def test_a_cancelled_task_writes_nothing():
    async def main() -> None:
        inside = asyncio.Event()

        async def write() -> None:
            with transaction():
                note("a")
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(write())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert notes() == []


def test_a_generator_that_is_dropped_inside_of_its_block_writes_nothing_and_gives_its_connection_back():
    def rows() -> Iterator[None]:
        with transaction():
            note("a")
            yield

    generator = rows()
    next(generator)
    assert in_transaction()
    del generator
    gc.collect()
    assert notes() == []


# --- forks --------------------------------------------------------------------------------------------------------


def in_child(work: Callable[[], object]) -> int:
    """Do something in a forked child and return its exit status: 0 for no error, 1 for an error, 2 for SystemExit."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except SystemExit:
            status = 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_is_refused_and_the_parent_goes_on():
    with transaction():
        note("a")
        assert in_child(refused_everything) == 0
        note("b")
    assert notes() == ["a", "b"]


@pytest.mark.parametrize("ending", ["end", "error", "exit"])
@pytest.mark.parametrize("pool_size", ["1", "5"])
def test_a_forked_child_that_leaves_the_block_ends_nothing_of_the_parents(ending, pool_size, monkeypatch):
    monkeypatch.setenv("IRP_POOL_SIZE", pool_size)
    dispose_engine()
    is_child = False
    child = 0
    try:
        with transaction():
            note("a")
            if pool_size == "1":  # the pool is full when the connection of the transaction comes back
                get_engine().connect().close()
            child = os.fork()
            is_child = child == 0
            if is_child and ending == "error":
                raise LookupError
            if is_child and ending == "exit":
                raise SystemExit
            if not is_child:
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                note("b")
    except BaseException as error:
        if is_child:
            gc.collect()
            expected = {"end": DatabaseError, "error": LookupError, "exit": SystemExit}[ending]
            os._exit(0 if type(error) is expected else 1)
        raise
    finally:
        if is_child:
            os._exit(3)
    assert status == 0
    assert notes_of_others() == ["a", "b"]
    dispose_engine()


def test_a_child_that_was_forked_outside_of_a_block_has_its_own_transactions():
    def work() -> None:
        with transaction():
            note("child")
        dispose_engine()

    note("parent")
    assert in_child(work) == 0
    with transaction():
        note("parent again")
    assert notes() == ["parent", "child", "parent again"]


def write_in_pool(schema: str, number: int) -> int:
    set_schema(schema)
    with transaction():
        note(f"worker {number}")
    pid: int = execute_scalar("SELECT pg_backend_pid()")
    return pid


def test_a_pool_of_forked_processes_has_connections_of_its_own(test_schema):
    own = execute_scalar("SELECT pg_backend_pid()")
    with multiprocessing.get_context("fork").Pool(3) as pool:
        pids = pool.starmap(write_in_pool, [(test_schema, number) for number in range(12)], chunksize=1)
        pool.close()
        pool.join()
    assert len(notes()) == 12
    assert own not in pids
    assert execute_scalar("SELECT pg_backend_pid()") == own


# --- the connection dies ------------------------------------------------------------------------------------------


@pytest.fixture
def kill() -> Iterator[Callable[[], None]]:
    """Ends the server's side of the transaction's connection."""
    args, kwargs = PGDialect_psycopg2().create_connect_args(settings.database_url())
    with closing(psycopg2.connect(*args, **kwargs)) as connection, connection.cursor() as cursor:

        def terminate() -> None:
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", (execute_scalar("SELECT pg_backend_pid()"),))

        yield terminate


def test_a_connection_that_dies_in_a_block_is_an_error_and_nothing_is_written(kill):
    def die() -> None:
        with transaction():
            note("a")
            kill()
            note("b")

    with pytest.raises(DatabaseError) as caught:
        die()
    assert caught.value.disconnected
    assert notes() == []


def test_a_block_that_goes_on_without_its_connection_is_told_so(kill):
    def go_on() -> None:
        with transaction():
            note("a")
            kill()
            with pytest.raises(DatabaseError):
                note("b")
            refused_everything("connection was lost in the middle of a transaction")

    with pytest.raises(DatabaseError, match="connection was lost") as caught:
        go_on()
    assert caught.value.disconnected
    assert notes() == []


def test_a_commit_without_a_connection_is_an_error(kill):
    def die_at_the_end() -> None:
        with transaction():
            note("a")
            kill()

    with pytest.raises(DatabaseError) as caught:
        die_at_the_end()
    assert caught.value.disconnected
    assert notes() == []


def test_the_error_of_the_block_is_not_hidden_by_the_loss_of_its_connection(kill):
    def fail() -> None:
        with transaction():
            note("a")
            kill()
            raise LookupError("the reason")

    with pytest.raises(LookupError, match="the reason"):
        fail()
    assert notes() == []
