"""Data in the forms that people have them become the same arrays, and what is not fixed samples is refused."""

from __future__ import annotations

import gc
import gzip
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, WeightedRandomSampler

from hessblock import DataError, FileError
from hessblock import _data_files as files
from hessblock._data import read
from hessblock._frontend import Data
from hessblock._spool import mapped

N = 7
X = torch.arange(N * 3, dtype=torch.float32).reshape(N, 3)
Y = torch.arange(N) % 3


class Pairs(Dataset[Any]):
    """A data set by index; labels are Python numbers."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, k: int) -> Any:
        if k >= N:
            raise IndexError(k)
        return X[k], int(Y[k])


class Noisy(Pairs):
    """Other samples in every pass."""

    def __getitem__(self, k: int) -> Any:
        return X[k] + torch.randn(3), int(Y[k])


class Stream(IterableDataset[Any]):
    """A data set that is read in one pass."""

    def __iter__(self) -> Iterator[Any]:
        return iter(Pairs()[k] for k in range(N))


class Named(Pairs):
    """Samples are dictionaries."""

    def __getitem__(self, k: int) -> Any:
        return {"a": X[k], "b": X[k, :2], "labels": Y[k]}


def same(data: Data, inputs: Any = X, targets: Any = Y) -> None:
    assert data.samples == N
    np.testing.assert_array_equal(data.inputs[0][1], inputs)
    assert (data.targets is None) == (targets is None)
    if targets is not None:
        np.testing.assert_array_equal(data.targets, targets)


FORMS: dict[str, Any] = {
    "tensors": (X, Y),
    "arrays": (X.numpy(), Y.numpy()),
    "lists": (X.tolist(), Y.tolist()),
    "a list of two": [X, Y],
    "a data set": Pairs(),
    "a data set of tensors": TensorDataset(X, Y),
    "a part of a data set": Subset(TensorDataset(X, Y), range(N)),
    "a stream": Stream(),
    "a loader": DataLoader(TensorDataset(X, Y), batch_size=3),
    "a loader of pairs": DataLoader(Pairs(), batch_size=2),
    "a loader of a stream": DataLoader(Stream(), batch_size=4),
    "a loader without batches": DataLoader(Pairs(), batch_size=None),
    "a generator of batches": None,
    "a list of batches as an object": None,
}


@pytest.mark.parametrize("name", FORMS)
def test_all_forms_of_data_give_the_same_arrays(name: str) -> None:
    form = FORMS[name]
    if name == "a generator of batches":
        form = ((X[k : k + 2], Y[k : k + 2]) for k in range(0, N, 2))
    if name == "a list of batches as an object":
        form = type("Batches", (), {"__iter__": lambda self: iter([(X[:4], Y[:4]), (X[4:], Y[4:])])})()
    same(read(form))


@pytest.mark.parametrize("data", [X, X.numpy(), TensorDataset(X), DataLoader(TensorDataset(X), batch_size=3), (X, None)])
def test_data_may_have_no_targets(data: Any) -> None:
    same(read(data), targets=None)


def test_tensors_and_arrays_are_not_copied() -> None:
    x, y = X.numpy(), Y.numpy()
    for form in ((X, Y), (x, y), TensorDataset(X, Y)):
        data = read(form)
        assert np.shares_memory(data.inputs[0][1], x) and np.shares_memory(data.targets, y)
    part = read((X[2:5, ::2], None)).inputs[0][1]
    assert np.shares_memory(part, x)


def test_several_inputs_by_name_and_in_order() -> None:
    forms = [({"a": X, "b": X[:, :2]}, Y), {"a": X, "b": X[:, :2], "labels": Y}, Named(), DataLoader(Named(), batch_size=3)]
    for form in forms:
        data = read(form, names=["a", "b"])
        assert [name for name, _ in data.inputs] == ["a", "b"]
        same(data)
    for form in [((X, X[:, :2]), Y), (X, X[:, :2], Y), DataLoader(TensorDataset(X, X[:, :2], Y), batch_size=4)]:
        data = read(form)
        assert [name for name, _ in data.inputs] == [None, None]
        same(data)
    assert read({"a": X, "labels": Y}).targets is None  # without names no key is known to be the targets
    assert read({"a": X, "b": X}, names=["a", "b"]).targets is None


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(TensorDataset(X, Y), shuffle=True),
        DataLoader(TensorDataset(X, Y), batch_size=2, sampler=WeightedRandomSampler(torch.ones(N).tolist(), N)),
        DataLoader(TensorDataset(X, Y), batch_size=2, sampler=torch.utils.data.SubsetRandomSampler(range(N))),
    ],
)
def test_loaders_that_shuffle_are_refused(loader: Any) -> None:
    with pytest.raises(DataError, match=r"another order in every pass \(\w*RandomSampler\).*shuffle=False"):
        read(loader)


@pytest.mark.parametrize("data", [Noisy(), DataLoader(Noisy(), batch_size=3)])
def test_random_augmentation_is_found_by_a_second_pass(data: Any) -> None:
    with pytest.raises(DataError, match="second pass over the data gives other samples"):
        read(data)


def test_a_loader_that_shuffles_by_itself_is_found_by_a_second_pass() -> None:
    class Shuffled(Stream):
        def __iter__(self) -> Iterator[Any]:
            return iter(Pairs()[k] for k in np.random.permutation(N))

    np.random.seed(0)
    with pytest.raises(DataError, match="second pass"):
        read(DataLoader(Shuffled(), batch_size=3))


def test_samples_beyond_the_limit_go_to_a_file_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = read(DataLoader(TensorDataset(X, Y), batch_size=2), limit=100)
    assert isinstance(data.inputs[0][1], np.memmap)
    same(data)
    del data
    gc.collect()
    assert not os.listdir(tmp_path)


def test_samples_of_different_shapes_are_refused_by_number() -> None:
    class Ragged(Pairs):
        def __getitem__(self, k: int) -> Any:
            return X[k, : 2 + (k == 4)], 0

    with pytest.raises(DataError, match=r"input 0 of sample 4 has shape \[3\].*sample 0 has shape \[2\].*pad"):
        read(Ragged())


def test_data_that_cannot_be_taken_are_refused_with_the_reason() -> None:
    with pytest.raises(DataError, match=r"input 0: 7, targets: 6"):
        read((X, Y[:6]))
    with pytest.raises(DataError, match="is a single number"):
        read((X, 3))
    with pytest.raises(DataError, match="no samples"):
        read((X[:0], Y[:0]))
    with pytest.raises(DataError, match="arrays of real numbers"):
        read((np.array(["a", "b"]), None))
    with pytest.raises(DataError, match="sparse"):
        read((X.to_sparse(), Y))
    with pytest.raises(DataError, match="complex"):
        read((X.to(torch.complex64), Y))
    with pytest.raises(DataError):
        read(object())


def test_bfloat16_and_gradients_are_no_obstacle() -> None:
    data = read((X.clone().requires_grad_().bfloat16(), Y))
    assert data.inputs[0][1].dtype == np.float32
    same(data)


def test_files_are_paths_and_their_first_samples_are_read(tmp_path: Path) -> None:
    x, y = X.numpy(), Y.numpy()
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "both.npz", x=x, y=y)
    np.savez_compressed(tmp_path / "packed.npz", x=x)
    with gzip.open(tmp_path / "x.npy.gz", "wb") as file:
        np.save(file, x)
    (tmp_path / "x.idx").write_bytes(bytes([0, 0, 13, 2]) + struct.pack(">II", N, 3) + x.astype(">f4").tobytes())
    (tmp_path / "shards").mkdir()
    for k, start in ((2, 0), (10, 4)):
        np.save(tmp_path / "shards" / f"part{k}.npy", x[start : start + 4])
    for name in ("x.npy", "both.npz:x", "packed.npz", "packed.npz:x", "x.npy.gz", "x.idx", "shards"):
        path = str(tmp_path / name)
        data = read((tmp_path / name, tmp_path / "both.npz:y"))
        assert data.inputs[0][1] == path and data.samples == N, name
        np.testing.assert_array_equal(files.take(path, 2, 6), x[2:6])
        assert files.take(path, 2, 6).flags.writeable and files.take(path, 2, 6).dtype == np.float32
    with pytest.raises(FileError, match="name one of them"):
        read(str(tmp_path / "both.npz"))
    with pytest.raises(FileError, match=r"cannot be read"):
        read(str(tmp_path / "absent.npy"))
    (tmp_path / "other").write_bytes(b"hello world")
    with pytest.raises(FileError, match="no known format"):
        read(str(tmp_path / "other"))


def test_the_module_of_data_needs_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\nfrom hessblock._data import read\n"
        "assert read((np.ones((3, 2)), np.ones(3))).samples == 3"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def test_a_loader_is_iterated_twice() -> None:
    class Loader:
        """Batches, with a count of the passes."""

        passes = 0

        def __iter__(self) -> Any:
            self.passes += 1
            return iter([(X[:4], Y[:4]), (X[4:], Y[4:])])

    loader = Loader()
    assert read(loader).samples == len(X)
    assert loader.passes == 2


def test_a_file_of_the_name_of_a_temporary_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "numbers.bin"
    array = mapped(str(path), (3,), np.float32, "w+")
    if path.exists():
        pytest.skip("this system keeps a file that is mapped")
    path.write_text("another")
    del array
    gc.collect()
    assert path.read_text() == "another"
