"""The exposure at a glance in a report: collecting it, and how its values are formatted.

Not here: the map (:mod:`irp_pipeline.report.maps`), and computing the profile (:mod:`irp_pipeline.exposure.profile`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from irp_pipeline.cycle_files import EXPOSURE
from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.profile.changes import TITLES, fields_of, shown_value
from irp_pipeline.exposure.profile.records import RADII, Circle, Known
from irp_pipeline.helpers.artefact import ArtefactError, list_artefacts
from irp_pipeline.helpers.cycle import Cycle
from irp_pipeline.helpers.exposure_profile import find_profile, profiled_cycle_before
from irp_pipeline.report.display import percentage
from irp_pipeline.report.exposure_section import ExposureSection
from irp_pipeline.report.maps import classes, draw_map
from irp_pipeline.store import StoreError

if TYPE_CHECKING:
    import jinja2


def prepare_exposure(environment: jinja2.Environment) -> None:
    """Give a template what the section needs beside its content."""
    environment.filters |= {
        "compact": compact,
        "percent": percent,
        "place": place,
        "radius": radius,
        "percentage": percentage,
    }
    environment.globals |= {
        "coordinates": Known.COORDINATES,
        "draw_map": draw_map,
        "fields_of": fields_of,
        "map_classes": classes,
        "radii": RADII,
        "shown_value": shown_value,
        "titles": TITLES,
    }


def compact(value: float) -> str:
    """Format an amount with three significant digits, such as ``1.25 m``."""
    for size, letters in ((1e12, "tn"), (1e9, "bn"), (1e6, "m"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:,.3g} {letters}" if abs(value) < 1000 * size else f"{value / size:,.0f} {letters}"
    return f"{value:,.3g}"


def percent(value: float) -> str:
    """Format a percentage. What is not all of something is not 100 %, and what is not nothing is not 0 %."""
    if 0 < value < 0.1:
        return "< 0.1%"
    if 99.9 < value < 100:
        return "> 99.9%"
    return f"{value:.1f}%" if value < 99.95 else f"{value:.0f}%"


def place(circle: Circle) -> str:
    """Format where the centre of a circle is."""
    north, east = "N" if circle.latitude >= 0 else "S", "E" if circle.longitude >= 0 else "W"
    return f"{abs(circle.latitude):.4f}° {north}, {abs(circle.longitude):.4f}° {east}"


def radius(metres: int) -> str:
    """Format the radius of a circle."""
    return f"{metres / 1000:g} km" if metres >= 1000 else f"{metres} m"


def collect_exposure(cycle: Cycle) -> ExposureSection | None:
    """Collect the exposure of a cycle at a glance; None if its step has not run.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    try:
        profile = find_profile(cycle)
    except (ArtefactError, ExposureError, StoreError) as error:
        return ExposureSection(None, None, None, str(error), _hashes(cycle))
    if profile is None:
        return None
    other = profiled_cycle_before(cycle)
    hashes = _hashes(cycle)
    if other is None:
        return ExposureSection(profile, None, None, None, hashes)
    hashes |= {f"before {key}": value for key, value in _hashes(other).items()}
    try:
        return ExposureSection(profile, find_profile(other), other.cycle_name, None, hashes)
    except (ArtefactError, ExposureError, StoreError) as error:
        problem = f"There is no comparison with {other.cycle_name}: {error}"
        return ExposureSection(profile, None, other.cycle_name, problem, hashes)


def _hashes(cycle: Cycle) -> dict[str, str]:
    return {key: artefact.content_hash for key, artefact in list_artefacts(cycle.id, EXPOSURE).items()}
