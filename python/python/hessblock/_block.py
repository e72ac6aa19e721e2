"""Blocks of a matrix: lazy arrays that are computed when they are touched, or written to disk without being held."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._lazy import Bounds, Lazy, count, flat_index, ranges_between
from ._progress import Progress, reporting
from ._show import Shown
from ._units import format_bytes, format_shape
from ._vectors import is_jax, is_tensor, like, to_numpy
from ._verdict import Verdict
from ._writing import Writable

if TYPE_CHECKING:
    from ._operator import Operator

# A notebook computes blocks up to these sizes to show them, and describes larger ones: about a second on two cores.
_SHOWN_ENTRIES = 1 << 22
_SHOWN_OPERATIONS = 1 << 35


class Block(Writable, Lazy):
    """A rectangle of a matrix, or its diagonal. Nothing is computed until its numbers are needed.

    `np.asarray(block)` computes it once for the problem's weights and keeps the numbers; the array is read-only, as it
    is the block's own memory. `np.array(block)` makes a copy to write to. `block[:100, :100]` computes that rectangle
    only. `to_npy` and its like write without holding the block in memory. After `problem.update()` the block is
    that of the new weights.
    """

    def __init__(self, operator: Operator, part: _core.PartRow, spec: tuple[Any, ...]) -> None:
        self._operator = operator
        self._spec = spec
        self._name, self._rows, self._columns = part
        self._memory: NDArray[Any] | None = None
        self._version = -1

    def __getstate__(self) -> dict[str, Any]:
        # Another process computes it itself.
        return {**self.__dict__, "_memory": None, "_version": -1}

    @property
    def operator(self) -> Operator:
        """The matrix that the block is a part of."""
        return self._operator

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
        """The type of the numbers: the precision of the problem's device."""
        return self._operator.dtype

    @property
    def is_computed(self) -> bool:
        """Whether the numbers are there, for the problem's weights as they are now."""
        return self._memory is not None and self._version == self._operator.problem.version

    def compute(self, *, progress: Progress = None) -> NDArray[Any]:
        """Computes all numbers, once for the problem's weights, and keeps them.

        Args:
            progress: True for a bar, or a callable `(done, total)`.

        Returns:
            A read-only array; its memory is the block's own.

        Raises:
            BudgetError: The memory budget does not hold the result with the least work.
            NotFiniteError: A number is NaN or infinite.
        """
        memory = self._computed(progress).view()
        memory.flags.writeable = False
        return memory

    def _computed(self, progress: Progress) -> NDArray[Any]:
        if self._memory is None or not self.is_computed:
            self.free()
            version = self._operator.problem.version
            with reporting(self._progress(progress), self._name) as report:
                memory = self._request().to_arrays(progress=report)[0]
            self._keep(memory, version)
            return memory
        return self._memory

    def _keep(self, memory: NDArray[Any], version: int) -> None:
        self._memory, self._version = memory, version

    def free(self) -> None:
        """Forgets the numbers. Arrays that were handed over stay valid."""
        self._memory = None

    def _request(self) -> _core.Request:
        return self._operator._core().parts([self._spec])

    def _progress(self, progress: Progress) -> Progress:
        return self._operator.problem._progress_of(progress)

    def _whole(self) -> NDArray[Any]:
        return self.compute()

    def _shared(self) -> NDArray[Any]:
        return self._computed(None)

    def _part(self, rows: Bounds, columns: Bounds | None) -> NDArray[Any]:
        if columns is None or self._columns is None:
            return self.compute()[slice(*rows)]
        if self.is_computed:
            return self.compute()[slice(*rows), slice(*columns)]
        spec = ("rectangle", ranges_between(self._rows, *rows), ranges_between(self._columns, *columns))
        with reporting(self._progress(None), self._name) as report:
            return self._operator._core().parts([spec]).to_arrays(progress=report)[0]

    def __matmul__(self, other: Any) -> Any:
        """Returns the product with an array or tensor [columns] or [columns, k], in the same kind.

        A block that is not computed is not formed: the product is one with the whole matrix.
        """
        if self._columns is None or self.is_computed or isinstance(other, Lazy):
            return super().__matmul__(other)
        vectors = to_numpy(other)
        if vectors.ndim not in (1, 2) or vectors.shape[0] != self.shape[1]:
            columns = self.shape[1]
            raise ValueError(
                f"a block {format_shape(self.shape)} times an array of shape {list(vectors.shape)}: give [{columns}] or [{columns}, k]"
            )
        positions = flat_index(self._columns, np.arange(self.shape[1]))
        kind = np.result_type(vectors, self.dtype)
        embedded = np.zeros((self._operator.size, *vectors.shape[1:]), kind)
        embedded[positions] = vectors
        product: NDArray[Any] = self._operator @ embedded
        own = product[flat_index(self._rows, np.arange(self.shape[0]))]
        return like(other)(own) if is_tensor(other) or is_jax(other) else own

    def verify(self, entries: int = 64, seed: int = 0, *, progress: Progress = None) -> Verdict:
        """Compares random entries with the definition of the matrix, evaluated in double precision on the CPU.

        All of the block is computed first, unless it is computed already.

        Args:
            entries: The number of entries.
            seed: Chooses the entries.
            progress: True for a bar, or a callable `(done, total)`.

        Returns:
            A verdict that is true where all entries are right, with the worst entry.
        """
        numbers, part = self.compute(progress=progress), (self._name, self._rows, self._columns)
        with reporting(self._progress(progress), "verify") as report:
            found = _core.verify_array(
                self._operator._core(), part, numbers, entries=entries, seed=seed, progress=report
            )
        return Verdict(json.loads(found))

    def show(self, *, size: int = 800) -> Shown:
        """Computes the block and shows it: a heat map, norm, trace and zeros by layer.

        Args:
            size: Pixels of the longer side of the picture.
        """
        part = (self._name, self._rows, self._columns)
        numbers = self.compute()
        return Shown(_core.show_array(self._operator._core(), part, numbers, name=self._operator.problem.name, size=size))

    def to_dask(self, chunks: Any = "auto") -> Any:
        """Returns a lazy `dask.array` whose chunks are computed where Dask puts them.

        Args:
            chunks: The chunks, as Dask takes them.

        Raises:
            ImportError: Dask is not installed.
        """
        from ._parallel import to_dask

        return to_dask(self, chunks)

    def __repr__(self) -> str:
        state = "computed" if self.is_computed else "not computed"
        what = f"{self._name} of {self._operator.label}"
        return f"Block({what}: {format_shape(self.shape)}, {self.dtype}, {format_bytes(self.nbytes)}, {state})"

    def _repr_html_(self) -> str:
        text = html.escape(repr(self))
        if not self.is_computed:
            plan = self.plan()
            if self.size > _SHOWN_ENTRIES or plan.operations > _SHOWN_OPERATIONS:
                note = "Not computed for this display, as it is large: <code>.show()</code> computes and draws it."
                return f"<p>{text}</p>{plan._repr_html_()}<p>{note}</p>"
        return f"<p>{text}</p>{self.show()._repr_html_()}"
