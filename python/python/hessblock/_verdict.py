"""The comparison of random entries of a result with the definition of the matrix."""

from __future__ import annotations

from ._record import Record


class Verdict(Record):
    """The outcome of a comparison with the definition. It is true if all entries are right.

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
