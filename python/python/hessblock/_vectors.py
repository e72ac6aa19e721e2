"""Parameters in their flat order, and vectors of them: arrays, tensors and dictionaries as flat NumPy arrays, and back."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._errors import ShapeError


@dataclass(frozen=True)
class Parameter:
    """A parameter in the flat order."""

    name: str
    layer: str
    shape: tuple[int, ...]
    offset: int
    """The flat index of its first entry."""

    @property
    def size(self) -> int:
        """The number of its entries."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def range(self) -> slice:
        """The flat indices of its entries."""
        return slice(self.offset, self.offset + self.size)


@dataclass(frozen=True)
class Layer:
    """A layer: the parameters of one module."""

    name: str
    parameters: tuple[str, ...]
    ranges: tuple[tuple[int, int], ...]
    """The flat indices of its entries, as ascending half-open ranges."""

    @property
    def size(self) -> int:
        """The number of its entries."""
        return sum(stop - start for start, stop in self.ranges)


@dataclass(frozen=True)
class Packed:
    """Vectors as an array [p] or [p, k] of float32 or float64, with the functions that give results in the user's kind."""

    array: NDArray[Any]
    restore: Callable[[NDArray[Any]], Any]
    """Turns an array in the flat order, [p] or [p, k], into the kind that the user gave."""
    leaf: Callable[[NDArray[Any]], Any]
    """Turns an array of any shape into the array or tensor that the user gave."""


def is_tensor(value: Any) -> bool:
    """Returns whether a value is a tensor of PyTorch. PyTorch is not imported for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_jax(value: Any) -> bool:
    """Returns whether a value is an array of JAX. JAX is not imported for it."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.Array)


def to_numpy(value: Any) -> NDArray[Any]:
    """Returns the array of a tensor or array-like; nothing is copied where that can be avoided."""
    if is_tensor(value):
        value = value.detach()
        if value.is_floating_point() and value.element_size() == 2:
            value = value.float()
        value = value.cpu().numpy()
    elif is_jax(value) and value.dtype.name == "bfloat16":
        value = value.astype("float32")
    return np.asarray(value)


def _numbers(array: NDArray[Any], what: str) -> NDArray[Any]:
    """Returns real numbers as aligned float32 or float64; nothing is copied where that can be avoided."""
    if array.dtype == np.float32 or array.dtype == np.float64:
        return aligned(array)
    if array.dtype.kind == "f":
        # Half precision, long doubles, and numbers of foreign byte order.
        return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64)
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    raise TypeError(f"{what} of {array.dtype}: give real numbers")


def aligned(array: NDArray[Any]) -> NDArray[Any]:
    """Returns an array whose entries lie at multiples of their size, as the compiled module takes them.

    Only others are copied, such as a field of an array of packed records, and a view at an odd byte.
    """
    apart = any(stride % array.itemsize for stride in array.strides)
    return array.copy() if apart or not array.flags.aligned else array


def like(value: Any) -> Callable[[NDArray[Any]], Any]:
    """Returns the function that gives a result in the kind, device and type of a value."""
    if is_tensor(value):
        torch = sys.modules["torch"]
        kind = value.dtype if value.is_floating_point() else torch.get_default_dtype()
        device = value.device
        return lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(device=device, dtype=kind)
    if is_jax(value):
        jax = sys.modules["jax"]
        return lambda array: jax.device_put(array.astype(_real(np.dtype(value.dtype))), value.sharding)
    kind = _real(np.asarray(value).dtype)
    return lambda array: array.astype(kind, copy=False)


