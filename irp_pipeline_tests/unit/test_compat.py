"""Old code finds this package as ``helpers``. Each test is a process of its own, since imports are for ever."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

OLD_PACKAGE = {"helpers/__init__.py": "", "helpers/constants.py": "OLD = True", "helpers/extras.py": "OLD = True"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty working folder."""
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(content))


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


def check(folder: Path, code: str) -> None:
    """Run Python code that asserts what should hold."""
    done = python(folder, "-W", "error", "-c", textwrap.dedent(code))
    assert done.returncode == 0, done.stderr


class TestImport:
    def test_gives_the_very_modules_of_this_package(self, folder):
        check(
            folder,
            """
            import importlib, pkgutil
            import irp_pipeline.compat
            import helpers, irp_pipeline.helpers

            assert helpers is irp_pipeline.helpers
            names = [module.name for module in pkgutil.walk_packages(irp_pipeline.helpers.__path__, "helpers.")]
            assert {"helpers.database", "helpers.db_context", "helpers.cycle", "helpers.step"} <= {*names}
            for name in names:
                assert importlib.import_module(name) is importlib.import_module(f"irp_pipeline.{name}")
            """,
        )

    def test_takes_every_form_of_the_import_statement(self, folder):
        check(
            folder,
            """
            import irp_pipeline.compat
            import helpers.constants
            import helpers.constants as constants
            from helpers import db_context
            from helpers.db_context import schema_context
            import irp_pipeline.helpers as new

            assert helpers.constants is constants is new.constants
            assert schema_context is db_context.schema_context is new.db_context.schema_context
            """,
        )

    def test_makes_one_state_for_old_and_new_names(self, folder):
        check(
            folder,
            """
            import irp_pipeline.compat
            from helpers.db_context import set_schema
            from irp_pipeline.helpers.db_context import get_current_schema

            set_schema("archive")
            assert get_current_schema() == "archive"
            """,
        )

    def test_loads_a_module_only_when_it_is_asked_for(self, folder):
        check(
            folder,
            """
            import sys
            import irp_pipeline.compat
            ours = {name for name in sys.modules if name.partition(".")[0] in {"helpers", "irp_pipeline"}}
            assert ours == {"irp_pipeline", "irp_pipeline.compat", "irp_pipeline.helpers", "helpers"}, ours
            assert not {"pandas", "sqlalchemy", "psycopg2", "pydantic"} & {*sys.modules}

            import importlib.util
            assert importlib.util.find_spec("helpers.constants").origin.endswith("constants.py")
            assert "irp_pipeline.helpers.constants" not in sys.modules
            """,
        )

    def test_leaves_the_modules_what_they_are(self, folder):
        check(
            folder,
            """
            import importlib, inspect, pickle, sys
            import irp_pipeline.compat
            import helpers.constants

            module = helpers.constants
            assert module.__name__ == module.__spec__.name == "irp_pipeline.helpers.constants"
            assert helpers.__spec__.name == helpers.__package__ == "irp_pipeline.helpers"
            assert module.__loader__ is module.__spec__.loader
            assert inspect.getmodule(module.CycleStatus) is module
            assert inspect.getsource(module).startswith('\"\"\"')
            pickled = pickle.dumps(module.CycleStatus.ACTIVE)
            assert b"irp_pipeline.helpers.constants" in pickled
            assert importlib.reload(module) is module is sys.modules["helpers.constants"]
            assert module.__spec__.name == "irp_pipeline.helpers.constants"
            """,
        )

    def test_reads_a_pickle_that_names_the_old_module(self, folder):
        check(
            folder,
            r"""
            import pickle
            import irp_pipeline.compat
            assert pickle.loads(b"chelpers.constants\nCycleStatus\n.").__name__ == "CycleStatus"
            """,
        )

    def test_can_be_repeated(self, folder):
        check(
            folder,
            """
            import sys
            import irp_pipeline.compat
            before = [*sys.meta_path]
            irp_pipeline.compat.activate()
            assert sys.meta_path == before
            del sys.modules["irp_pipeline.compat"]
            import irp_pipeline.compat
            import helpers.constants, irp_pipeline.helpers.constants
            assert helpers.constants is irp_pipeline.helpers.constants
            """,
        )

    def test_is_the_same_for_threads_that_import_at_once(self, folder):
        check(
            folder,
            """
            import importlib, sys, threading
            import irp_pipeline.compat

            names = ["helpers.database", "irp_pipeline.helpers.database"] * 16
            together = threading.Barrier(len(names))
            found = []

            def load(name):
                together.wait()
                module = importlib.import_module(name)
                found.append((module, module.create_cycle))

            sys.setswitchinterval(1e-5)
            threads = [threading.Thread(target=load, args=(name,)) for name in names]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            assert len(found) == len(names) and len({id(module) for module, _ in found}) == 1
            assert found[0][0].__spec__.name == "irp_pipeline.helpers.database"
            """,
        )

    def test_ends_with_deactivate(self, folder):
        write(folder, OLD_PACKAGE)
        check(
            folder,
            """
            import irp_pipeline.compat
            import helpers.constants
            new = helpers.constants
            irp_pipeline.compat.deactivate()
            import helpers.constants
            assert helpers.constants is not new and helpers.constants.OLD
            """,
        )

    def test_alone_gives_the_name(self, folder):
        """The name is not installed for everybody."""
        check(
            folder,
            """
            import importlib.util, irp_pipeline
            assert importlib.util.find_spec("helpers") is None
            """,
        )


