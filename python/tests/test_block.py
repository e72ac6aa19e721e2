"""Blocks: lazy arrays with NumPy's indexing and protocols, and files."""

from __future__ import annotations

import json

import hessblock as hb
import numpy as np
import pytest
from conftest import digits, extra

# Of a block between two layers, [204, 130]: its entries are distinct, so that a wrong index is seen.
INDICES = {
    "corner": np.s_[:100, :100],
    "an entry": np.s_[3, 5],
    "from the end": np.s_[-1, -130],
    "a row": np.s_[7],
    "a column": np.s_[:, 9],
    "steps": np.s_[5:90:7, 3:100:2],
    "backwards": np.s_[::-1, 100:2:-3],
    "dots": np.s_[..., 4],
    "dots before": np.s_[2:5, ...],
    "dots alone": np.s_[...],
    "new axis": np.s_[None, 3:6, None, 2],
    "nothing": np.s_[10:10],
    "integers": np.s_[[4, 0, -1, 4]],
    "pairs": (np.array([1, -2, 3]), np.array([0, 5, -1])),
    "grid": np.ix_([3, 100, 50], [129, 0]),
    "row with integers": np.s_[2, [5, 9]],
    "mask": np.s_[np.arange(204) % 50 == 3, 2:4],
    "unsigned integers": np.s_[np.array([7, 3], np.uint64), np.array(9, np.uint64)],
    "unsigned bytes": np.s_[:, np.array([129, 3], np.uint8)],
    "no unsigned integers": np.s_[np.zeros(0, np.uint64)],
    "empty list": np.s_[[]],
    "empty mask": np.s_[:, np.zeros(130, bool)],
    "all": np.s_[:, :],
}


@pytest.fixture
def block(double):
    return hb.ggn(double).block("dense2", "head")


@pytest.fixture(scope="module")
def right(full):
    return full[1040:1244, 1244:]


def test_nothing_is_computed_until_it_is_asked_for(block):
    assert (block.shape, block.ndim, block.size) == ((204, 130), 2, 204 * 130)
    assert block.dtype == np.float64 and block.nbytes == 8 * block.size and len(block) == 204
    assert block.rows == [(1040, 1244)] and block.columns == [(1244, 1374)]
    plan = block.plan()
    assert plan.bytes == block.nbytes and plan.seconds > 0 and plan.host_bytes > 0
    assert "dense2.weight" in str(plan) and "expected" in str(plan) and "pre" in plan._repr_html_()
    assert plan.to_dict()["output_bytes"] == block.nbytes
    assert not block.is_computed and "not computed" in repr(block)
    np.asarray(block)
    assert block.is_computed and ", computed" in repr(block)


@pytest.mark.parametrize("name", INDICES)
def test_indexing_is_numpys(block, right, name):
    index = INDICES[name]
    for _ in range(2):
        found = block[index]
        assert np.shape(found) == np.shape(right[index])
        np.testing.assert_allclose(found, right[index], atol=1e-12)
        block.compute()


def test_a_mask_of_two_axes_picks_entries(block, right):
    mask = np.zeros(right.shape, bool)
    mask[[3, 80], [7, 100]] = True
    np.testing.assert_allclose(block[mask], right[mask], atol=1e-12)
    assert not block.is_computed


def test_an_index_computes_its_rectangle_only(block):
    block[:3, ::40]
    assert not block.is_computed


@pytest.mark.parametrize(
    "index", [np.s_[204], np.s_[0, -131], np.s_[0, 0, 0], np.s_[1.5], np.s_["a"], np.s_[..., ...], np.s_[np.ones(3, bool)], np.s_[[300]]]
)
def test_a_wrong_index_is_refused(block, right, index):
    with pytest.raises(IndexError):
        right[index]
    with pytest.raises(IndexError):
        block[index]


def test_the_array_is_the_blocks_own_and_read_only(block):
    first, second = np.asarray(block), np.asarray(block)
    assert np.shares_memory(first, second)
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1
    copied = np.array(block)
    copied[0, 0] = 7
    assert np.asarray(block)[0, 0] != 7


def test_array_protocol_follows_numpy_2(block):
    assert np.asarray(block, np.float32).dtype == np.float32
    assert np.shares_memory(np.asarray(block, copy=False), np.asarray(block))
    with pytest.raises(ValueError, match="copy"):
        np.asarray(block, np.float32, copy=False)
    assert block.__array__().shape == block.shape
    assert not np.shares_memory(np.asarray(block, copy=True), np.asarray(block))


