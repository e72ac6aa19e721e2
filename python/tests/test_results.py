"""Results on disk, read, shown and checked."""

from __future__ import annotations

import hessblock as hb
import numpy as np
import pytest
from conftest import digits


@pytest.fixture(scope="module")
def written(single, tmp_path_factory):
    """A folder with all layers, a block between two, and the diagonal."""
    path = tmp_path_factory.mktemp("results") / "blocks"
    hb.ggn(single).parts(["layers", "layer=dense2,head", "diag"]).to_folder(path)
    return path


def test_results_name_their_parts_parameters_and_origin(written, single):
    results = hb.open(written)
    assert list(results) == ["layer=dense1", "layer=dense2", "layer=head", "layer=dense2,head", "diag"]
    assert results.dtype == np.float32 and len(results) == 5
    assert results.parameters == single.parameters
    assert results.provenance.curvature == "ggn" and results.provenance.samples == [0, 64]
    assert "layer=dense2,head  204 × 130" in repr(results)
    with pytest.raises(KeyError, match="there are"):
        results["layer=tail"]


def test_a_part_reads_what_is_indexed(written, single):
    stored, block = hb.open(written)["layer=dense2,head"], np.asarray(hb.ggn(single).block("dense2", "head"))
    assert stored.shape == block.shape and stored.dtype == block.dtype
    for index in (np.s_[:5, 3], np.s_[-1], np.s_[::50, [0, 7]], np.s_[...]):
        np.testing.assert_array_equal(stored[index], block[index])
    np.testing.assert_array_equal(hb.open(written)["head"][:2, :2], np.asarray(hb.ggn(single).block("head"))[:2, :2])
    np.testing.assert_array_equal(hb.open(written)["diag"][5:9], np.asarray(hb.ggn(single).diagonal())[5:9])
    with pytest.raises(ValueError, match="copy"):
        np.asarray(stored, copy=False)
    assert np.asarray(stored).flags.writeable


def test_show_reads_a_result_from_disk(written):
    shown = hb.show(written, parts=["layer=head"])
    assert shown.png()[1:4] == b"PNG" and "head" in repr(shown) and "<img" in shown._repr_html_()
    zoomed = hb.show(written, layer=("dense2", "head"))
    assert zoomed.to_dict()["parts"][0]["shape"] == [204, 130]
    assert hb.show(written, range=((0, 10), (0, 20))).to_dict()["parts"][0]["shape"] == [10, 20]
    assert len(hb.open(written).show().to_dict()["parts"]) == 5
    with pytest.raises(hb.RequestError):
        hb.show(written, parts=["layer=tail"])


def test_verify_compares_a_result_with_the_matrix_that_it_is_of(written, single):
    verdict = hb.verify(written, hb.ggn(single), entries=20)
    assert verdict and verdict.entries == 20
    other = digits()
    other.update(1.2 * other.values())
    assert not hb.verify(written, hb.ggn(other), entries=20)
    with pytest.raises(hb.RequestError, match=r"pass the operator, as in hb\.verify\(path, operator\)"):
        hb.verify(written)


def test_opening_a_path_without_a_result_is_a_file_error(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    for name in ("x.npy", "nothing", "nothing.zarr"):
        with pytest.raises(hb.FileError) as caught:
            hb.open(tmp_path / name)
        assert isinstance(caught.value, OSError)
