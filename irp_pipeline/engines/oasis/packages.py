"""What a model needs besides its own files: Python packages, and columns of the portfolio."""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.hashes import named_files
from irp_pipeline.engines.oasis.model import Model, read_object

_OF_STEPS: Final[Mapping[str, tuple[str, ...]]] = {
    "rtree": ("shapely", "geopandas"),
    "h3": ("h3",),
    "h3_lookup": ("h3",),
    "geotiff": ("osgeo",),
}
"""The packages that steps of Oasis LMF's own lookup import, by the type of the step."""
_NEAREST: Final = frozenset({"nearest_neighbor_max_distance", "nearest_neighbor_min_distance"})
_IN_EXTRA: Final = frozenset({"shapely", "geopandas", "sklearn", "rtree", "h3"})
_BROUGHT: Final = frozenset({"oasislmf", "ods_tools", "numpy", "pandas", "numba", "pyarrow", "scipy"})
"""The packages that Oasis LMF itself installs."""
_CALLED: Final = {"sklearn": "scikit-learn", "osgeo": "gdal", "yaml": "pyyaml", "cv2": "opencv-python"}
"""The name under which a package is installed, if it differs from the imported name."""


@dataclass(frozen=True)
class Need:
    """A Python package that a model needs.

    Attributes:
        package: the name under which it is imported.
        why: what imports it.
        is_there: whether it is installed.
    """

    package: str
    why: str
    is_there: bool

    @property
    def remedy(self) -> str:
        """How to install it."""
        if self.package in _IN_EXTRA:
            return "pip install 'irp-pipeline[oasis]'"
        return f"pip install {_CALLED.get(self.package, self.package)}"


def packages_needed(model: Model) -> list[Need]:
    """Return the Python packages that a model's lookup and hooks import, without those that Oasis LMF installs.

    Raises:
        OasisError: the model's configuration names something that is not there.
    """
    found: dict[str, str] = {}
    for package, why in (*_of_lookup(model), *_of_modules(model)):
        found.setdefault(package, why)
    return [Need(package, why, find_spec(package) is not None) for package, why in sorted(found.items())]


def check_packages(model: Model) -> None:
    """Refuse a model that needs packages which are not installed.

    Raises:
        OasisError: packages are missing; the message names all of them, and says how to install them.
    """
    missing = [need for need in packages_needed(model) if not need.is_there]
    if missing:
        named = ", ".join(f"{need.package} ({need.why})" for need in missing)
        remedies = "; ".join(dict.fromkeys(need.remedy for need in missing))
        raise OasisError(
            f"The model {model.name} needs Python packages that are not installed: {named}. Run: {remedies}"
        )


def lookup_columns(model: Model) -> list[str]:
    """Return the columns of the location table that the configuration of the lookup names."""
    columns: set[str] = set()
    for step in _steps(model).values():
        named = step.get("columns") if isinstance(step, Mapping) else None
        columns |= {str(column) for column in named or ()}
    return sorted(columns)


def _steps(model: Model) -> Mapping[str, Any]:
    file = model.path("lookup_config_json")
    content = read_object(file) if file is not None else model.configuration.get("lookup_config")
    steps = content.get("step_definition") if isinstance(content, Mapping) else None
    return steps if isinstance(steps, Mapping) else {}


def _of_lookup(model: Model) -> Iterator[tuple[str, str]]:
    for name, step in _steps(model).items():
        if not isinstance(step, Mapping):
            continue
        kind = str(step.get("type"))
        for package in _OF_STEPS.get(kind, ()):
            yield package, f"step {name} of its lookup"
        parameters = step.get("parameters")
        if kind == "rtree" and isinstance(parameters, Mapping) and parameters.keys() & _NEAREST:
            yield "sklearn", f"step {name} of its lookup"


def _of_modules(model: Model) -> Iterator[tuple[str, str]]:
    files = [file for _, file in named_files(model) if file.suffix == ".py"]
    own = {file.stem for file in files} | {file.parent.name for file in files}
    for file in files:
        for package in _imports(file):
            if package not in own | _BROUGHT | sys.stdlib_module_names and not (file.parent / package).is_dir():
                yield package, file.name


def _imports(file: Path) -> set[str]:
    """The packages that a module requires when it is imported; without optional ones."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        raise OasisError(f"{file} cannot be read as Python: {error}") from None
    found: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            found |= {name.name.partition(".")[0] for name in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            found.add(statement.module.partition(".")[0])
    return found