def test_arithmetic_and_functions_take_a_block_as_an_array(block, right):
    np.testing.assert_allclose(2 * block + 1, 2 * right + 1, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(block), np.linalg.norm(right))
    np.testing.assert_allclose(np.vstack([block, block]), np.vstack([right, right]), atol=1e-12)
    np.testing.assert_allclose([row.sum() for row in block], right.sum(1), atol=1e-12)
    with pytest.raises(TypeError, match="written"):
        np.add(right, 1, out=block)


def test_a_product_with_a_block_does_not_form_it(block, right):
    v = np.random.default_rng(0).standard_normal((130, 2))
    np.testing.assert_allclose(block @ v, right @ v, atol=1e-10)
    np.testing.assert_allclose(block @ v[:, 0], right @ v[:, 0], atol=1e-10)
    assert not block.is_computed
    np.asarray(block)
    np.testing.assert_allclose(block @ v, right @ v, atol=1e-10)
    with pytest.raises(ValueError, match="204 × 130"):
        hb.ggn(block.operator.problem).block("dense2", "head") @ np.ones(3)


@pytest.mark.parametrize("computed", [False, True])
def test_a_product_with_a_tensor_is_a_tensor(block, right, computed):
    torch = pytest.importorskip("torch")
    if computed:
        block.compute()
    for dtype in (torch.float32, torch.float64):
        v = torch.randn(130, 2, dtype=dtype, generator=torch.Generator().manual_seed(1), requires_grad=True)
        product = block @ v
        assert isinstance(product, torch.Tensor) and product.dtype == dtype
        np.testing.assert_allclose(product.numpy(), right @ v.detach().numpy(), rtol=1e-4, atol=1e-5)
    u = torch.randn(204, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    product = u @ block
    assert isinstance(product, torch.Tensor)
    np.testing.assert_allclose(product.numpy(), u.detach().numpy() @ right, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, int])
def test_a_product_has_the_type_of_the_computed_block(block, dtype):
    before = block @ np.ones(130, dtype)
    block.compute()
    assert (block @ np.ones(130, dtype)).dtype == before.dtype


def test_blocks_are_keys_of_dictionaries(block, tmp_path):
    block.to_npy(tmp_path / "b.npy")
    (stored,) = hb.open(tmp_path / "b.npy").values()
    other = hb.ggn(block.operator.problem).block("head")
    named = {block: "block", other: "other", stored: "stored"}
    assert (named[block], named[other], named[stored]) == ("block", "other", "stored")


def test_free_forgets_the_numbers_but_not_arrays_that_were_handed_over(block, right):
    kept = np.asarray(block)
    block.free()
    assert not block.is_computed
    np.testing.assert_allclose(kept, right, atol=1e-12)


def test_dlpack_and_tensors_share_the_memory(block, right):
    torch = extra("torch")
    tensor = torch.from_dlpack(block)
    assert tensor.shape == right.shape
    np.testing.assert_allclose(tensor.numpy(), right, atol=1e-12)
    assert tensor.data_ptr() == block.to_torch().data_ptr() == np.asarray(block).ctypes.data
    assert block.to_torch(copy=True).data_ptr() != tensor.data_ptr()
    assert block.to_torch(dtype=torch.float32).dtype == torch.float32
    assert np.shares_memory(np.from_dlpack(block), np.asarray(block))


def test_the_diagonal_is_a_vector(double, full):
    diagonal = hb.ggn(double).diagonal()
    assert diagonal.shape == (1374,) and diagonal.columns is None and not diagonal.is_computed
    np.testing.assert_allclose(diagonal[10:20], full.diagonal()[10:20], atol=1e-12)
    np.testing.assert_allclose(1 / (diagonal + 1), 1 / (full.diagonal() + 1), rtol=1e-9)
    assert diagonal[-1] == np.asarray(diagonal)[-1]
    with pytest.raises(IndexError):
        diagonal[0, 0]


def test_verify_compares_with_the_definition(double, single):
    for problem in (double, single):
        for matrix in (hb.ggn(problem), hb.hessian(problem)):
            for block in (matrix.block("dense2", "head"), matrix.diagonal()):
                verdict = block.verify(16, seed=3)
                assert verdict and verdict.passed and verdict.entries == 16
                assert verdict.worst.error <= verdict.tolerance
    assert "passed" in repr(verdict)


def test_verify_finds_a_wrong_entry(double):
    block = hb.ggn(double).block("head")
    block._computed(None)[:] += 1e-6
    verdict = block.verify(8)
    assert not verdict and verdict.worst.found != verdict.worst.expected
    assert "FAILED" in repr(verdict)


