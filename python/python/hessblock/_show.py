"""Heat maps and tables of results."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Sequence
from typing import Any

from . import _core
from ._errors import RequestError


class Shown:
    """A view of a result: norms, traces and zeros by layer, and heat maps on a signed logarithmic scale.

    A notebook shows picture and table. `print` gives the table.
    """

    def __init__(self, shown: _core.Shown) -> None:
        self._shown = shown

    @property
    def title(self) -> str:
        """The matrix and the network."""
        return self._shown.title

    @property
    def table(self) -> str:
        """The table of every part, with a row for each block between its layers."""
        return self._shown.table()

    def to_dict(self) -> dict[str, Any]:
        """Returns all that was found, with the keys of `hessblock show --json`."""
        found: dict[str, Any] = json.loads(self._shown.json())
        return found

    def html(self) -> str:
        """Returns a page whose pictures show the entry under the pointer. It needs no other file."""
        return self._shown.html()

    def png(self) -> bytes:
        """Returns the pictures as PNG."""
        return self._shown.png()

    def svg(self) -> str:
        """Returns the pictures as SVG."""
        return self._shown.svg()

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes a picture or the page, by the ending of the path: `.png`, `.svg` or `.html`.

        Raises:
            RequestError: The path has another ending.
            FileExistsError: The file exists, and `overwrite` is False.
        """
        place = os.fspath(path)
        ending = os.path.splitext(place)[1].lower()
        if ending not in (".png", ".svg", ".html"):
            raise RequestError(f"{place}: the name must end in .png, .svg or .html")
        content = self.png() if ending == ".png" else (self.svg() if ending == ".svg" else self.html()).encode()
        with open(place, "wb" if overwrite else "xb") as file:
            file.write(content)

    def __repr__(self) -> str:
        return f"{self.title}\n\n{self.table}".rstrip()

    def _repr_png_(self) -> bytes:
        return self.png()

    def _repr_html_(self) -> str:
        return f"{picture(self.png(), self.title)}<pre>{html.escape(self.table)}</pre>"


def picture(png: bytes, title: str) -> str:
    """Returns an HTML image that holds its own bytes."""
    data = base64.b64encode(png).decode()
    return f'<img style="max-width: 100%" alt="{html.escape(title)}" src="data:image/png;base64,{data}">'


def show(
    path: str | os.PathLike[str],
    *,
    parts: Sequence[str] = (),
    layer: str | tuple[str, str] | None = None,
    range: tuple[tuple[int, int], tuple[int, int]] | None = None,
    size: int = 800,
) -> Shown:
    """Reads a result on disk once and shows it: a heat map, norms, traces and zeros by layer.

    Args:
        path: The path that the result was written to.
        parts: The names of parts, such as `"layer=fc1"`; by default all.
        layer: Zooms to the block of a layer, or to the block between two.
        range: Zooms to the flat ranges (rows, columns), each (start, stop).
        size: Pixels of the longer side of a single picture.

    Raises:
        FileError: There is no result at the path.
        RequestError: The result has no such part, layer or range.
    """
    zoom = (layer, None) if isinstance(layer, str) else layer
    flat = None if range is None else (*range[0], *range[1])
    return Shown(_core.show(os.fspath(path), parts=list(parts), layer=zoom, range=flat, size=size))
