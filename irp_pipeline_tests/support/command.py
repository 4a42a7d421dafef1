"""The ``irp`` command in the process of the tests. A pytest plugin: its fixture is there for every test module."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from irp_pipeline.cli import app

Run = Callable[..., Result]


@pytest.fixture
def irp() -> Run:
    """Run a command in this process, without a terminal."""

    def run(*arguments: object, status: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="irp")
        assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
        return result

    return run