class TestAnotherPackageOfThatName:
    def test_does_not_win_once_the_name_is_taken(self, folder):
        write(folder, OLD_PACKAGE)
        check(
            folder,
            """
            import sys
            import irp_pipeline.compat
            sys.path.insert(0, ".")
            import helpers, helpers.constants
            assert helpers.__name__ == "irp_pipeline.helpers" and not hasattr(helpers.constants, "OLD")
            """,
        )

    def test_lends_no_module_that_is_missing_here(self, folder):
        write(folder, OLD_PACKAGE)
        check(
            folder,
            """
            import importlib.util
            import irp_pipeline.compat
            assert importlib.util.find_spec("helpers.extras") is None
            try:
                import helpers.extras
            except ModuleNotFoundError as error:
                assert error.name == "helpers.extras"
            else:
                raise AssertionError
            """,
        )

    def test_is_left_alone_if_its_name_only_begins_so(self, folder):
        write(folder, {"helpers_of_mine.py": "MINE = True"})
        check(folder, "import irp_pipeline.compat, helpers_of_mine; assert helpers_of_mine.MINE")

    @pytest.mark.parametrize(
        ("files", "named"), [(OLD_PACKAGE, "helpers/__init__.py"), ({"helpers/constants.py": ""}, "helpers")]
    )
    def test_in_use_already_is_an_error_that_says_where_it_is(self, folder, files, named):
        write(folder, {**files, "script.py": "import helpers.constants\nimport irp_pipeline.compat\n"})
        done = python(folder, "script.py")
        assert done.returncode == 1
        error = done.stderr.splitlines()[-1]
        assert error.startswith("ImportError: Another package 'helpers'")
        assert f"from {folder / named}," in error
        assert "Import irp_pipeline.compat before it" in error

    def test_in_use_already_stays_in_use(self, folder):
        write(folder, OLD_PACKAGE)
        check(
            folder,
            """
            import sys
            import helpers.constants
            finders = [*sys.meta_path]
            try:
                import irp_pipeline.compat
            except ImportError as error:
                assert error.name == "helpers"
            import helpers.extras
            assert helpers.constants.OLD and helpers.extras.OLD and sys.meta_path == finders
            """,
        )


