"""What a model's hash covers, what it needs, its name, its options, and the compilation of the engine's parts."""

import hashlib
import json
import os
import shutil
import stat
import time
from pathlib import Path
from typing import IO, Any

import pytest
from typer.testing import CliRunner

from irp_pipeline.cli import app
from irp_pipeline.engines.oasis import compilation
from irp_pipeline.engines.oasis.analysis import analysis_settings
from irp_pipeline.engines.oasis.compilation import (
    compile_parts,
    compiled_folder,
    forget_lookups,
    parts_of_deterministic,
    parts_of_stochastic,
)
from irp_pipeline.engines.oasis.examine import examine
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.hashes import model_hash
from irp_pipeline.engines.oasis.model import read_model, unused_entries
from irp_pipeline.engines.oasis.options import options_problem
from irp_pipeline.engines.oasis.packages import check_packages, packages_needed
from irp_pipeline_tests.support.tiny_models import write_model

ANALYSIS = {"name": "wind", "samples": 10, "perspectives": ["GUL"], "return_periods": [10, 100]}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "home"))
    return write_model(tmp_path / "models", "module")


# --- the hash -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file",
    [
        "../../../model_data/damage_bin_dict.bin",
        "../../../model_data/footprint.bin",
        "../../keys_data/lookup_config.json",
        "../../keys_data/tiny_lookup.py",
        "../../keys_data/beside.py",
        "model_settings.json",
        "oasislmf.json",
    ],
)
def test_the_hash_changes_with_every_file_that_the_configuration_names(model: Path, file: str):
    (model / "../../keys_data/beside.py").write_text("FACTOR = 1\n")
    before = model_hash(model)
    path = model / file
    if path.suffix == ".json":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"model_version_id": "2"}))
    else:
        path.write_bytes(path.read_bytes() + b"\n")
    assert model_hash(model) != before


def test_the_hash_changes_with_the_data_of_a_storage_on_this_machine(model: Path, tmp_path: Path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "footprint.bin").write_bytes(b"1")
    storage = {"storage_class": "local", "options": {"root_dir": str(tmp_path / "store")}}
    (model / "storage.json").write_text(json.dumps(storage))
    before = model_hash(model, {"model_storage_json": "storage.json"})
    (tmp_path / "store" / "footprint.bin").write_bytes(b"2")
    assert model_hash(model, {"model_storage_json": "storage.json"}) != before


def test_the_hash_changes_with_what_options_name_outside_of_the_models_folder(model: Path):
    other = model / "../../../other_data"
    shutil.copytree(model / "../../../model_data", other)
    options = {"model_data_dir": "../../../other_data"}
    before = model_hash(model, options)
    (other / "damage_bin_dict.bin").write_bytes(b"halved")
    assert model_hash(model, options) != before


def test_the_hash_changes_with_nothing_else(model: Path):
    before = model_hash(model)
    (model / "runs").mkdir()
    (model / "runs" / "log.txt").write_text("an old run")
    (model / "README.md").write_text("about")
    (model / "../../keys_data/__pycache__").mkdir()
    (model / "../../keys_data/__pycache__/tiny_lookup.pyc").write_bytes(b"code")
    assert model_hash(model) == before


def test_the_hash_changes_with_the_options_but_not_with_the_place(model: Path, tmp_path: Path):
    before = model_hash(model)
    assert model_hash(model, {"kernel_alloc_rule_il": 3}) != before
    assert model_hash(model, {}) == before == model_hash(model / "oasislmf.json")
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    assert model_hash(tmp_path / "elsewhere" / model.relative_to(tmp_path / "models")) == before


