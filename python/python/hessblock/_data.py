"""Data in the forms that people have them, as arrays of fixed samples."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _data_files as files
from ._errors import DataError
from ._frontend import Data
from ._spool import LIMIT, Spool

Source = NDArray[Any] | str
Parts = tuple[list[tuple[str | None, Source]], Source | None]

# Batches of a second pass that are compared with the first.
COMPARED = 2
# Samplers of PyTorch that draw another order in every pass.
RANDOM = ("RandomSampler", "WeightedRandomSampler", "SubsetRandomSampler")


def read(data: Any, *, names: Sequence[str] | None = None, limit: int = LIMIT) -> Data:
    """Returns data as arrays or paths, with the samples on the first axis of each.

    `data` is a pair (inputs, targets), where targets may be None; inputs alone; or a data set or a loader of samples or batches of
    such. Inputs are an array, a tensor or a path, a tuple of several, or a dictionary of them by name. `names` are the inputs' names:
    a single key of a dictionary that is not among them holds the targets. A loader's samples are kept in memory up to `limit` bytes,
    beyond which they go to a temporary file.

    Raises:
        DataError: Data are not fixed samples: a loader shuffles or augments at random, or inputs and targets differ in number.
    """
    if isinstance(data, Data):
        return data
    loaded = _collection(data, names, limit)
    inputs, targets = loaded if loaded is not None else split(data, names)
    return checked(inputs, targets)


def checked(inputs: list[tuple[str | None, Source]], targets: Source | None) -> Data:
    """Returns data whose arrays all have the same number of samples."""
    if not inputs:
        raise DataError("the data have no inputs")
    counts = {name or f"input {k}": files.samples(source) for k, (name, source) in enumerate(inputs)}
    if targets is not None:
        counts["targets"] = files.samples(targets)
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise DataError(f"inputs and targets must have as many samples as each other on their first axis, and have {each}")
    samples = next(iter(counts.values()))
    if samples == 0:
        raise DataError("the data have no samples")
    return Data(inputs, targets, samples)


def split(data: Any, names: Sequence[str] | None = None) -> Parts:
    """Splits a batch, or all data, into inputs by name and targets.

    Raises:
        DataError: A part is no array.
    """
    if isinstance(data, Mapping):
        if names is not None:
            extra = [key for key in data if key not in names]
            if len(extra) == 1 and len(data) > 1 and any(key in names for key in data):
                return _inputs({key: value for key, value in data.items() if key != extra[0]}), array(data[extra[0]], extra[0])
        return _inputs(data), None
    if isinstance(data, (tuple, list)) and _several(data):
        if len(data) == 1:
            return _inputs(data[0]), None
        inputs = data[0] if len(data) == 2 else tuple(data[:-1])
        return _inputs(inputs), None if data[-1] is None else array(data[-1], "targets")
    return _inputs(data), None


def _several(data: Sequence[Any]) -> bool:
    """Whether a sequence holds arrays, rather than being one written out in numbers."""
    return bool(data) and not all(isinstance(part, (int, float, bool, complex)) for part in data) and not _numbers(data)


def _numbers(data: Any) -> bool:
    """Whether nested lists hold nothing but numbers."""
    if isinstance(data, list):
        return bool(data) and all(_numbers(part) for part in data)
    return isinstance(data, (int, float, bool))


def _inputs(inputs: Any) -> list[tuple[str | None, Source]]:
    if isinstance(inputs, Mapping):
        return [(str(name), array(value, str(name))) for name, value in inputs.items()]
    if isinstance(inputs, (tuple, list)) and _several(inputs):
        return [(None, array(value, f"input {k}")) for k, value in enumerate(inputs)]
    return [(None, array(inputs, "inputs"))]


def array(value: Any, what: str) -> Source:
    """Returns a path as text, and anything else as an array, which shares memory where it can.

    Raises:
        DataError: It is no array of numbers with an axis of samples.
    """
    if isinstance(value, (str, os.PathLike)):
        path = os.path.expanduser(os.fspath(value))
        return path if isinstance(path, str) else os.fsdecode(path)
    made = numbers(value, what)
    if made.ndim == 0:
        raise DataError(f"{what} is a single number: the first axis must hold the samples")
    return made


def numbers(value: Any, what: str) -> NDArray[Any]:
    """Returns a tensor, an array or a number as a NumPy array, which shares memory where it can."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a tensor of PyTorch
        tensor = value.detach().cpu()
        if getattr(tensor, "layout", None) is not None and "strided" not in str(tensor.layout):
            raise DataError(f"{what} is sparse ({tensor.layout}): convert it by to_dense()")
        if str(tensor.dtype) == "torch.bfloat16":  # NumPy has none
            tensor = tensor.float()
        made: NDArray[Any] = tensor.resolve_conj().resolve_neg().numpy()
    else:
        try:
            made = np.asarray(value)
        except Exception as error:
            raise DataError(f"{what} cannot be read as an array: {error}") from error
        if made.dtype.name == "bfloat16":  # of ml_dtypes, as JAX has it
            made = made.astype(np.float32)
    if made.dtype.kind not in "biuf":
        raise DataError(
            f"{what} is {type(value).__name__} of {made.dtype}, and arrays of real numbers are taken: tensors, NumPy arrays, paths, "
            "a Dataset or a DataLoader"
        )
    return made