WHAT_IT_IS = """
    import os, sys
    print(sys.argv, sys.path[0], __file__, __name__, __spec__, __package__, __doc__, sorted(globals()))
    print(type(__loader__).__name__, __loader__.path, sys.modules["__main__"].__dict__ is globals(), os.getcwd())
"""
SCRIPTS = {
    "what it is": WHAT_IT_IS,
    "a module beside it": "import beside; print(beside.__file__)",
    "a status": "import sys; print('half', end=''); sys.exit(3)",
    "a message": "import sys; sys.exit('cannot go on')",
    "an error": "def fail():\n    1 / 0\n\nfail()\n",
    "an error of an error": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError('x') from error\n",
    "an error of another module": "import beside\nbeside.fail()\n",
    "no Python": "print(1)\nif True print(2)\n",
    "an interrupt": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nsignal.pause()\n",
    "an error hook": "import sys\nsys.excepthook = lambda kind, *_: print('hook', kind)\n1 / 0\n",
    "what happens at exit": "import atexit\natexit.register(lambda: print('bye', __name__))\n1 / 0\n",
    "a class to pickle": "import pickle\nclass A: pass\nprint(pickle.dumps(A), pickle.loads(pickle.dumps(A)) is A)\n",
    "annotations": "from __future__ import annotations\nx: Nonsense = 1\nprint(__annotations__)\n",
    "no future of ours": "def f(x: 1 + 1): pass\nprint(f.__annotations__)\n",
    "a coding": "# -*- coding: latin-1 -*-\nprint(ascii('\N{LATIN SMALL LETTER E WITH ACUTE}'))\n",
    "a warning": "import warnings\nwarnings.warn('old', DeprecationWarning)\n",
    "threads": "import threading\nthreading.Thread(target=lambda: print(WHAT)).start()\nWHAT = 1\n",
    "processes": """
        import multiprocessing
        def double(x): return 2 * x
        if __name__ == "__main__":
            for method in "fork", "spawn":
                with multiprocessing.get_context(method).Pool(1) as pool:
                    print(pool.map(double, [1]))
    """,
}


def outcome(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


class TestScript:
    """``python -m irp_pipeline.compat script.py`` does what ``python script.py`` does, and knows ``helpers``."""

    @pytest.mark.parametrize("script", SCRIPTS.values(), ids=[*SCRIPTS])
    def test_runs_as_python_runs_it(self, folder, script):
        write(folder, {"jobs/beside.py": "def fail():\n    raise OSError('away')\n"})
        (folder / "jobs" / "script.py").write_text(textwrap.dedent(script), encoding="latin-1")
        plain = python(folder, "jobs/script.py", "--help", "a b", "")
        through_us = python(folder, "-m", "irp_pipeline.compat", "jobs/script.py", "--help", "a b", "")
        assert outcome(through_us) == outcome(plain)

    @pytest.mark.parametrize("path", ["link.py", "jobs/../jobs/script.py", "{folder}/jobs/script.py"])
    def test_is_found_where_python_finds_it(self, folder, path):
        write(folder, {"jobs/script.py": WHAT_IT_IS})
        (folder / "link.py").symlink_to("jobs/script.py")
        path = path.format(folder=folder)
        assert outcome(python(folder, "-m", "irp_pipeline.compat", path)) == outcome(python(folder, path))

    def test_runs_in_pythons_safe_mode(self, folder):
        write(folder, {"script.py": WHAT_IT_IS})
        plain = python(folder, "-P", "script.py")
        assert outcome(python(folder, "-P", "-m", "irp_pipeline.compat", "script.py")) == outcome(plain)

    def test_that_is_not_there_is_told_as_python_tells_it(self, folder):
        plain = python(folder, "script.py")
        assert plain.returncode == 2
        assert outcome(python(folder, "-m", "irp_pipeline.compat", "script.py")) == outcome(plain)

    def test_knows_the_old_name(self, folder):
        write(
            folder,
            {
                **OLD_PACKAGE,
                "script.py": """
                    from helpers.constants import CycleStatus
                    import irp_pipeline.compat
                    import irp_pipeline.helpers.constants
                    assert CycleStatus is irp_pipeline.helpers.constants.CycleStatus
                """,
            },
        )
        done = python(folder, "-W", "error", "-m", "irp_pipeline.compat", "script.py")
        assert outcome(done) == (0, "", "")

    @pytest.mark.parametrize("arguments", [[], ["--help"]])
    def test_is_asked_for(self, folder, arguments):
        done = python(folder, "-m", "irp_pipeline.compat", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "python -m irp_pipeline.compat script.py" in done.stderr

    def test_that_imports_the_name_itself_may_spawn_processes(self, folder):
        """A spawned process reads the script again, and nobody has prepared it."""
        write(
            folder,
            {
                "script.py": """
                    import irp_pipeline.compat
                    from helpers.db_context import check_schema_name
                    import multiprocessing
                    if __name__ == "__main__":
                        with multiprocessing.get_context("spawn").Pool(1) as pool:
                            print(pool.map(check_schema_name, ["archive"]))
                """
            },
        )
        assert outcome(python(folder, "script.py")) == (0, "['archive']\n", "")
