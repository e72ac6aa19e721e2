"""Opens results by the libraries that people read them with, and compares them with the same result in .npy files.

    python tests/readers/read.py FOLDER RESULT…

FOLDER is what `hessblock blocks --out FOLDER` wrote; every RESULT (NAME.zarr, FILE.safetensors) the same parts with the same
--tile. `pip install numpy zarr xarray dask safetensors`. `tests/zarr.rs` runs it where HESSBLOCK_PYTHON (or python3) has these.
"""

import json
import sys
import warnings
from pathlib import Path

import dask.array
import numpy as np
import xarray
import zarr
from safetensors import safe_open
from safetensors.numpy import load_file

warnings.simplefilter("error")  # a reader that has doubts about the format says so in a warning


def same(found, expected, what):
    found = np.asarray(found)
    assert found.dtype == expected.dtype and found.shape == expected.shape, (what, found.dtype, found.shape)
    assert np.array_equal(found, expected, equal_nan=True), f"{what}: other numbers"


def mirrored(found, chunk):
    """A whole matrix from the upper triangle of its chunks; checks that what lies below them is NaN."""
    chunks = np.arange(len(found)) // chunk
    below = chunks[:, None] > chunks[None, :]
    assert np.isnan(found[below]).all(), "chunks below the diagonal are there"
    return np.where(below, found.T, found)


def check_zarr(path, parts):
    group = zarr.open_group(path, mode="r")
    manifest = group.attrs["hessblock"]
    assert {p["part"] for p in manifest["parts"]} == set(parts), manifest["parts"]
    datasets = [
        xarray.open_zarr(path, consolidated=False),
        xarray.open_dataset(path, engine="zarr", consolidated=False, chunks={}),
    ]
    for record in manifest["parts"]:
        expected, name = parts[record["part"]], record["file"]
        array = group[name]
        assert np.isnan(array.fill_value)
        shards, chunks = array.shards, array.chunks
        readers = {
            "zarr": array[...],
            "dask": dask.array.from_zarr(path, component=name).compute(),
            "xarray": datasets[0][name].values,
            "xarray with dask": datasets[1][name].values,
        }
        triangle = array.attrs.get("triangle") == "upper"
        for reader, found in readers.items():
            what = f"{path}, {record['part']} by {reader} (chunks {chunks}, shards {shards}, triangle {triangle})"
            same(mirrored(found, chunks[0]) if triangle else found, expected, what)
        if not triangle:
            # A piece that begins and ends within chunks.
            piece = tuple(slice(n // 3, n - n // 5) for n in expected.shape)
            same(array[piece], expected[piece], f"{path}, a piece of {record['part']}")
        for side in ["row", "column"][: expected.ndim]:
            ranges = array.attrs[f"{side}s"]
            owners = array.attrs.get(f"{side}_parameters", array.attrs["row_parameters"])
            assert sum(b - a for a, b in ranges) == sum(o["at"][1] - o["at"][0] for o in owners), owners
            for owner in owners:
                own = [p for p in manifest["parameters"] if p["name"] == owner["name"]]
                assert own and own[0]["offset"] <= owner["flat"][0], owner


def check_safetensors(path, parts):
    tensors = load_file(path)
    assert set(tensors) == set(parts)
    for name, expected in parts.items():
        same(tensors[name], expected, f"{path}, {name}")
    with safe_open(path, "numpy") as file:
        manifest = json.loads(file.metadata()["hessblock"])
    assert [p["part"] for p in manifest["parts"]] == list(parts)


def main(folder, *results):
    index = json.loads((Path(folder) / "index.json").read_text())
    parts = {p["part"]: np.load(Path(folder) / p["file"]) for p in index["parts"]}
    for result in results:
        check = check_safetensors if result.endswith(".safetensors") else check_zarr
        check(result, parts)
    print(f"{len(results)} results of {len(parts)} parts are as in {folder}: zarr {zarr.__version__}, xarray {xarray.__version__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