def test_a_large_file_is_read_again_only_if_it_looks_different_or_on_request(model: Path, monkeypatch):
    large = model / "../../../model_data/footprint.bin"
    large.write_bytes(bytes(1_500_000))
    old = time.time() - 100
    os.utime(large, (old, old))
    before = model_hash(model)
    read: list[str] = []
    digest = hashlib.file_digest

    def noticing(file: IO[bytes], how: str) -> Any:
        read.append(file.name)
        return digest(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", noticing)
    assert model_hash(model) == before
    assert not any("footprint.bin" in name for name in read)
    large.write_bytes(bytes(1_499_999) + b"1")
    assert model_hash(model) != before
    os.utime(large, (old, old))
    remembered = model_hash(model)
    content = large.read_bytes()
    with large.open("r+b") as file:
        file.write(b"2" + content[1:])
    os.utime(large, (old, old))
    assert model_hash(model) == remembered
    assert model_hash(model, recheck=True) != remembered


@pytest.mark.parametrize("section", ["model_settings", "lookup_settings"])
def test_settings_of_a_model_that_are_no_object_are_named(model: Path, section: str):
    (model / "model_settings.json").write_text(json.dumps({section: ["all"]}))
    with pytest.raises(OasisError, match=f"{section} in the model's settings is no JSON object"):
        examine(model)
    (model / "model_settings.json").write_text(json.dumps({section: None}))
    assert examine(model).perils == ()


def test_a_model_that_names_what_is_not_there_is_refused(model: Path):
    with pytest.raises(OasisError, match=r"The model has no lookup_data_dir: there is no .*gone"):
        model_hash(model, {"lookup_data_dir": "gone"})


# --- what a model says and needs ----------------------------------------------------------------------------------


def test_the_name_of_a_model_is_what_it_calls_itself(model: Path):
    assert model.name == "test_1"
    assert read_model(model).name == "tests tiny-module"
    (model / "model_settings.json").write_text("{}")
    (model / "ModelVersion.csv").write_text("Somebody,Quakes,7.1\n")
    found = read_model(model, {"model_version_csv": "ModelVersion.csv"})
    assert found.name == "Somebody Quakes"
    assert found.version == "7.1"


def test_a_model_without_settings_is_called_as_its_lookup_calls_it(model: Path):
    (model / "model_settings.json").write_text("{}")
    found = read_model(model)
    assert (found.name, found.version) == ("tests Tiny", "1")


def test_packages_that_are_missing_are_named_before_the_model_runs(model: Path):
    lookup = model / "../../keys_data/tiny_lookup.py"
    lookup.write_text(
        "import not_there\ntry:\n    import nor_this\nexcept ImportError:\n    pass\n" + lookup.read_text()
    )
    assert {need.package for need in packages_needed(read_model(model)) if not need.is_there} == {"not_there"}
    with pytest.raises(OasisError, match=r"not installed: not_there \(tiny_lookup\.py\)\. Run: pip install not_there"):
        check_packages(read_model(model))


def test_a_lookup_by_shapes_needs_what_the_extra_brings(model: Path):
    file = model / "../../keys_data/lookup_config.json"
    step = {"type": "rtree", "columns": ["latitude"], "parameters": {"nearest_neighbor_min_distance": 1}}
    file.write_text(json.dumps({"builtin_lookup_type": "new_lookup", "step_definition": {"area": step}}))
    needs = packages_needed(read_model(model))
    assert [need.package for need in needs] == ["geopandas", "shapely", "sklearn"]
    assert {need.remedy for need in needs} == {"pip install 'irp-pipeline[oasis]'"}
    assert all(need.is_there for need in needs)


@pytest.mark.parametrize(
    ("engine", "options", "problem"),
    [
        ("oasis_stochastic", {"kernel_alloc_rule_li": 1}, "Oasis LMF knows; do you mean kernel_alloc"),
        ("oasis_stochastic", {"kernel_num_processes": 8}, "is set by the job itself: IRP_JOB_PROCESSES says how many"),
        ("oasis_stochastic", {"oed_location_csv": "x.csv"}, "is set by the job itself: leave it out"),
        ("oasis_stochastic", {"ktools_alloc_rule_il": 1, "model_data_dir": "../x"}, None),
        ("oasis_deterministic", {"model_perils_cover": ["WTC"]}, "do not use model_perils_cover; they use do_disagg"),
        ("oasis_deterministic", {"model_perils_covered": ["WTC"], "kernel_alloc_rule_ri": 3}, None),
        ("oasis_deterministic", {"model_perils_covered": "WTC"}, "must be a list of peril codes"),
        (
            "oasis_deterministic",
            {"model_perils_covered": ["WTC", "QQQ"]},
            "QQQ in model_perils_covered is no peril code",
        ),
        ("oasis_deterministic", {"supported_oed_coverage_types": ["1"]}, "must be a list of whole numbers from 1 to 4"),
        ("oasis_deterministic", {"supported_oed_coverage_types": []}, "must be a list of whole numbers from 1 to 4"),
        ("oasis_deterministic", {"kernel_alloc_rule_il": 0}, "must be 1, 2 or 3: losses by location need one"),
        ("oasis_deterministic", {"do_disaggregation": "yes"}, "do_disaggregation must be true or false"),
        ("another", {"anything": 1}, None),
    ],
)
def test_an_option_without_effect_is_named_before_any_job_runs(engine: str, options: dict[str, Any], problem: str):
    told = options_problem({"engine": engine, "model_options": options})
    assert problem in told if problem and told else told is problem


def test_an_option_without_effect_is_refused_or_named(model: Path):
    found = unused_entries(read_model(model, {"modelpy": True, "ktools_alloc_rule_il": 1}))
    assert found == ["modelpy of oasislmf.json: Oasis LMF does not know it"]


# --- analysis settings --------------------------------------------------------------------------------------------


def test_a_settings_file_adds_return_periods_outputs_and_summaries(model: Path):
    base = {
        "return_periods": [50],
        "gul_summaries": [
            {"id": 1, "ord_output": {"ept_per_sample_mean_aep": True}},
            {"id": 4, "oed_fields": ["LocNumber"], "ord_output": {"alt_period": True}, "lec_output": True},
        ],
    }
    found = analysis_settings(ANALYSIS, read_model(model), base)
    assert found.return_periods == (10, 50, 100)
    whole, by_location = found.chosen["gul_summaries"]
    assert whole["ord_output"]["ept_per_sample_mean_aep"]
    assert (by_location["id"], by_location["oed_fields"]) == (2, ["LocNumber"])
    assert by_location["ord_output"]["parquet_format"]
    assert found.ignored == ("gul_summaries: lec_output, which Oasis LMF no longer has; say it in ord_output",)


def test_what_the_columns_replace_in_a_settings_file_is_named(model: Path):
    found = analysis_settings(ANALYSIS, read_model(model), {"number_of_samples": 5, "il_output": True})
    assert found.ignored == (
        "number_of_samples 5: the column samples says 10",
        "il_output: the column perspectives does not ask for IL",
    )


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"nonsense": 1}, "has nonsense, which Oasis LMF does not know"),
        ({"gul_summaries": [5]}, "a wrong value of gul_summaries.0: 5 is not of type 'object'"),
        ({"gul_summaries": [{"id": 1, "ord_output": [1]}]}, "a wrong value of gul_summaries.0.ord_output: "),
        ({"return_periods": "100"}, "a wrong value of return_periods: '100' is not of type 'array'"),
        ({"model_settings": []}, "a wrong value of model_settings: "),
        ({"model_settings": {"event_sett": "p"}}, "'event_sett' in model_settings, .* do you mean event_set"),
        ({"gul_summaries": [{"id": 1, "ord_output": {"ept_all": True}}]}, "has ept_all in ord_output of gul_summaries"),
    ],
)
def test_a_settings_file_with_something_unknown_is_refused(model: Path, base, message):
    with pytest.raises(OasisError, match=message):
        analysis_settings(ANALYSIS, read_model(model), base)


