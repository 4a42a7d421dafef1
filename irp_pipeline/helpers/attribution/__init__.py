"""Attribution: the change of losses between two cycles, split by what changed, so that the parts add up.

From the earlier cycle to the later one, exposure, financial terms, model and settings change one after the other, in an
order that can be chosen. What lies between is run as a batch of its own. The first part is the engine: the earlier
cycle run again today, against what was recorded.

``errors``, ``factors``
    the exception of this package; what changes, and which parameter belongs to what.
``planning``
    which jobs must be run, with the files of both cycles, kept with the later one.
``parts``, ``recording``
    the parts with the error of sampling of each; saving and reading them.
``running``
    all of it together.
"""

from irp_pipeline.helpers.attribution.errors import AttributionError
from irp_pipeline.helpers.attribution.factors import USUAL_ORDER, Factor, order_of
from irp_pipeline.helpers.attribution.parts import Part, Point
from irp_pipeline.helpers.attribution.recording import Attribution, find_attribution
from irp_pipeline.helpers.attribution.running import Attributed, attribute

__all__ = [
    "USUAL_ORDER",
    "Attributed",
    "Attribution",
    "AttributionError",
    "Factor",
    "Part",
    "Point",
    "attribute",
    "find_attribution",
    "order_of",
]
