"""Sizes and times as people read and write them."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import SupportsIndex

from ._errors import RequestError

# A bare letter means the binary unit, as on the command line.
_UNITS = {
    "": 1,
    "b": 1,
    "k": 1 << 10,
    "m": 1 << 20,
    "g": 1 << 30,
    "t": 1 << 40,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zA-Z]*)\s*")


def parse_bytes(size: str | SupportsIndex | None, what: str = "size") -> int | None:
    """Returns a memory size in bytes.

    Args:
        size: A number of bytes, or text such as `"2GiB"`, `"1.5 GB"` or `"512m"`. None gives None.
        what: The name of the argument, for the message.

    Raises:
        RequestError: The text is not a size, or the size is not positive.
    """
    if size is None:
        return None
    if not isinstance(size, str):
        value = operator.index(size)
    else:
        found = _SIZE.fullmatch(size)
        unit = None if found is None else _UNITS.get(found[2].lower())
        if found is None or unit is None:
            raise RequestError(f"{what}={size!r} is not a size: write it such as 512MiB or 2GiB, or as a number of bytes")
        value = int(float(found[1]) * unit)
    if value <= 0:
        raise RequestError(f"{what}={size!r} is not positive: give a positive size, or None for a share of what is free")
    return value


def format_bytes(count: int) -> str:
    """Returns a number of bytes in binary units, such as `7.4 GiB`."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    for unit in units[:-1]:
        if value < 1024:
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} {units[-1]}"


def format_seconds(seconds: float) -> str:
    """Returns a duration such as `12.0 ms`, `3.42 s`, `5 min` or `2.1 h`."""
    if seconds < 0.0995:
        return f"{1e3 * seconds:.1f} ms"
    if seconds < 9.95:
        return f"{seconds:.2f} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def format_shape(shape: Sequence[int]) -> str:
    """Returns a shape such as `1,374 × 204`."""
    return " × ".join(f"{extent:,}" for extent in shape) or "scalar"


def plural(count: int, noun: str) -> str:
    """Returns a count with its noun, such as `1 sample` or `1,797 samples`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