# --- compilation --------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Parts whose compilation takes no time: one works, one fails once, one always, one never ends."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    count = f"import pathlib; p = pathlib.Path({str(tmp_path)!r}) / 'NAME'; p.open('a').write('x'); "
    programs = {
        "works": count.replace("NAME", "works"),
        "once": count.replace("NAME", "once") + "assert len(p.read_text()) > 1, 'not yet'",
        "fails": count.replace("NAME", "fails") + "raise SystemExit('no memory')",
        "hangs": count.replace("NAME", "hangs") + "import time; time.sleep(600)",
    }
    monkeypatch.setattr(compilation, "_OWN_PROGRAMS", programs)
    monkeypatch.setattr(compilation, "PART_SECONDS", 1.0)
    folder = tmp_path / "job"
    folder.mkdir()
    return folder


def test_each_part_is_compiled_once_for_all_jobs(parts: Path):
    assert compile_parts(parts, ["works"]) == []
    assert compile_parts(parts, ["works"]) == []
    assert (parts.parent / "works").read_text() == "x"


def test_a_part_that_fails_is_tried_again_and_then_left_to_the_run(parts: Path, monkeypatch):
    monkeypatch.setattr(compilation, "PART_SECONDS", 30.0)
    assert compile_parts(parts, ["once", "fails"]) == [
        "The part 'fails' of the engine was left to the first run to compile: it failed: no memory"
    ]
    assert (parts.parent / "once").read_text() == "xx"
    assert (parts.parent / "fails").read_text() == "xx"


