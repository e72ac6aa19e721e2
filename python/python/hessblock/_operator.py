"""Matrices of the shape of the Hessian, as operators: products, diagonal, traces, and blocks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _core
from ._block import Block
from ._errors import RequestError
from ._lazy import Bounds
from ._parts import Parts, Range, ranges, rectangle, specs
from ._progress import Progress, reporting
from ._record import Record
from ._units import format_shape
from ._vectors import is_jax, is_tensor

if TYPE_CHECKING:
    from ._problem import Problem

_LABELS = {
    "ggn": "GGN",
    "exact": "Hessian",
    "residual": "residual H − G",
    "mc-ggn": "Fisher",
    "empirical-fisher": "empirical Fisher",
}

@dataclass(frozen=True)
class TraceEstimate:
    """An estimate of a trace. `float(estimate)` is its value."""

    value: float
    error: float | None
    """The standard error; None for a single probe."""
    layers: dict[str, tuple[float, float | None]] = field(repr=False)
    """The value and the standard error of each layer's own block."""

    def __float__(self) -> float:
        return self.value


class Operator:
    """A symmetric matrix [p, p] in the flat order of a problem's parameters. It is computed only where it is asked for.

    `operator @ v` takes a NumPy array [p] or [p, k], a tensor, or a dictionary by parameter, and gives the same kind
    back. After `problem.update()` it is the matrix of the new weights.
    """

    # NumPy leaves `array @ operator` to this class, where it would otherwise form the whole matrix.
    __array_ufunc__ = None

    def __init__(
        self, problem: Problem, curvature: str, *, samples: int = 1, seed: int = 0, rank_tolerance: float | None = None
    ) -> None:
        if not hasattr(problem, "_session"):
            raise TypeError(
                f"a matrix is that of a hessblock.Problem, and this is {type(problem).__name__}: give Problem(model, loss, data)"
            )
        self._problem = problem
        self._curvature, self._samples, self._seed = curvature, samples, seed
        self._rank_tolerance = rank_tolerance
        self._made: tuple[int, _core.Operator] | None = None
        self._core()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None}

    def _core(self) -> _core.Operator:
        """Returns the compiled operator of the weights as they are now."""
        version = self._problem.version
        if self._made is None or self._made[0] != version:
            made = self._problem._session().operator(self._curvature, samples=self._samples, seed=self._seed)
            if self._rank_tolerance is not None:
                with self._reporting(None, "rank") as report:
                    made = made.with_rank_tolerance(self._rank_tolerance, progress=report)
            self._made = (version, made)
        return self._made[1]

    def _reporting(self, progress: Progress, what: str) -> Any:
        return reporting(self._problem._progress_of(progress), what)

    @property
    def problem(self) -> Problem:
        """The problem whose matrix it is."""
        return self._problem

    @property
    def curvature(self) -> str:
        """The kind of matrix: ggn, exact, residual, mc-ggn or empirical-fisher."""
        return self._curvature

    @property
    def label(self) -> str:
        """The matrix and the model, such as `GGN of LeNet5`."""
        cut = "" if self._rank_tolerance is None else f" (rank tolerance {self._rank_tolerance:g})"
        return f"{_LABELS[self._curvature]}{cut} of {self._problem.name}"

    @property
    def size(self) -> int:
        """The number p of rows and of columns."""
        return self._problem.size

    @property
    def shape(self) -> tuple[int, int]:
        """The shape, (p, p)."""
        return (self.size, self.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The precision in which the device computes: float32 or float64."""
        return self._problem.dtype

    @property
    def T(self) -> Operator:  # noqa: N802 # NumPy's name
        """The transpose, which is the operator itself."""
        return self

    @property
    def rank(self) -> Record | None:
        """The cut of `with_rank_tolerance`: directions, all_directions, mean_directions, worst_share; None without a cut."""
        found = self._core().rank
        return None if found is None else Record(json.loads(found))

    def __matmul__(self, vectors: Any) -> Any:
        return self.apply(vectors)

    def __rmatmul__(self, vectors: Any) -> Any:
        # vᵀA = (A v)ᵀ, as A is symmetric; rows [k, p] are taken as columns and given back as rows.
        if not (isinstance(vectors, np.ndarray) or is_tensor(vectors) or is_jax(vectors)):
            return NotImplemented
        return self.apply(vectors) if vectors.ndim < 2 else self.apply(vectors.T).T

    def apply(self, vectors: Any, *, progress: Progress = None) -> Any:
        """Returns the product with one vector or several, as `operator @ vectors` does.

        Args:
            vectors: A NumPy array or tensor [p], or [p, k] with a vector in each column; or a dictionary of all
                parameters' names with arrays or tensors of their shapes (with k as a last axis for k vectors).
            progress: True for a bar, or a callable `(done, total)`.

        Returns:
            The same kind, shape, type and device that was given.

        Raises:
            ShapeError: The shape or the names do not fit the parameters.
            BudgetError: The memory budget does not hold one sample.
            NotFiniteError: A number is NaN or infinite.

        Source: Pearlmutter 1994 for H·v; Schraudolph 2002 for G·v = Jᵀ(∇²ℓ (J v)).
        """
        packed = self._problem._pack(vectors)
        with self._reporting(progress, "product") as report:
            return packed.restore(self._core().apply(packed.array, progress=report))

    def quadratic_form(self, vectors: Any, *, progress: Progress = None) -> Any:
        """Returns vᵀAv, by forward mode alone.

        Args:
            vectors: An array, a tensor or a dictionary, as `apply` takes it.
            progress: True for a bar, or a callable `(done, total)`.

        Returns:
            A float for one vector; an array or tensor [k] for several.

        Raises:
            ShapeError: The shape or the names do not fit the parameters.
        """
        packed = self._problem._pack(vectors)
        with self._reporting(progress, "quadratic form") as report:
            forms = self._core().quadratic_form(packed.array, progress=report)
        return float(forms[0]) if packed.array.ndim == 1 else packed.leaf(forms)

    def diagonal(self) -> Block:
        """Returns the exact diagonal, a lazy vector [p]."""
        return self._block(("diagonal",))

    def trace(self, *, progress: Progress = None) -> float:
        """Returns the exact trace, from the diagonal.

        Args:
            progress: True for a bar, or a callable `(done, total)`.
        """
        with self._reporting(progress, "trace") as report:
            return self._core().traces(progress=report)[-1][2]

    def traces(self, *, progress: Progress = None) -> dict[str, float]:
        """Returns the exact trace of every layer's own block, by layer.

        Args:
            progress: True for a bar, or a callable `(done, total)`.
        """
        with self._reporting(progress, "traces") as report:
            return {layer: value for layer, _, value, _ in self._core().traces(progress=report)[:-1]}

    def estimated_trace(self, probes: int = 32, seed: int = 0, *, progress: Progress = None) -> TraceEstimate:
        """Estimates the trace with random vectors of ±1.

        Args:
            probes: The number of vectors.
            seed: Decides the vectors.
            progress: True for a bar, or a callable `(done, total)`.

        Returns:
            The value with its standard error, as a whole and by layer.

        Source: Hutchinson 1990.
        """
        with self._reporting(progress, "trace") as report:
            rows = self._core().estimated_traces(probes, seed, progress=report)
        _, _, value, error = rows[-1]
        return TraceEstimate(value, error, {layer: (own, off) for layer, _, own, off in rows[:-1]})

    def entries(self, pairs: Sequence[tuple[int, int]] | NDArray[Any], *, progress: Progress = None) -> NDArray[np.float64]:
        """Returns single entries straight from the definition, in double precision on the CPU.

        Args:
            pairs: Flat row and column of each entry, [n, 2].
            progress: True for a bar, or a callable `(done, total)`.

        Returns:
            The entries, [n].

        Raises:
            RequestError: An entry lies outside the matrix.
        """
        with self._reporting(progress, "entries") as report:
            return self._core().entries([(int(row), int(column)) for row, column in pairs], progress=report)

    def block(
        self, rows: str | None = None, columns: str | None = None, *, param: str | tuple[str, str] | None = None
    ) -> Block:
        """Returns the block of a layer, or the block between two. Nothing is computed yet.

        Args:
            rows: The layer that has the rows.
            columns: The layer that has the columns; by default the same.
            param: The name of a parameter, or two names, in place of layers.

        Raises:
            RequestError: There is no such layer or parameter; the message has the nearest.
        """
        if (rows is None) == (param is None):
            raise RequestError("give a layer, such as block('fc1'), or a parameter, such as block(param='fc1.weight')")
        if param is None:
            for name in (rows, columns):
                if not isinstance(name, (str, int, type(None))):
                    raise TypeError(f"a layer is named by a string, such as block('fc1'), and this is {type(name).__name__}")
            # The layers of nn.Sequential are numbers.
            rows, columns = (None if name is None else str(name) for name in (rows, columns))
            return self._block(("layer", rows, columns))
        first, second = (param, None) if isinstance(param, str) else param
        return self._block(("param", first, second))

    def full(self) -> Block:
        """Returns the whole matrix [p, p] as a lazy block. For p parameters it has 4p² bytes in float32."""
        return self._block(("full",))

    def rectangle(self, rows: Range | Sequence[Bounds], columns: Range | Sequence[Bounds]) -> Block:
        """Returns the block of some rows and columns of the flat order. Nothing is computed yet.

        Args:
            rows: A slice, a range, (start, stop), or a list of ascending (start, stop) that do not touch.
            columns: The columns in the same form.

        Raises:
            RequestError: A range is empty, out of order or reaches past p.
        """
        return self._block(rectangle(ranges(rows, self.size), ranges(columns, self.size)))

    def layers(self) -> Parts:
        """Returns the diagonal blocks of all layers, lazily. They share their passes when they are computed together."""
        return self.parts(["layers"])

    def parts(self, parts: Iterable[str | tuple[str, str] | Block]) -> Parts:
        """Returns several parts, lazily. They share their passes when they are computed or written together.

        Args:
            parts: Parts as on the command line (`"full"`, `"layers"`, `"diag"`, `"layer=fc1"`, `"param=fc1.weight"`,
                `"range=0..10,5..9"`), names of layers, pairs of layers (rows, columns), and blocks of this operator.

        Raises:
            RequestError: There is no such part.
        """
        return Parts(self, [spec for part in parts for spec in specs(self, part)])

    def _block(self, spec: tuple[Any, ...]) -> Block:
        (part,) = self._core().parts([spec]).parts
        return Block(self, part, spec)

    def with_rank_tolerance(self, tolerance: float, *, progress: Progress = None) -> Operator:
        """Returns G with every sample's loss factor cut to the columns that matter.

        Each sample may lose the share `tolerance` of its trace of ∇²ℓ. One forward pass over all samples finds how
        many columns they need; `rank` of the new operator says what was cut. It speeds up blocks of losses with many
        classes.

        Args:
            tolerance: τ, between 0 and 1.
            progress: True for a bar, or a callable `(done, total)`.

        Raises:
            RequestError: The tolerance is outside 0..1, or the matrix is not G.
        """
        cut = Operator(self._problem, self._curvature)
        with self._reporting(progress, "rank") as report:
            made = self._core().with_rank_tolerance(tolerance, progress=report)
        cut._rank_tolerance, cut._made = tolerance, (self._problem.version, made)
        return cut

    def to_scipy(self) -> Any:
        """Returns a `scipy.sparse.linalg.LinearOperator` with `matvec`, `matmat` and their adjoints.

        Raises:
            ImportError: SciPy is not installed.
        """
        from scipy.sparse.linalg import LinearOperator  # type: ignore[import-untyped, unused-ignore]

        def product(vectors: NDArray[Any]) -> NDArray[Any]:
            result: NDArray[Any] = self.apply(vectors)
            return result

        def vector(values: NDArray[Any]) -> NDArray[Any]:
            return product(values.reshape(-1))

        return LinearOperator(self.shape, matvec=vector, rmatvec=vector, matmat=product, rmatmat=product, dtype=self.dtype)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        # The plan of the whole matrix counts against the memory budget, and is refused where it has no room.
        return self.full().__array__(dtype, copy)

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        problem = self._problem
        return f"Operator({self.label}: {format_shape(self.shape)}, {self.dtype}, {problem.samples:,} samples, {problem.device})"
