"""The mathematics of losses: from the losses of sampled years to the figures of an analysis or a group of analyses.

No database here, no engine and no Dagster: only the tables that Oasis LMF writes in the Open Results Data standard.

``periods``
    reading period loss tables, and adding up the losses of each sampled year.
``figures``
    average annual loss, standard deviation and exceedance curves of sampled years.
``segments``
    parts of a portfolio that have figures of their own.
``metrics``
    metrics that distributions declare.
``groups``
    the same for several analyses together, and the reasons to refuse a group.
"""

from irp_pipeline.losses.figures import Figure, declared_figures, exceedance_curve, figures
from irp_pipeline.losses.groups import Member, group
from irp_pipeline.losses.metrics import DECLARED_METRICS, MetricDeclaration, SampledYears
from irp_pipeline.losses.periods import LossError, period_losses, segment_period_losses
from irp_pipeline.losses.segments import Segment, Segmentation

__all__ = [
    "DECLARED_METRICS",
    "Figure",
    "LossError",
    "Member",
    "MetricDeclaration",
    "SampledYears",
    "Segment",
    "Segmentation",
    "declared_figures",
    "exceedance_curve",
    "figures",
    "group",
    "period_losses",
    "segment_period_losses",
]
