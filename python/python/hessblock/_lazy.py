"""Arrays that are computed or read when they are touched, with NumPy's indexing and protocols."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike, NDArray

from ._units import format_shape
from ._vectors import is_jax, is_tensor, like, to_numpy

Bounds = tuple[int, int]
"""A half-open range of rows or columns."""


class Lazy(NDArrayOperatorsMixin, ABC):
    """A matrix or vector that stands for its numbers until they are needed.

    `np.asarray(x)` gives all numbers, `x[:100, :100]` those of a rectangle. Arithmetic (`2 * x`, `x @ v`) and NumPy's
    functions take it as an array.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The extents: rows and columns of a matrix, or the length of a vector."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers."""

    @abstractmethod
    def _whole(self) -> NDArray[Any]:
        """Returns all numbers."""

    @abstractmethod
    def _part(self, rows: Bounds, columns: Bounds | None) -> NDArray[Any]:
        """Returns a rectangle that is not empty, or a range of a vector."""

    @property
    def ndim(self) -> int:
        """The number of axes: 2, or 1 for a vector."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of entries."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """The bytes of all numbers."""
        return self.size * self.dtype.itemsize

    # `==` compares entries, so that the class has no hash unless it is named here: two blocks are two keys.
    __hash__ = object.__hash__  # type: ignore[assignment, unused-ignore]

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        # Row by row would compute or read each row by itself.
        return iter(np.asarray(self))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            raise IndexError(f"{key!r} cannot index an array {format_shape(self.shape)}: give integers, slices or arrays of them")
        bounds, rest = bounded(key, self.shape)
        extents = tuple(stop - start for start, stop in bounds)
        if 0 in extents:
            found = np.empty(extents, self.dtype)
        elif extents == self.shape:
            found = self._whole()
        else:
            found = self._part(bounds[0], bounds[1] if len(bounds) > 1 else None)
        return found[rest]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return converted(self._whole(), dtype, copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(out, Lazy) for out in options.get("out", ())):
            raise TypeError("a block cannot be written to: write to np.array(block)")
        arrays = [np.asarray(given) if isinstance(given, Lazy) else given for given in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    def __matmul__(self, other: Any) -> Any:
        if is_tensor(other) or is_jax(other):
            return like(other)(np.asarray(self) @ to_numpy(other))
        return super().__matmul__(other)

    def __rmatmul__(self, other: Any) -> Any:
        if is_tensor(other) or is_jax(other):
            return like(other)(to_numpy(other) @ np.asarray(self))
        return super().__rmatmul__(other)

    def __dlpack__(self, **options: Any) -> Any:
        return self._shared().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # The host's memory, kDLCPU.

    def _shared(self) -> NDArray[Any]:
        """Returns the numbers for another library to share."""
        return self._whole()

    def to_torch(self, *, device: Any = None, dtype: Any = None, copy: bool = False) -> Any:
        """Returns the numbers as a tensor of PyTorch.

        On the CPU and in its own type the tensor shares memory with the block: nothing is copied. Write to it only
        if it was made with `copy=True`, as what is written goes into the block too.

        Args:
            device: The device that the tensor is put on; by default the CPU.
            dtype: The tensor's type; by default that of the block.
            copy: Whether the tensor has memory of its own.

        Raises:
            ImportError: PyTorch is not installed.
        """
        try:
            import torch
        except ModuleNotFoundError as error:
            from ._frontend import missing

            raise missing(error, "torch", "to_torch") from error
        return torch.from_numpy(self._shared()).to(device=device, dtype=dtype, copy=copy)


def converted(array: NDArray[Any], dtype: DTypeLike | None, copy: bool | None) -> NDArray[Any]:
    """Returns an array for `__array__`, by the rules of NumPy 2.

    Raises:
        ValueError: The type needs a copy, and `copy` is False.
    """
    if copy:
        return np.array(array, dtype)
    if dtype is None or np.dtype(dtype) == array.dtype:
        return array
    if copy is False:
        raise ValueError(f"numbers of {array.dtype} as {np.dtype(dtype)} need a copy: leave copy=False out")
    return array.astype(dtype)


def bounded(key: Any, shape: tuple[int, ...]) -> tuple[list[Bounds], tuple[Any, ...]]:
    """Splits an index into the smallest rectangle that has all its entries, and the index within that rectangle.

    Integers, slices with steps, Ellipsis, `None`, and arrays of integers or booleans are taken, with NumPy's meaning.

    Raises:
        IndexError: The index does not fit the shape.
    """
    given = _expanded(key if isinstance(key, tuple) else (key,), len(shape))
    bounds: list[Bounds] = []
    rest: list[Any] = []
    for entry in given:
        if entry is None:
            rest.append(None)
            continue
        if len(bounds) == len(shape):
            raise IndexError(f"too many indices for an array {format_shape(shape)}")
        own, inner = _axis(entry, shape[len(bounds)], len(bounds))
        bounds.append(own)
        rest.append(inner)
    for extent in shape[len(bounds) :]:
        bounds.append((0, extent))
    return bounds, tuple(rest)


def _expanded(key: tuple[Any, ...], axes: int) -> list[Any]:
    """Returns an index without Ellipsis and without masks of two axes."""
    entries: list[Any] = []
    for entry in key:
        if isinstance(entry, (list, np.ndarray)) and np.asarray(entry).dtype == bool and np.ndim(entry) == 2:
            entries.extend(_Mask(part, extent) for part, extent in zip(np.nonzero(entry), np.shape(entry), strict=True))
        else:
            entries.append(entry)
    dots = [k for k, entry in enumerate(entries) if entry is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    if dots:
        used = sum(entry is not None for entry in entries) - 1
        entries[dots[0] : dots[0] + 1] = [slice(None)] * max(axes - used, 0)
    return entries


class _Mask:
    """The positions of a mask of two axes along one of them."""

    def __init__(self, positions: NDArray[np.intp], extent: int) -> None:
        self.positions, self.extent = positions, extent


def _axis(entry: Any, extent: int, axis: int) -> tuple[Bounds, Any]:
    """Returns the bounds of an index along one axis, and the index within them."""
    if isinstance(entry, slice):
        return _slice(entry, extent)
    if isinstance(entry, _Mask):
        if entry.extent != extent:
            raise IndexError(f"a mask of {entry.extent} entries on axis {axis}, which has {extent}")
        entry = entry.positions
    array = np.asarray(entry)
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.intp)  # An empty list.
    if array.dtype == bool and array.ndim == 1:
        if len(array) != extent:
            raise IndexError(f"a mask of {len(array)} entries on axis {axis}, which has {extent}")
        array = np.nonzero(array)[0]
    if array.dtype.kind not in "iu":
        raise IndexError("only integers, slices, ellipsis, None, and arrays of integers or booleans are indices")
    if array.size == 0:
        return (0, 0), array.astype(np.intp)
    low, high = int(array.min()), int(array.max())
    if low < -extent or high >= extent:
        wrong = low if low < -extent else high
        raise IndexError(f"index {wrong} is out of bounds for axis {axis} with size {extent}")
    array = array.astype(np.intp)  # Unsigned integers too: they would not mix with signed ones.
    array = np.where(array < 0, array + extent, array)
    low, high = int(array.min()), int(array.max())
    return (low, high + 1), int(array) - low if array.ndim == 0 else array - low


def _slice(entry: slice, extent: int) -> tuple[Bounds, slice]:
    positions = range(*entry.indices(extent))
    if not positions:
        return (0, 0), slice(0, 0)
    low, high = min(positions[0], positions[-1]), max(positions[0], positions[-1])
    # The first and the last position are at the ends of the bounds, whichever way the step goes.
    return (low, high + 1), slice(None, None, positions.step)


def ranges_between(ranges: list[Bounds], start: int, stop: int) -> list[Bounds]:
    """Returns the flat ranges of the positions `start..stop` of ascending ranges."""
    found: list[Bounds] = []
    position = 0
    for low, high in ranges:
        first, last = max(start, position), min(stop, position + high - low)
        if first < last:
            found.append((low + first - position, low + last - position))
        position += high - low
    return found


def joined(ranges: list[Bounds]) -> tuple[Bounds, ...]:
    """Returns ascending ranges with those that touch as one."""
    found: list[Bounds] = []
    for start, stop in ranges:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return tuple(found)


def count(ranges: list[Bounds]) -> int:
    """Returns the number of positions in ranges."""
    return sum(stop - start for start, stop in ranges)


def flat_index(ranges: list[Bounds], positions: NDArray[np.intp]) -> NDArray[np.intp]:
    """Returns the flat indices of positions in ascending ranges."""
    starts = np.array([start for start, _ in ranges], np.intp)
    lengths = np.array([stop - start for start, stop in ranges], np.intp)
    ends = np.cumsum(lengths)
    which = np.searchsorted(ends, positions, side="right")
    return starts[which] + positions - (ends - lengths)[which]
