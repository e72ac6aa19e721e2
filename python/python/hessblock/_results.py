"""Results on disk: opened, checked, and put together."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _core
from ._errors import RequestError
from ._lazy import Bounds, Lazy, converted, count
from ._progress import Progress, reporting
from ._record import Record
from ._show import Shown, show
from ._units import format_bytes, format_shape
from ._vectors import Parameter
from ._verdict import Verdict
from ._writing import Path

if TYPE_CHECKING:
    from ._operator import Operator


class StoredBlock(Lazy):
    """A part of a result on disk. Only what is indexed is read."""

    def __init__(self, results: Results, number: int) -> None:
        self._results, self._number = results, number
        self._name, self._rows, self._columns = results._blocks.parts[number]

    @property
    def name(self) -> str:
        """The name of the part, such as `layer=fc1,fc2`."""
        return self._name

    @property
    def rows(self) -> list[Bounds]:
        """The rows as ascending half-open ranges of the flat order."""
        return list(self._rows)

    @property
    def columns(self) -> list[Bounds] | None:
        """The columns as ascending half-open ranges of the flat order; None for a vector."""
        return None if self._columns is None else list(self._columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows and, for a matrix, of columns."""
        rows = count(self._rows)
        return (rows,) if self._columns is None else (rows, count(self._columns))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers on disk."""
        return self._results.dtype

    def _whole(self) -> NDArray[Any]:
        columns = None if self._columns is None else (0, self.shape[1])
        return self._part((0, self.shape[0]), columns)

    def _part(self, rows: Bounds, columns: Bounds | None) -> NDArray[Any]:
        precision = "f64" if self.dtype == np.float64 else "f32"
        return self._results._blocks.read(self._number, rows, columns, precision)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError(f"{self._name} is on disk, and reading it needs new memory: leave copy=False out")
        return converted(self._whole(), dtype, None)

    def __repr__(self) -> str:
        return f"StoredBlock({self._name} in {self._results.path}: {format_shape(self.shape)}, {self.dtype})"


class Results(Mapping[str, StoredBlock]):
    """A result on disk: its parts by name, and its provenance.

    `results["layer=fc1"]` or, for a layer's own block, `results["fc1"]` is a part that is read where it is indexed.
    """

    def __init__(self, path: Path) -> None:
        self.path = os.fspath(path)
        """The path that the result was written to."""
        self._blocks = _core.Blocks.open(self.path)
        self._parts = {part[0]: StoredBlock(self, k) for k, part in enumerate(self._blocks.parts)}

    @property
    def provenance(self) -> Record:
        """The origin of the result: files with hashes, samples, loss, matrix, device, options, date."""
        return Record(json.loads(self._blocks.provenance))

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters in the flat order: name, layer, shape, offset, size."""
        return [Parameter(name, layer, tuple(shape), offset) for name, layer, shape, offset in self._blocks.parameters]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers on disk."""
        found = json.loads(self._blocks.provenance).get("precision")
        return np.dtype(np.float32 if found == "f32" else np.float64)

    def __getitem__(self, name: str) -> StoredBlock:
        found = self._parts.get(name) or self._parts.get(f"layer={name}")
        if found is None:
            raise KeyError(f"there is no part {name!r} in {self.path}; there are {', '.join(self._parts)}")
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._parts or f"layer={name}" in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def show(self, **options: Any) -> Shown:
        """Shows the result; see `hessblock.show`."""
        return show(self.path, **options)

    def __repr__(self) -> str:
        total = sum(part.nbytes for part in self._parts.values())
        lines = [f"  {name}  {format_shape(part.shape)}" for name, part in self._parts.items()]
        return f"Results({self.path}: {self.dtype}, {format_bytes(total)})\n" + "\n".join(lines)


def open(path: Path) -> Results:
    """Opens a result on disk. Nothing is read until a part is indexed.

    Args:
        path: The path that the result was written to: `FILE.npy`, `NAME.zarr`, `FILE.safetensors` or a folder.

    Raises:
        FileError: There is no result of hessblock at the path.
    """
    return Results(path)


def verify(
    path: Path,
    operator: Operator | None = None,
    *,
    entries: int = 64,
    seed: int = 0,
    progress: Progress = None,
) -> Verdict:
    """Compares random entries of a result on disk with the definition of the matrix, in double precision on the CPU.

    Args:
        path: The path that the result was written to.
        operator: The matrix that the result is of, with the weights and data that it was made from. A result of the
            command line names its files, and needs none.
        entries: The number of entries.
        seed: Chooses the entries.
        progress: True for a bar, or a callable `(done, total)`.

    Returns:
        A verdict that is true where all entries are right, with the worst entry.

    Raises:
        FileError: A file is not the one that the result was made from.
        RequestError: The result names no files, and `operator` is None.
    """
    place = os.fspath(path)
    with reporting(progress, "verify") as report:
        if operator is None:
            try:
                found = _core.verify(place, entries=entries, seed=seed, progress=report)
            except RequestError as error:
                if "does not say what it was made from" not in str(error):
                    raise
                raise RequestError(f"{place}: {error}: pass the operator, as in hb.verify(path, operator)") from None
        else:
            found = _core.verify_against(operator._core(), place, entries=entries, seed=seed, progress=report)
    return Verdict(json.loads(found))


def merge(path: Path, *, overwrite: bool = False, progress: Progress = None) -> Record:
    """Checks and finishes a result whose tiles several processes made with `to_zarr(…, shard=(k, n))`.

    Args:
        path: The path that the processes wrote to.
        overwrite: Whether an older result of hessblock at that path is replaced.
        progress: True for a bar, or a callable `(done, total)`.

    Returns:
        A record of what was merged.

    Raises:
        FileError: A tile is missing or damaged; the message names the shards to run again.
    """
    with reporting(progress, "merge") as report:
        return Record(_core.merge(os.fspath(path), overwrite=overwrite, progress=report))
