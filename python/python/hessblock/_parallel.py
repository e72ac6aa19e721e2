"""Blocks made by several processes: chunks of a `dask.array`, and the shards of a job array."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._errors import RequestError
from ._lazy import Bounds, ranges_between
from ._progress import Progress
from ._writing import Path, RunReport, Writable

if TYPE_CHECKING:
    from ._block import Block
    from ._frozen import Frozen
    from ._operator import Operator

# Problems that a process keeps for later chunks.
KEPT = 2
# Bytes from which a matrix is put into a cluster's memory before its chunks are asked for.
LARGE = 1 << 20
# Variables by which schedulers number the tasks of an array, and the number of the first task.
NUMBERED = {
    "SLURM_ARRAY_TASK_ID": 1,
    "PBS_ARRAY_INDEX": 1,
    "SGE_TASK_ID": 1,
    "LSB_JOBINDEX": 1,
    "JOB_COMPLETION_INDEX": 0,
}


@dataclass(frozen=True)
class Matrix:
    """A matrix as it is sent to the processes that compute its parts."""

    problem: Frozen
    curvature: str
    samples: int
    seed: int
    rank_tolerance: float | None
    digest: str = field(default="")

    @property
    def bytes(self) -> int:
        """The bytes of all arrays."""
        sources = [source for _, source in self.problem.data.inputs] + [self.problem.data.targets]
        arrays = [*sources, *(array for _, array in self.problem.arrays), getattr(self.problem.loss, "hessians", None)]
        model = self.problem.model
        return sum(getattr(array, "nbytes", 0) for array in arrays) + (len(model) if isinstance(model, bytes) else 0)


class Kept:
    """The matrices that this process has made from those sent to it. One part is computed at a time, with all threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._operators: OrderedDict[str, Operator] = OrderedDict()

    def compute(self, matrix: Matrix, spec: tuple[Any, ...]) -> NDArray[Any]:
        """Computes a part of a matrix."""
        with self._lock:
            found: NDArray[Any] = self._operator(matrix)._core().parts([spec]).to_arrays()[0]
            return found

    def _operator(self, matrix: Matrix) -> Operator:
        operator = self._operators.get(matrix.digest)
        if operator is None:
            from ._frozen import thaw
            from ._operator import Operator

            while len(self._operators) >= KEPT:
                self._operators.popitem(last=False)
            operator = Operator(
                thaw(matrix.problem),
                matrix.curvature,
                samples=matrix.samples,
                seed=matrix.seed,
                rank_tolerance=matrix.rank_tolerance,
            )
            self._operators[matrix.digest] = operator
        self._operators.move_to_end(matrix.digest)
        return operator


_KEPT = Kept()


@dataclass(frozen=True)
class Tile:
    """The task of computing one part of a matrix."""

    spec: tuple[Any, ...]

    def __call__(self, matrix: Matrix) -> NDArray[Any]:
        return _KEPT.compute(matrix, self.spec)


def to_dask(block: Block, chunks: Any = "auto") -> Any:
    """Returns a lazy `dask.array` whose chunks are computed where Dask puts them.

    The array is that of the weights as they are now. Weights and data go to every worker once; a worker chooses its device
    by the problem's `device`, and computes one chunk at a time with all of its threads. Data that were given as paths are
    read by the workers. If this process is the client of a cluster, large data are put into the cluster's memory now, and
    the array is for this client.

    Args:
        block: The block.
        chunks: The chunks, as Dask takes them. A vector is one chunk.

    Raises:
        ImportError: Dask is not installed.
    """
    try:
        import dask.array
        from dask.highlevelgraph import HighLevelGraph
    except ModuleNotFoundError as error:
        from ._frontend import missing

        raise missing(error, "dask", "to_dask") from error
    matrix = sent(block.operator)
    columns = block.columns
    extents = dask.array.core.normalize_chunks(block.shape if columns is None else chunks, block.shape, dtype=block.dtype)
    name = f"hessblock-{dask.base.tokenize(matrix.digest, block.name, block.rows, columns, extents)}"
    source = f"{name}-matrix"
    held = on_cluster(matrix)
    tasks: dict[Any, Any] = {source: matrix}
    if held is not None:
        tasks, source = {}, held
    if columns is None:
        tasks[(name, 0)] = (Tile(block._spec), source)
    else:
        for i, rows in enumerate(intervals(extents[0])):
            for j, own in enumerate(intervals(extents[1])):
                spec = ("rectangle", ranges_between(block.rows, *rows), ranges_between(columns, *own))
                tasks[(name, i, j)] = (Tile(spec), source)
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[])
    return dask.array.Array(graph, name, extents, dtype=block.dtype)


def on_cluster(matrix: Matrix) -> Any:
    """Puts a large matrix into the memory of a cluster whose client this process is; returns None if there is no cluster.

    Within the graph, the matrix would go through the scheduler.
    """
    distributed = sys.modules.get("distributed")
    if distributed is None or matrix.bytes < LARGE:
        return None
    try:
        client = distributed.client.default_client()
    except ValueError:
        return None
    return client.scatter(matrix, hash=False) if not client.asynchronous else None