def test_a_part_that_takes_too_long_is_left_to_the_run(parts: Path):
    (said,) = compile_parts(parts, ["hangs"])
    assert said == "The part 'hangs' of the engine was left to the first run to compile: it took longer than 1 s"


def test_the_job_says_which_part_is_at_work_and_how_long_it_will_take(parts: Path):
    compile_parts(parts, ["hangs"])
    assert (parts / "doing.txt").read_text() == "compiles the engine, once: 0 of 1 parts (hangs), about 10 s left"


def test_only_what_a_job_needs_is_compiled():
    assert parts_of_deterministic() == ("terms",)
    assert "terms" not in parts_of_stochastic(["GUL"], event_losses=False, period_losses=True)
    assert "event losses" in parts_of_stochastic(["GUL", "IL"], event_losses=True, period_losses=False)


def test_checkouts_share_the_compiled_code_of_their_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "one"))
    folder = compiled_folder()
    monkeypatch.setenv("IRP_HOME", str(tmp_path / "two"))
    assert compiled_folder() == folder
    assert folder.is_relative_to(tmp_path / "cache")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)  # somebody else could put code there
    assert compiled_folder().is_relative_to(tmp_path / "two")


def test_functions_of_lookups_are_forgotten_and_all_others_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    lookups = tmp_path / "lookup_dd98fc82"
    lookups.mkdir()
    forgotten = [
        lookups / f"builtin.Lookup.build_fixed_size_geo_grid.locals.get_id-899.py311{ending}"
        for ending in (".nbi", ".1.nbc", ".65.nbc")
    ]
    kept = [lookups / "builtin.z_index-12.py311.nbi", tmp_path / "fm_9ce8" / "manager.locals.run-1.py311.nbi"]
    for path in (*forgotten, *kept):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    forget_lookups()
    assert not any(path.exists() for path in forgotten)
    assert all(path.exists() for path in kept)
    forget_lookups()


def test_irp_model_check_says_what_a_model_has_without_running_it(model: Path, tmp_path: Path):
    arguments = ["model", "check", str(model), "--no-run"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    for words in ("tests tiny-module", "WTC", "event_set", "default p"):
        assert words in found.stdout
    data = tmp_path / "models" / "model_data"
    (data / "vulnerability.bin").rename(data / "vulnerability.csv")
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 1
    assert "csvtobin" in found.stdout