def _collection(data: Any, names: Sequence[str] | None, limit: int) -> Parts | None:
    """Returns the samples of a data set or a loader, or None for what is neither."""
    if isinstance(data, (Mapping, tuple, list, str, os.PathLike)) or hasattr(data, "__array__") or hasattr(data, "detach"):
        return None
    if hasattr(data, "dataset") and hasattr(data, "batch_size"):  # a DataLoader
        refuse_shuffling(data)
        return _gather(data, names, limit, batched=data.batch_size is not None or getattr(data, "batch_sampler", None) is not None)
    tensors = getattr(data, "tensors", None)
    if isinstance(tensors, (tuple, list)) and tensors:  # a TensorDataset: nothing to copy
        return split(tuple(tensors), names)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return _gather(_Indexed(data), names, limit, batched=False)
    if hasattr(data, "__iter__"):
        batched = "IterableDataset" not in [kind.__name__ for kind in type(data).__mro__]
        return _gather(data, names, limit, batched=batched)
    return None


def refuse_shuffling(loader: Any) -> None:
    """Refuses a loader whose order differs from pass to pass.

    Raises:
        DataError: The order differs; the message names the sampler.
    """
    batches = getattr(loader, "batch_sampler", None)
    for sampler in (getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None)):
        kinds = [kind.__name__ for kind in type(sampler).__mro__]
        shuffles = "DistributedSampler" in kinds and getattr(sampler, "shuffle", False)
        if shuffles or any(kind in RANDOM for kind in kinds):
            raise DataError(
                f"the loader draws another order in every pass ({type(sampler).__name__}), and a Hessian is one over fixed samples: "
                "make a DataLoader with shuffle=False"
            )


class _Indexed:
    """The samples of a data set that is read by index."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        return (self.data[k] for k in range(len(self.data)))


def _gather(source: Iterable[Any], names: Sequence[str] | None, limit: int, *, batched: bool) -> Parts:
    """Takes one pass over batches or samples, and compares the beginning of a second one with it."""
    spools: list[Spool] = []
    labels: list[str | None] = []
    first: list[list[NDArray[Any]]] = []
    has_targets = False
    position = 0
    for item in source:
        inputs, targets = _item(item, names, batched)
        arrays = [value for _, value in inputs] + ([] if targets is None else [targets])
        if not spools:
            labels, has_targets = [name for name, _ in inputs], targets is not None
            what = [name or f"input {k}" for k, name in enumerate(labels)] + ["targets"] * has_targets
            spools = [Spool(name, limit // len(arrays)) for name in what]
        if len(arrays) != len(spools) or [name for name, _ in inputs] != labels:
            raise DataError(f"sample {position} has other inputs than the first one")
        for spool, value in zip(spools, arrays, strict=True):
            spool.append(value, position)
        if len(first) < COMPARED:
            first.append([value.copy() for value in arrays])
        position += len(arrays[0])
    if not spools:
        raise DataError("the data have no samples")
    # Every iterator of a loader starts its workers.
    again = iter(source)
    if again is not source:  # a generator can be passed only once
        for before, item in zip(first, again, strict=False):
            inputs, targets = _item(item, names, batched)
            arrays = [value for _, value in inputs] + ([] if targets is None else [targets])
            same = [a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(before, arrays, strict=True)]
            if not all(same):
                raise DataError(
                    "a second pass over the data gives other samples than the first: turn off shuffling and random augmentation, or "
                    "give one pass of it as tensors"
                )
    made = [spool.finish() for spool in spools]
    return list(zip(labels, made[: len(labels)], strict=True)), made[-1] if has_targets else None


def _item(item: Any, names: Sequence[str] | None, batched: bool) -> tuple[list[tuple[str | None, NDArray[Any]]], NDArray[Any] | None]:
    """Returns the arrays of a batch, or of a sample as a batch of one."""
    if not batched:
        item = _each(item, lambda value: numbers(value, "a sample")[None])
    inputs, targets = split(item, names)
    if any(isinstance(value, str) for _, value in inputs) or isinstance(targets, str):
        raise DataError("the samples of a data set are arrays, and these are text: tokenise them first")
    return [(name, value) for name, value in inputs if not isinstance(value, str)], targets if not isinstance(targets, str) else None


def _each(item: Any, convert: Any) -> Any:
    if isinstance(item, Mapping):
        return {key: _each(value, convert) for key, value in item.items()}
    if isinstance(item, (tuple, list)) and _several(item) or isinstance(item, tuple):
        return tuple(_each(value, convert) for value in item)
    return item if isinstance(item, (str, os.PathLike)) or item is None else convert(item)
