"""A chart as an output of a cell: interactive where Jupyter can draw it, and a picture everywhere else."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_KIND: Final = "application/vnd.vegalite.v5+json"
_SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v5.json"
"""JupyterLab 4 has version 5 of Vega-Lite, and warns of another; these charts use nothing newer."""
_SCALE: Final = 2
_WIDTH: Final = slice(16, 20)
"""Where a PNG says how many pixels wide it is. https://www.w3.org/TR/png-3/#11IHDR"""


@dataclass(frozen=True)
class Chart:
    """A chart that a cell of a notebook shows.

    It carries its specification and a picture of it. JupyterLab draws the first without the network; whatever cannot
    draw it, such as an exported page or a viewer of files, shows the second.

    Attributes:
        specification: a Vega-Lite specification, including the data.
        said: the chart in words, for a console.
    """

    specification: Mapping[str, Any] = field(repr=False)
    said: str

    def png(self) -> bytes:
        """Draw the chart as it looks before anything in it is chosen, as a PNG image."""
        import vl_convert as vlc

        image: bytes = vlc.vegalite_to_png(dict(self.specification), scale=_SCALE)
        return image

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what IPython displays, by its kind; and how wide the picture is shown, which has more pixels.

        https://ipython.readthedocs.io/en/stable/config/integrating.html#custom-methods
        """
        image = self.png()
        shown = {
            "text/plain": self.said,
            "image/png": b64encode(image).decode(),
            _KIND: {**self.specification, "$schema": _SCHEMA},
        }
        return shown, {"image/png": {"width": int.from_bytes(image[_WIDTH]) // _SCALE}}
