"""What a notebook shows: progress that is updated in place, and tables and charts of losses.

Everything appears in the output of a cell. There is no server, no script of ours in the notebook, and no network.

``errors``
    the exception of this package.
``progress``
    the progress of a cycle or a batch, once or followed.
``losses``
    losses and comparisons as tables and charts.
``chart``
    a chart as an output of a cell.
"""

from irp_pipeline.display.chart import Chart
from irp_pipeline.display.errors import DisplayError
from irp_pipeline.display.losses import show_compared_curves, show_comparison, show_curves, show_losses
from irp_pipeline.display.progress import Progress, follow_batch, follow_cycle, show_progress

__all__ = [
    "Chart",
    "DisplayError",
    "Progress",
    "follow_batch",
    "follow_cycle",
    "show_compared_curves",
    "show_comparison",
    "show_curves",
    "show_losses",
    "show_progress",
]