def _real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns a type of real numbers: the type itself, or float64 for integers."""
    return np.dtype(np.float64) if dtype.kind in "iub" else dtype


def pack(vectors: Any, parameters: Sequence[Parameter], size: int) -> Packed:
    """Takes one vector or several in any of the forms that a user may give.

    Args:
        vectors: An array or tensor [p] or [p, k] with a vector in each column, or a dictionary of all parameters'
            names with arrays or tensors of the parameters' shapes, or of these with k as a last axis.
        parameters: The parameters in the flat order.
        size: p.

    Raises:
        ShapeError: Names or shapes do not fit the parameters.
        TypeError: The numbers are not real.
    """
    if isinstance(vectors, Mapping):
        return _pack_names(vectors, parameters, size)
    if isinstance(vectors, (list, tuple)) and any(is_tensor(each) or isinstance(each, np.ndarray) for each in vectors):
        return _pack_sequence(vectors, parameters, size)
    array = _numbers(to_numpy(vectors), "a vector")
    if array.ndim not in (1, 2) or array.shape[0] != size:
        raise ShapeError(
            f"vectors of shape {list(array.shape)}, where there are {size:,} parameters: give [{size}], or [{size}, k] "
            "with a vector in each column"
        )
    back = like(vectors)
    return Packed(array, back, back)


def _pack_sequence(vectors: Sequence[Any], parameters: Sequence[Parameter], size: int) -> Packed:
    """Takes arrays or tensors in the order of the parameters, as `torch.autograd.grad` gives them."""
    if len(vectors) != len(parameters):
        raise ShapeError(f"{len(vectors)} arrays for {len(parameters)} parameters: give one for each, in their order")
    packed = _pack_names(dict(zip((p.name for p in parameters), vectors, strict=True)), parameters, size)

    def restore(result: NDArray[Any]) -> Any:
        arrays = packed.restore(result).values()
        return list(arrays) if isinstance(vectors, list) else tuple(arrays)

    return Packed(packed.array, restore, packed.leaf)


def _pack_names(vectors: Mapping[Any, Any], parameters: Sequence[Parameter], size: int) -> Packed:
    names = [parameter.name for parameter in parameters]
    check_names(vectors, names)
    arrays = {name: _numbers(to_numpy(vectors[name]), f"the vector of {name!r}") for name in names}
    columns: set[tuple[int, ...]] = set()
    for parameter in parameters:
        shape, own = arrays[parameter.name].shape, parameter.shape
        if shape[: len(own)] != own or len(shape) > len(own) + 1:
            raise ShapeError(
                f"the vector of {parameter.name!r} has shape {list(shape)}: give {list(own)}, or [{', '.join(map(str, own))}"
                f"{', ' if own else ''}k] for k vectors"
            )
        columns.add(shape[len(own) :])
    if len(columns) > 1:
        raise ShapeError(f"the vectors of different parameters have different last axes, {sorted(columns)}: give one k for all")
    several = columns.pop() if columns else ()
    flat = np.empty((size, *several), np.result_type(np.float32, *arrays.values()))
    for parameter in parameters:
        flat[parameter.range] = arrays[parameter.name].reshape(parameter.size, *several)
    kinds = {name: like(vectors[name]) for name in names}

    def restore(result: NDArray[Any]) -> dict[str, Any]:
        return {
            p.name: kinds[p.name](result[p.range].reshape(*p.shape, *result.shape[1:])) for p in parameters
        }

    return Packed(flat, restore, next(iter(kinds.values()), lambda array: array))


def check_names(given: Mapping[Any, Any], names: Sequence[str]) -> None:
    """Refuses a dictionary that is not one of exactly these parameters.

    Raises:
        ShapeError: A name is missing, or no parameter has it; the message has the nearest.
    """
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, 3, 0.4)
            raise ShapeError(
                f"there is no parameter {name!r}; "
                + (f"the nearest: {', '.join(near)}" if near else f"the parameters are {_first(names)}")
            )
    absent = [name for name in names if name not in given]
    if absent:
        raise ShapeError(f"no vector for {_first(absent)}: give one for every parameter, with zeros where nothing moves")


def _first(names: Sequence[str], count: int = 8) -> str:
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")


def as_names(flat: NDArray[Any], parameters: Sequence[Parameter]) -> dict[str, NDArray[Any]]:
    """Returns a flat vector as a dictionary of views in the parameters' shapes."""
    return {p.name: flat[p.range].reshape(p.shape) for p in parameters}
