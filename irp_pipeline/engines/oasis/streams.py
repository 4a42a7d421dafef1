"""Loss streams of the kernel: binary files such as ``ils.bin``.

After a header of two integers, there is a block for each event and item: event and item, then pairs of sample and loss
up to a pair of zeros. All numbers have four bytes (``oasislmf/pytools/common/event_stream.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from irp_pipeline.engines.oasis.failures import OasisError

if TYPE_CHECKING:
    import numpy as np

_HEAD_BYTES = 8


def read_losses(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Read a loss stream.

    Returns:
        Item (or output), sample and loss of each entry; samples from 1, in double precision.

    Raises:
        OasisError: the file is missing or not such a stream.
    """
    import numpy as np

    try:
        whole = np.fromfile(path, dtype=np.int32, offset=_HEAD_BYTES)
    except OSError as error:
        raise OasisError(f"Oasis LMF wrote no {path.name}: {error.strerror or error}") from None
    if len(whole) % 2:
        raise OasisError(f"{path.name} of Oasis LMF is no stream of losses: it ends in the middle of a number pair")
    pairs = whole.reshape(-1, 2)
    ends = np.flatnonzero(pairs[:, 0] == 0)
    if len(pairs) and (not len(ends) or ends[-1] != len(pairs) - 1):
        raise OasisError(f"{path.name} of Oasis LMF is no stream of losses: its last item has no end")
    heads = np.concatenate([np.zeros(min(1, len(pairs)), dtype=ends.dtype), ends[:-1] + 1])
    of_each = pairs[heads].copy().view(np.int64).ravel()  # event and item as one number
    if len(np.unique(of_each)) != len(of_each):
        numbers, counts = np.unique(pairs[heads], axis=0, return_counts=True)
        event, item = (int(number) for number in numbers[counts > 1][0])
        raise OasisError(f"{path.name} of Oasis LMF has the losses of event {event} and item {item} twice")
    lengths = ends - heads + 1
    items = np.repeat(pairs[heads, 1], lengths)
    is_loss = np.ones(len(pairs), dtype=bool)
    is_loss[heads] = is_loss[ends] = False
    is_loss &= pairs[:, 0] > 0
    losses = pairs[:, 1].copy().view(np.float32).astype(np.float64)
    return items[is_loss], pairs[is_loss, 0], losses[is_loss]
