"""A script that was written for the old modules runs unchanged, on the real database."""

import os
import subprocess
import sys
import textwrap

from irp_pipeline.helpers.cycle import get_cycle_by_name
from irp_pipeline.helpers.step import get_last_step_run

SCRIPT = """
    import sys
    from helpers.constants import StepStatus
    from helpers.database import create_cycle, create_step_run, execute_query, get_or_create_stage
    from helpers.database import get_or_create_step, update_step_run

    name, schema = sys.argv[1:]
    cycle_id = create_cycle(name, schema=schema)
    step_id = get_or_create_step(get_or_create_stage(cycle_id, 1, "Extract"), 2, "Read locations")
    run_id, run_num = create_step_run(step_id, "analyst")
    update_step_run(run_id, StepStatus.COMPLETED, output_data={"locations": 12_598})
    print(step_id, run_num, execute_query("SELECT status FROM irp_step_run WHERE id = %s", (run_id,)).iloc[0, 0])
"""


def test_an_old_script_keeps_its_records_here(tmp_path, test_schema):
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "__init__.py").write_text("raise RuntimeError('the old package was imported')\n")
    (tmp_path / "quarter.py").write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, "-m", "irp_pipeline.compat", "quarter.py", "Q1-2024", test_schema],
        cwd=tmp_path,
        env={**os.environ, "DB_SCHEMA": test_schema},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    step_id, run_num, status = done.stdout.split()
    assert (run_num, status) == ("1", "COMPLETED")
    assert f"{tmp_path}/quarter.py:8: DeprecationWarning: create_cycle has moved" in done.stderr
    assert get_cycle_by_name("Q1-2024")
    run = get_last_step_run(int(step_id))
    assert run is not None
    assert (run["started_by"], run["output_data"]) == ("analyst", {"locations": 12_598})
