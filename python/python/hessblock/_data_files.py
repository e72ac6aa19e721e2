"""The first samples and the extents of data in files: what an example for a model is made from."""

from __future__ import annotations

import gzip
import math
import re
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ._errors import DataError, FileError

# The number types of IDX files, by the third byte.
IDX = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def samples(source: NDArray[Any] | str) -> int:
    """Returns the number of samples of an array or a file, which is the extent of the first axis."""
    if isinstance(source, np.ndarray):
        return int(source.shape[0])
    return sum(shape[0] if shape else 1 for shape, _ in map(_header, _parts(source)))


def take(source: NDArray[Any] | str, start: int, stop: int) -> NDArray[Any]:
    """Returns the samples `start..stop` of an array (a view) or of a file (no more of it is read than needed).

    Raises:
        FileError: The file cannot be read.
    """
    if isinstance(source, np.ndarray):
        return source[start:stop]
    pieces = []
    for part in _parts(source):
        extent = _header(part)[0][0]
        if start < extent and stop > 0:
            pieces.append(_read(part, max(start, 0), min(stop, extent)))
        start, stop = start - extent, stop - extent
        if stop <= 0:
            break
    if not pieces:
        raise DataError(f"{source} holds no samples {start}..{stop}")
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _parts(source: str) -> list[str]:
    """Returns the file itself, or the shards of a folder in the order of the numbers in their names."""
    folder = Path(source)
    if not folder.is_dir():
        return [source]
    names = [path.name for path in folder.iterdir() if re.search(r"\.npy(\.gz)?$", path.name)]
    if not names:
        raise FileError(f"{source} holds no .npy files", path=source)
    names.sort(key=lambda name: [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", name)])
    return [str(folder / name) for name in names]


def _open(source: str) -> Any:
    """Opens the array in a file, unpacked."""
    path, key = source, None
    at = source.rfind(".npz:")
    if at >= 0 and not Path(source).exists():
        path, key = source[: at + 4], source[at + 5 :]
    try:
        with open(path, "rb") as file:
            magic = file.read(2)
        if magic == b"PK":
            archive = zipfile.ZipFile(path)
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            wanted = f"{key}.npy" if key is not None else names[0] if len(names) == 1 else None
            if wanted not in names:
                keys = ", ".join(name.removesuffix(".npy") for name in names)
                raise FileError(f"{path} holds several arrays: name one of them, as in {path}:KEY ({keys})", path=path)
            return archive.open(wanted)
        return gzip.open(path, "rb") if magic == b"\x1f\x8b" else open(path, "rb")
    except (OSError, zipfile.BadZipFile) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path} cannot be read: {error}", path=path) from error


def _header(source: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Returns the shape and number type of the array in a file."""
    with _open(source) as file:
        return _front(source, file)


def _front(source: str, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Reads the header at the front of a file, as far as the first number."""
    magic = file.read(4)
    if magic[:2] == b"\0\0" and len(magic) == 4 and magic[2] in IDX:
        extents = np.frombuffer(file.read(4 * magic[3]), ">u4")
        return tuple(int(extent) for extent in extents), np.dtype(IDX[magic[2]])
    if magic != b"\x93NUM":
        raise FileError(f"{source} is of no known format: .npy, .npz, IDX and gzipped ones are read", path=source)
    file.read(2)
    version = tuple(file.read(2))
    read: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if fortran and sum(extent > 1 for extent in shape) > 1:
        raise FileError(f"{source} is in Fortran order: save numpy.ascontiguousarray(x)", path=source)
    return shape, dtype


def _read(source: str, start: int, stop: int) -> NDArray[Any]:
    with _open(source) as file:
        shape, dtype = _front(source, file)
        each = math.prod(shape[1:]) * dtype.itemsize
        file.seek(start * each, 1)
        bytes_ = file.read((stop - start) * each)
    if len(bytes_) < (stop - start) * each:
        raise FileError(f"{source} is shorter than its header says", path=source)
    return np.frombuffer(bytes_, dtype).reshape(stop - start, *shape[1:]).astype(dtype.newbyteorder("="))