def intervals(extents: Sequence[int]) -> Iterator[Bounds]:
    """Iterates over the half-open ranges of consecutive extents."""
    start = 0
    for extent in extents:
        yield start, start + int(extent)
        start += int(extent)


def sent(operator: Operator) -> Matrix:
    """Returns a matrix as it is sent to other processes, with the weights as they are now."""
    from ._frozen import freeze

    frozen = freeze(operator.problem)
    parts = (operator.curvature, operator._samples, operator._seed, operator._rank_tolerance)
    return Matrix(frozen, *parts, digest=f"{frozen.digest} {parts}")


class Shard:
    """A shard: the share of a result that one process makes."""

    def __init__(self, shards: Shards, number: int) -> None:
        self._shards, self.number = shards, number
        """The number of the shard, from 1."""

    @property
    def path(self) -> str:
        """The path of the whole result."""
        return self._shards.path

    def write(self, *, progress: Progress = None) -> RunReport:
        """Computes the share. The same call after an interruption resumes it.

        Args:
            progress: True for a bar, or a callable `(done, total)`.

        Returns:
            The report of the run.

        Raises:
            Error: See `Block.to_npy`.
        """
        return self._shards._write(self.number, progress)

    def __repr__(self) -> str:
        return f"Shard({self.number} of {len(self._shards)} of {self.path})"


class Shards(Sequence[Shard]):
    """The shares of a result that processes make together, at the same time or one after the other."""

    def __init__(self, what: Writable, path: Path, count: int, options: dict[str, Any]) -> None:
        self.path = os.fspath(path)
        """The path of the whole result."""
        self._what, self._count, self._options = what, count, options
        if count < 1:
            raise RequestError(f"{count} shards: give at least 1")
        self._ending = os.path.splitext(self.path.rstrip("/" + os.sep))[1]
        if self._ending == ".safetensors":
            raise RequestError(f"{self.path}: a .safetensors file is made in the memory of one process; take .zarr, .npy or a folder")
        if self._ending not in (".npy", ".zarr"):
            self._ending = ""

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [Shard(self, k + 1) for k in range(*index.indices(self._count))]
        return Shard(self, range(self._count)[index] + 1)

    def from_env(self, environ: Mapping[str, str] | None = None) -> Shard:
        """Returns the shard of this process, which is a task of a job array.

        The scheduler says its number: Slurm (`SLURM_ARRAY_TASK_ID`), PBS, Grid Engine and LSF from 1 to the number of
        shards, as with `--array=1-8`, and an indexed job of Kubernetes (`JOB_COMPLETION_INDEX`) from 0.

        Args:
            environ: Variables in place of those of the process.

        Raises:
            RequestError: No variable is set, or its number is not that of a shard.
        """
        given = os.environ if environ is None else environ
        for variable, first in NUMBERED.items():
            value = given.get(variable, "")
            # Outside of an array, LSF says 0 and Grid Engine "undefined".
            if not value.isdigit() or (variable == "LSB_JOBINDEX" and value == "0"):
                continue
            number = int(value) + 1 - first
            if not 1 <= number <= self._count:
                last = self._count - 1 + first
                raise RequestError(
                    f"{variable}={value} is not the number of a shard: {self._count} shards need an array of tasks {first} to {last}"
                )
            return self[number - 1]  # type: ignore[no-any-return]
        raise RequestError(
            f"the number of the shard is unknown, as none of {', '.join(NUMBERED)} is set: run in a job array, or take shards[k]"
        )

    def merge(self, *, overwrite: bool = False, progress: Progress = None) -> Any:
        """Checks all tiles and finishes the result, once all shares are made. See `hessblock.merge`.

        Args:
            overwrite: Whether an older result at the path is replaced.
            progress: True for a bar, or a callable `(done, total)`.
        """
        from ._results import merge

        return merge(self.path, overwrite=overwrite, progress=progress)

    def _write(self, number: int, progress: Progress) -> RunReport:
        return self._what._write(self.path, self._ending, progress, shard=(number, self._count), **self._options)

    def __repr__(self) -> str:
        return f"Shards({self._count} of {self.path})"


def shards(what: Writable, path: Path, count: int, **options: Any) -> Shards:
    """Splits a result among processes that see one folder, as `--shard` does on the command line.

        hb.shards(B, "b.zarr", 8).from_env().write()       # in each of the eight tasks of a job array
        hb.shards(B, "b.zarr", 8).merge()                  # in a job after them

    All processes need the same problem: the same weights, data and options.

    Args:
        what: A block, or several parts.
        path: The result: `.zarr`, `.npy`, or a folder.
        count: The number of shards.
        **options: Options of `to_zarr` and the others that write, such as `compress`.

    Returns:
        The shards, `shards[0]` to `shards[count − 1]`.

    Raises:
        RequestError: The result is a `.safetensors` file, or `count` is not positive.
    """
    return Shards(what, path, count, options)
