"""Several parts of a matrix that are computed together, and the command line's names of parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._block import Block
from ._errors import RequestError
from ._lazy import Bounds
from ._progress import Progress, reporting
from ._units import format_bytes, format_shape
from ._writing import Writable

if TYPE_CHECKING:
    from ._operator import Operator

Range = slice | range | Bounds
"""Consecutive flat indices: a slice or range of step 1, or (start, stop)."""


class Parts(Writable, Mapping[str, Block]):
    """Several parts of one matrix, by name, which share their passes when they are computed or written together.

    `parts["layer=fc1"]` or, for a layer's own block, `parts["fc1"]` is a `Block`.
    """

    def __init__(self, operator: Operator, specs: Iterable[tuple[Any, ...]]) -> None:
        self._operator, self._specs = operator, list(dict.fromkeys(specs))
        rows = self._request().parts
        self._blocks = {row[0]: Block(operator, row, spec) for row, spec in zip(rows, self._specs, strict=True)}

    def __getitem__(self, name: str) -> Block:
        found = self._blocks.get(name) or self._blocks.get(f"layer={name}")
        if found is None:
            raise KeyError(f"there is no part {name!r}; there are {', '.join(self._blocks)}")
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._blocks or f"layer={name}" in self._blocks

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def nbytes(self) -> int:
        """The bytes of all parts."""
        return sum(block.nbytes for block in self._blocks.values())

    def compute(self, *, progress: Progress = None) -> dict[str, NDArray[Any]]:
        """Computes all parts together, and keeps the numbers in the blocks.

        Args:
            progress: True for a bar, or a callable `(done, total)`.

        Returns:
            Read-only arrays by the parts' names.
        """
        if not all(block.is_computed for block in self._blocks.values()):
            for block in self._blocks.values():
                block.free()
            version = self._operator.problem.version
            with reporting(self._progress(progress), "parts") as report:
                arrays = self._request().to_arrays(progress=report)
            for block, array in zip(self._blocks.values(), arrays, strict=True):
                block._keep(array, version)
        return {name: block.compute() for name, block in self._blocks.items()}

    def free(self) -> None:
        """Forgets the numbers of all parts."""
        for block in self._blocks.values():
            block.free()

    def _request(self) -> _core.Request:
        return self._operator._core().parts(self._specs)

    def _progress(self, progress: Progress) -> Progress:
        return self._operator.problem._progress_of(progress)

    def __repr__(self) -> str:
        lines = [f"  {name}  {format_shape(block.shape)}" for name, block in self._blocks.items()]
        return f"Parts of {self._operator.label}, {format_bytes(self.nbytes)}:\n" + "\n".join(lines)


def specs(operator: Operator, part: str | tuple[str, str] | Block) -> list[tuple[Any, ...]]:
    """Returns the compiled module's requests for a part: one, or one for each layer.

    Raises:
        RequestError: The text has no such form, or the block is one of another matrix.
    """
    if isinstance(part, Block):
        if part.operator is not operator:
            raise RequestError(f"{part!r} is a part of another matrix: give blocks of {operator.label} made by the same operator")
        return [part._spec]
    if not isinstance(part, str):
        return [("layer", *part)]
    kind, equals, names = part.partition("=")
    if part == "layers":
        return [("layer", layer.name, None) for layer in operator.problem.layers]
    if part in ("full", "diag", "diagonal"):
        return [("full",) if part == "full" else ("diagonal",)]
    if not equals or kind not in ("layer", "param", "range"):
        return [("layer", part, None)]
    if kind == "range":
        return [_parsed(part, names)]
    known = [x.name for x in (operator.problem.layers if kind == "layer" else operator.problem.parameters)]
    return [(kind, *_pair(names, known))]


def ranges(given: Range | Sequence[Bounds], size: int) -> tuple[Bounds, ...]:
    """Returns flat ranges, of an axis of `size` entries, as pairs.

    Raises:
        RequestError: A slice or range has a step.
    """
    if isinstance(given, slice):
        given = range(*given.indices(size))
    if isinstance(given, range):
        if given.step != 1:
            raise RequestError(f"{given} has a step: rows and columns are consecutive; index the block to take every n-th")
        return ((given.start, given.stop),)
    pairs: Any = given
    if len(pairs) == 2 and all(isinstance(bound, (int, np.integer)) for bound in pairs):
        pairs = [pairs]
    return tuple((int(start), int(stop)) for start, stop in pairs)


def rectangle(rows: tuple[Bounds, ...], columns: tuple[Bounds, ...]) -> tuple[Any, ...]:
    """Returns the request for a rectangle."""
    if len(rows) == len(columns) == 1:
        return ("range", *rows[0], *columns[0])
    return ("rectangle", rows, columns)


def _parsed(part: str, text: str) -> tuple[Any, ...]:
    """Returns the request for `0..10,5..9`, or for several ranges an axis, `0..10+15..20,5..9`."""
    try:
        rows, columns = (
            tuple((int(start), int(stop)) for start, stop in (one.split("..") for one in axis.split("+")))
            for axis in text.split(",")
        )
    except ValueError:
        raise RequestError(f"part {part!r} cannot be read: write range=R0..R1,C0..C1, such as range=0..10,5..9") from None
    return rectangle(rows, columns)


def _pair(names: str, known: Sequence[str]) -> tuple[str, str | None]:
    """Returns one name or two of `A` or `A,B`; names may hold commas themselves."""
    if names in known or "," not in names:
        return names, None
    commas = [k for k, letter in enumerate(names) if letter == ","]
    splits = [(names[:k], names[k + 1 :]) for k in commas]
    fitting = [split for split in splits if split[0] in known and split[1] in known]
    if len(fitting) > 1:
        raise RequestError(f"{names!r} can be read as several pairs of names: give the pair as (rows, columns)")
    return (fitting or splits)[0]
