"""The hook with which Oasis LMF gives the items of a run their amplification ids, once its files are generated.

Oasis LMF loads this module by its path. It imports nothing of this project.
"""

import csv
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Amplify:
    """Writes ``amplifications.bin``: the amplification id of each item, which follows from its location.

    Args:
        input_dir: the files of the run.
        post_file_gen_setting: ``amplification_of_row`` has the id of each row of the location table.
    """

    def __init__(self, input_dir: str, post_file_gen_setting: Mapping[str, Any], **_: Any) -> None:
        self._folder = Path(input_dir)
        self._ids = post_file_gen_setting["amplification_of_row"]

    def run(self) -> None:
        """Write the file.

        Raises:
            ValueError: the model has amplification ids of its own.
        """
        target = self._folder / "amplifications.bin"
        if target.exists():
            raise ValueError("The model has amplification ids of its own, which segment_multipliers would replace")
        with (self._folder / "gul_summary_map.csv").open(encoding="utf-8", newline="") as file:
            items = {int(row["item_id"]): self._ids[int(float(row["loc_idx"]))] for row in csv.DictReader(file)}
        # A header of four bytes; for each item, in order, its number and its amplification id.
        pairs = (struct.pack("<ii", item, items[item]) for item in sorted(items))
        target.write_bytes(b"\0\0\0\0" + b"".join(pairs))
