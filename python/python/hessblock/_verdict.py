"""Random entries of a result compared with the definition of the matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._progress import Progress
from ._record import Record

if TYPE_CHECKING:
    from ._operator import Operator

# As in the library (src/verify.rs): what an entry may be off by, and the least scale that it is measured by.
_TOLERANCE = {"float32": 1e-5, "float64": 1e-11}
_FLOOR = {"float32": 1e-4, "float64": 1e-7}
_VANISHING = 1e-12


class Verdict(Record):
    """What a comparison with the definition found. It is true where all entries are right.

    `worst` has the entry with the largest error: `part`, `row` and `column` in the flat order, `found`, `expected`,
    and `error`, relative to the entry's scale. `tolerance` is the largest error that passes.
    """

    def __bool__(self) -> bool:
        return bool(self["passed"])

    def __repr__(self) -> str:
        worst = self["worst"]
        state = "passed" if self else "FAILED"
        return (
            f"Verdict({state}: {self['entries']:,} entries, worst {worst.error:.1e} of its "
            f"scale (tolerance {self['tolerance']:.0e}) at ({worst.row}, {worst.column}) of {worst.part}: "
            f"{worst.found!r} for {worst.expected!r})"
        )


def random_places(shape: tuple[int, ...], entries: int, seed: int) -> list[NDArray[np.intp]]:
    """Returns random positions along each axis.

    Raises:
        ValueError: There is no entry to take.
    """
    if entries < 1 or 0 in shape:
        raise ValueError(f"{entries} entries of an array of shape {list(shape)}: one is needed at least")
    draws = np.random.default_rng(seed)
    return [draws.integers(0, extent, entries) for extent in shape]


def compare(
    operator: Operator,
    part: str,
    found: NDArray[np.float64],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    *,
    precision: str | None = None,
    progress: Progress = None,
) -> Verdict:
    """Compares entries at flat rows and columns with the definition.

    The error of an entry (i, j) is taken against √(G_ii·G_jj), which bounds |G_ij| where G is positive semi-definite,
    or against a small share of the largest entry met where that is more; in an indefinite matrix against the largest
    entry met.
    """
    pairs = [(int(i), int(j)) for i, j in zip(rows, columns, strict=True)]
    diagonal = sorted({i for pair in pairs for i in pair})
    values = operator.entries(pairs + [(i, i) for i in diagonal], progress=progress)
    expected, own = values[: len(pairs)], dict(zip(diagonal, values[len(pairs) :], strict=True))
    kind = precision or str(operator.dtype)
    largest = max(float(np.abs(values).max()), np.finfo(float).tiny)
    if operator.is_indefinite:
        scales = np.full(len(pairs), largest)
    else:
        squares = np.array([max(own[i], 0.0) * max(own[j], 0.0) for i, j in pairs])
        scales = np.sqrt(squares)
        vanishing = scales < largest * _VANISHING
        scales = np.where(vanishing, largest, np.maximum(scales, largest * _FLOOR[kind]))
    errors = np.abs(found - expected) / scales
    errors[~np.isfinite(errors)] = np.inf
    worst = int(np.argmax(errors))
    entry: dict[str, Any] = {
        "part": part,
        "row": pairs[worst][0],
        "column": pairs[worst][1],
        "found": float(found[worst]),
        "expected": float(expected[worst]),
        "error": float(errors[worst]),
    }
    tolerance = _TOLERANCE[kind]
    fields = {"entries": len(pairs), "worst": entry, "tolerance": tolerance, "passed": entry["error"] <= tolerance}
    return Verdict(fields)
