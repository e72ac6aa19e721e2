"""Arrays that are larger than memory should hold: collected in memory up to a limit, and in a temporary file beyond it."""

from __future__ import annotations

import contextlib
import os
import tempfile
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._errors import DataError

# Bytes that are kept in memory before data go to a temporary file.
LIMIT = 1 << 30


def empty(shape: tuple[int, ...], dtype: DTypeLike, limit: int = LIMIT) -> NDArray[Any]:
    """Returns an array of a shape: in memory, or in a temporary file if it has more than `limit` bytes.

    The file is deleted when the array and all its views are gone.
    """
    if int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize <= limit:
        return np.empty(shape, dtype)
    handle, path = tempfile.mkstemp(prefix="hessblock-", suffix=".bin")
    os.close(handle)
    return mapped(path, shape, dtype, "w+")


def mapped(path: str, shape: tuple[int, ...], dtype: DTypeLike, mode: Any = "r+") -> NDArray[Any]:
    """Returns the array in a temporary file, which is deleted with the array."""
    array = np.memmap(path, dtype, mode, shape=shape)
    try:
        os.unlink(path)
    except OSError:  # Windows keeps a file that is mapped.
        weakref.finalize(array, remove, path)
    return array


def remove(path: str) -> None:
    """Deletes a file that may be gone."""
    with contextlib.suppress(OSError):
        os.unlink(path)


class Spool:
    """Batches of samples that become one array."""

    def __init__(self, name: str, limit: int = LIMIT) -> None:
        self.name, self.limit = name, limit
        self.batches: list[NDArray[Any]] = []
        self.shape: tuple[int, ...] = ()
        self.dtype: np.dtype[Any] | None = None
        self.samples = self.bytes = 0
        self.file: Any = None

    def append(self, batch: NDArray[Any], position: int) -> None:
        """Adds a batch, whose first sample is number `position`.

        Raises:
            DataError: Its samples have another shape or number type than those before.
        """
        if self.dtype is None:
            self.shape, self.dtype = batch.shape[1:], batch.dtype
        if batch.shape[1:] != self.shape or batch.dtype != self.dtype:
            raise DataError(
                f"{self.name} of sample {position} has shape {list(batch.shape[1:])} and type {batch.dtype}, and sample 0 has shape "
                f"{list(self.shape)} and type {self.dtype}: samples must have one shape (pad them, with a mask)"
            )
        self.samples += len(batch)
        self.bytes += batch.nbytes
        if self.file is None and self.bytes > self.limit:
            self.file = tempfile.NamedTemporaryFile(prefix="hessblock-", suffix=".bin", delete=False)
            for kept in self.batches:
                kept.tofile(self.file)
            self.batches.clear()
        if self.file is None:
            self.batches.append(batch.copy())  # a loader may use its memory again
        else:
            np.ascontiguousarray(batch).tofile(self.file)

    def finish(self) -> NDArray[Any]:
        """Returns all samples as one array."""
        if self.file is None:
            made = np.concatenate(self.batches) if len(self.batches) != 1 else self.batches[0]
            self.batches.clear()
            return made
        self.file.close()
        return mapped(self.file.name, (self.samples, *self.shape), np.dtype(self.dtype))

    def __del__(self) -> None:
        if self.file is not None and not self.file.closed:
            self.file.close()
            remove(self.file.name)
