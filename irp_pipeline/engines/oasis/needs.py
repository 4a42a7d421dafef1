"""What an analysis by Oasis LMF needs of an exposure, as far as this is known without running the model.

A deterministic run uses locations and accounts, and needs no coordinates. The needs of a catastrophe model follow from
the steps of its lookup, if these are built into Oasis LMF; a lookup module of the model itself reveals nothing.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from irp_pipeline.engines.oasis import DETERMINISTIC
from irp_pipeline.engines.oasis.failures import OasisError
from irp_pipeline.engines.oasis.model import Model, read_model, read_object
from irp_pipeline.exposure.oed import OedTable, is_required, known_spelling
from irp_pipeline.exposure.validation.needs import Needs, needs_of_perspectives

_COORDINATES = frozenset({"Latitude", "Longitude"})
_OWN_MODULE = "the model finds locations by a module of its own, which does not say what it needs"
_UNREADABLE = "the model's lookup could not be read"
_NO_MODEL = "the model is not known"


def needs(analysis: Mapping[str, Any], model: Path | None = None) -> Needs:
    """Say what an analysis needs of its portfolio.

    Args:
        analysis: a row of the sheet Analyses.
        model: where its model is: the folder, or the configuration file.
    """
    needed = needs_of_perspectives([str(perspective) for perspective in analysis.get("perspectives", ())])
    if analysis.get("engine") == DETERMINISTIC:
        return needed | Needs(
            tables={
                OedTable.LOCATION: "deterministic losses are shares of the insured values of locations",
                OedTable.ACCOUNT: "Oasis LMF asks for the accounts, whatever losses are wanted",
            }
        )
    if model is None:
        return needed | Needs(unknown=(_NO_MODEL,))
    try:
        return needed | _needs_of_lookup(read_model(model, analysis.get("model_options")))
    except (
        OasisError,
        OSError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ):  # the check of the model reports it
        return needed | Needs(unknown=(_UNREADABLE,))


def _needs_of_lookup(model: Model) -> Needs:
    file = model.path("lookup_config_json")
    lookup = read_object(file) if file is not None else {}
    if model.configuration.get("lookup_module_path") or lookup.get("lookup_module_path") or not lookup.get("strategy"):
        return Needs(unknown=(_OWN_MODULE,))
    asked = dict.fromkeys(_columns(lookup))
    columns = {known for name in asked if (known := known_spelling(OedTable.LOCATION, name)) is not None}
    of_accounts = "polperilscovered" in asked and "LocPerilsCovered" not in columns
    reason = f"the model {model.name} places locations by it"
    return Needs(
        tables={} if of_accounts else {OedTable.LOCATION: f"the model {model.name} places locations"},
        location_columns={column: reason for column in sorted(columns) if not is_required(OedTable.LOCATION, column)},
        filled_columns=_COORDINATES & columns,
    )


def _columns(lookup: Mapping[str, Any]) -> Iterator[str]:
    """The columns, in lower case, without which the lookup stops.

    A step of type ``combine`` tries several ways and skips those whose columns are missing, so these columns are not
    required.
    """
    steps = lookup["step_definition"]
    for name in lookup["strategy"]:
        yield from (str(column).lower() for column in steps[name].get("columns", ()))