def test_show_draws_small_blocks_and_describes_large_ones(block, monkeypatch, tmp_path):
    shown = block.show()
    assert shown.png()[1:4] == b"PNG" and "<svg" in shown.svg() and "dense2" in repr(shown)
    assert shown.to_dict()["parts"][0]["shape"] == [204, 130]
    shown.save(tmp_path / "block.html")
    assert "<html" in (tmp_path / "block.html").read_text()
    with pytest.raises(FileExistsError):
        shown.save(tmp_path / "block.html")
    with pytest.raises(hb.RequestError, match="must end in"):
        shown.save(tmp_path / "block.gif")
    block.free()
    assert "data:image/png" in block._repr_html_()
    block.free()
    monkeypatch.setattr("hessblock._block._SHOWN_ENTRIES", 1000)
    text = block._repr_html_()
    assert "Not computed" in text and "expected" in text and not block.is_computed


def test_files_hold_the_numbers_of_the_array(block, tmp_path):
    report = block.to_npy(tmp_path / "b.npy")
    assert report.tiles >= 1 and report.bytes == block.nbytes and report.gflops > 0 and "tile" in repr(report)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), block)
    block.to_zarr(tmp_path / "b.zarr", compress=3)
    block.to_safetensors(tmp_path / "b.safetensors")
    block.to_folder(tmp_path / "b")
    for name in ("b.npy", "b.zarr", "b.safetensors", "b"):
        (part,) = hb.open(tmp_path / name).values()
        assert part.name == "layer=dense2,head"
        np.testing.assert_array_equal(part, block)


def test_a_result_is_replaced_only_if_that_is_asked_for(fresh, tmp_path):
    block = hb.ggn(fresh).block("head")
    path = tmp_path / "b.npy"
    block.to_npy(path)
    fresh.update(0.5 * fresh.values())
    with pytest.raises(hb.FileError, match="exists already") as caught:
        block.to_npy(path)
    assert isinstance(caught.value, OSError) and caught.value.path == str(path)
    block.to_npy(path, overwrite=True)
    np.testing.assert_array_equal(np.load(path), block)


def test_a_path_of_another_ending_is_refused(block, tmp_path):
    for method, name in (("to_npy", "b.zarr"), ("to_zarr", "b"), ("to_folder", "b.npy"), ("to_safetensors", "b.bin")):
        with pytest.raises(hb.RequestError, match="give a name"):
            getattr(block, method)(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_shares_of_several_processes_are_merged(double, tmp_path):
    block = hb.ggn(double).full()
    for k in (1, 2):
        block.to_zarr(tmp_path / "h.zarr", shard=(k, 2))
    merged = hb.merge(tmp_path / "h.zarr")
    assert isinstance(merged.to_dict(), dict)
    np.testing.assert_array_equal(hb.open(tmp_path / "h.zarr")["full"], block)


def test_parts_are_written_together(double, tmp_path):
    parts = hb.ggn(double).layers()
    assert list(parts) == ["layer=dense1", "layer=dense2", "layer=head"]
    parts.to_folder(tmp_path / "layers")
    index = json.loads((tmp_path / "layers" / "index.json").read_text())
    assert [part["part"] for part in index["parts"]] == list(parts)
    assert parts.plan().bytes == parts.nbytes
    found = parts.compute()
    for name, part in hb.open(tmp_path / "layers").items():
        np.testing.assert_array_equal(part, found[name])


def test_a_result_over_the_budget_says_what_it_needs():
    tight = digits(host_memory="4MiB")
    with pytest.raises(hb.BudgetError) as caught:
        np.asarray(hb.ggn(tight))
    assert isinstance(caught.value, MemoryError)
    assert caught.value.needed > caught.value.available and caught.value.remedy is not None


def test_a_run_of_other_weights_at_the_same_place_says_how_it_differs(fresh, tmp_path):
    block, path = hb.ggn(fresh).full(), tmp_path / "h.zarr"
    block.to_zarr(path, shard=(1, 2))
    fresh.update(0.5 * fresh.values())
    with pytest.raises(hb.OtherRunError, match="weights") as caught:
        block.to_zarr(path, shard=(2, 2))
    assert isinstance(caught.value, FileExistsError) and caught.value.path == f"{path}.partial"
    assert caught.value.remedy == ("restart", {}) and "weights" in caught.value.differences[0]


def test_a_result_larger_than_the_disk_says_what_it_needs(tmp_path):
    torch = extra("torch")
    model, data = torch.nn.Linear(2000, 1500), (torch.zeros(2, 2000), torch.zeros(2, 1500))
    problem = hb.Problem(model, torch.nn.MSELoss(), data, device="cpu")
    with pytest.raises(hb.DiskError, match="free") as caught:
        hb.ggn(problem).full().to_npy(tmp_path / "h.npy")
    assert isinstance(caught.value, OSError) and caught.value.path == str(tmp_path / "h.npy")
    assert caught.value.needed >= 4 * problem.size**2 > caught.value.available > 0
    assert caught.value.remedies[0][0] == "part" and not list(tmp_path.iterdir())
