"""Operators: products in every kind of vector, traces, entries, and the parts that they give."""

from __future__ import annotations

import hessblock as hb
import numpy as np
import pytest
from conftest import extra

KINDS = {
    "ggn": hb.ggn,
    "hessian": hb.hessian,
    "residual": hb.residual,
    "fisher": lambda p: hb.fisher(p, samples=2, seed=3),
    "empirical": hb.empirical_fisher,
}


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_those_of_the_full_matrix(double, kind):
    operator = KINDS[kind](double)
    matrix = np.asarray(operator)
    assert matrix.shape == operator.shape == (1374, 1374)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    v = np.random.default_rng(0).standard_normal((operator.size, 3))
    np.testing.assert_allclose(operator @ v, matrix @ v, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(operator @ v[:, 0], matrix @ v[:, 0], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(operator.quadratic_form(v), np.einsum("ik,ij,jk->k", v, matrix, v), rtol=1e-9)
    np.testing.assert_allclose(operator.diagonal(), matrix.diagonal(), rtol=1e-9, atol=1e-12)
    assert operator.trace() == pytest.approx(matrix.trace(), rel=1e-10)
    for layer in double.layers:
        (start, stop), *_ = layer.ranges
        assert operator.traces()[layer.name] == pytest.approx(matrix.diagonal()[start:stop].sum(), rel=1e-9, abs=1e-12)


def test_the_hessian_is_g_plus_the_residual(double, full):
    np.testing.assert_allclose(np.asarray(hb.hessian(double)), full + np.asarray(hb.residual(double)), atol=1e-12)


def test_empirical_fisher_is_the_second_moment_of_the_gradients(double):
    outputs = double.outputs()
    labels = np.load(__import__("conftest").LABELS)[:64]
    share = np.exp(outputs - outputs.max(1, keepdims=True))
    errors = share / share.sum(1, keepdims=True) - np.eye(10)[labels]
    v = np.random.default_rng(4).standard_normal(double.size)
    weights = np.einsum("nc,nc->n", errors, double.jvp(v)) / 64
    np.testing.assert_allclose(hb.empirical_fisher(double) @ v, double.vjp(weights[:, None] * errors), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4", ">f8"])
def test_arrays_of_any_real_type_come_back_in_it(double, full, dtype):
    v = np.random.default_rng(1).standard_normal(double.size).astype(dtype)
    product = hb.ggn(double) @ v
    assert product.dtype == np.dtype(dtype)
    np.testing.assert_allclose(product.astype(np.float64), full @ v.astype(np.float64), atol=3e-2 if v.itemsize == 2 else 1e-4)


def test_integers_give_double_precision_and_complex_numbers_are_refused(double, full):
    ones = np.ones(double.size, int)
    product = hb.ggn(double) @ ones
    assert product.dtype == np.float64
    np.testing.assert_allclose(product, full.sum(1), atol=1e-10)
    with pytest.raises(TypeError, match="real"):
        hb.ggn(double) @ (1j * ones)


def test_arrays_in_any_memory_order_are_taken(double, full):
    v = np.random.default_rng(2).standard_normal((3, double.size)).T
    for order in (v, np.asfortranarray(v), v[:, ::-1], np.ascontiguousarray(v)):
        np.testing.assert_allclose(hb.ggn(double) @ order, full @ order, atol=1e-9)


def packed(values):
    """The values as a field of packed records, whose entries lie at any byte."""
    records = np.zeros(values.shape, np.dtype([("tag", "u1"), ("value", values.dtype)]))
    records["value"] = values
    return records["value"]


def odd(values):
    """The values in memory that starts at an odd byte."""
    memory = np.zeros(values.nbytes + 1, np.uint8)
    view = memory[1:].view(values.dtype).reshape(values.shape)
    view[...] = values
    return view


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("placed", [packed, odd])
def test_vectors_at_any_byte_are_taken(fresh, full, placed, dtype):
    v = np.random.default_rng(7).standard_normal((fresh.size, 2)).astype(dtype)
    g, tolerance = hb.ggn(fresh), {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(g @ placed(v), full @ v, **tolerance)
    np.testing.assert_allclose(g @ placed(v[:, 0]), full @ v[:, 0], **tolerance)
    np.testing.assert_allclose(g.quadratic_form(placed(v)), np.einsum("ik,ij,jk->k", v, full, v), rtol=1e-4)
    np.testing.assert_array_equal(fresh.jvp(placed(v)), fresh.jvp(v))
    u = fresh.outputs().astype(dtype)
    np.testing.assert_array_equal(fresh.vjp(placed(u)), fresh.vjp(u))
    named = {p.name: placed(v[p.range, 0].reshape(p.shape)) for p in fresh.parameters}
    np.testing.assert_allclose((g @ named)["head.bias"], (full @ v[:, 0])[-10:], **tolerance)
    fresh.update(placed(0.5 * fresh.values()))
    assert np.isfinite(fresh.loss_value())


def test_rows_times_the_operator_do_not_form_the_matrix(double, full):
    v = np.random.default_rng(3).standard_normal((2, double.size))
    np.testing.assert_allclose(v @ hb.ggn(double), v @ full, atol=1e-9)
    np.testing.assert_allclose(v[0] @ hb.ggn(double), v[0] @ full, atol=1e-9)
    torch = extra("torch")
    np.testing.assert_allclose(torch.from_numpy(v) @ hb.ggn(double), v @ full, atol=1e-9)


def test_dictionaries_come_back_as_dictionaries(double, full):
    draws = np.random.default_rng(5)
    for several in ((), (2,)):
        named = {p.name: draws.standard_normal((*p.shape, *several)).astype(np.float32) for p in double.parameters}
        product = hb.ggn(double) @ named
        flat = np.concatenate([named[p.name].reshape(p.size, *several) for p in double.parameters])
        assert list(product) == list(named)
        for p in double.parameters:
            assert product[p.name].dtype == np.float32 and product[p.name].shape == (*p.shape, *several)
            np.testing.assert_allclose(product[p.name].reshape(p.size, *several), (full @ flat)[p.range], atol=1e-4)
    form = hb.ggn(double).quadratic_form({p.name: np.ones(p.shape) for p in double.parameters})
    assert form == pytest.approx(full.sum(), rel=1e-9)


def test_vectors_that_do_not_fit_are_refused(double):
    g = hb.ggn(double)
    for wrong in (np.zeros(5), np.zeros((3, 1374)), np.zeros((1374, 1, 1)), 1.0):
        with pytest.raises(hb.ShapeError, match=r"give \[1374\]"):
            g @ wrong
    named = {p.name: np.zeros(p.shape) for p in double.parameters}
    with pytest.raises(hb.ShapeError, match=r"head\.bias"):
        g @ {k: v for k, v in named.items() if k != "head.bias"}
    with pytest.raises(hb.ShapeError, match=r"dense1\.bias.*shape \[4\]"):
        g @ {**named, "dense1.bias": np.zeros(4)}


def test_tensors_come_back_as_tensors(double, full):
    torch = extra("torch")
    v = torch.randn(double.size, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        product = hb.ggn(double) @ v.to(dtype)
        assert product.dtype == dtype and product.device == v.device
        np.testing.assert_allclose(product.double().numpy(), full @ v.to(dtype).double().numpy(), rtol=1e-2, atol=3e-2)
    named = {p.name: torch.ones(p.shape, requires_grad=True) for p in double.parameters}
    product = hb.ggn(double) @ named
    assert all(isinstance(value, torch.Tensor) and value.shape == named[name].shape for name, value in product.items())
    assert isinstance(double.jvp(v), torch.Tensor)
    forms = hb.ggn(double).quadratic_form(v)
    assert isinstance(forms, torch.Tensor) and forms.shape == (2,)


def test_entries_are_those_of_the_matrix(double, full):
    pairs = [(0, 0), (5, 1373), (1200, 3)]
    np.testing.assert_allclose(hb.ggn(double).entries(pairs), [full[pair] for pair in pairs], rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(hb.ggn(double).entries(np.array(pairs)), [full[pair] for pair in pairs], rtol=1e-9, atol=1e-14)
    with pytest.raises(hb.RequestError, match="outside"):
        hb.ggn(double).entries([(0, 1374)])


def test_estimated_trace_is_within_its_error(double, full):
    estimate = hb.ggn(double).estimated_trace(200, seed=1)
    assert abs(float(estimate) - full.trace()) < 5 * estimate.error
    assert set(estimate.layers) == {"dense1", "dense2", "head"}
    assert estimate == hb.ggn(double).estimated_trace(200, seed=1)


def test_rank_tolerance_cuts_the_factor_and_says_so(double, full):
    cut = hb.ggn(double).with_rank_tolerance(1e-2)
    assert hb.ggn(double).rank is None
    assert cut.rank.worst_share <= 1e-2 and cut.rank.directions <= cut.rank.all_directions
    v = np.random.default_rng(6).standard_normal(double.size)
    assert 0 <= v @ full @ v - cut.quadratic_form(v) <= 0.1 * (v @ full @ v)
    assert "rank tolerance 0.01" in repr(cut)
    with pytest.raises(hb.RequestError):
        hb.hessian(double).with_rank_tolerance(1e-2)


def test_rank_tolerance_follows_the_weights(fresh):
    cut = hb.ggn(fresh).with_rank_tolerance(1e-2)
    fresh.update(0.5 * fresh.values())
    again = hb.ggn(fresh).with_rank_tolerance(1e-2)
    v = np.ones(fresh.size)
    np.testing.assert_array_equal(cut @ v, again @ v)


def test_scipy_finds_the_largest_eigenvalues(double, full):
    linalg = extra("scipy.sparse.linalg")
    operator = hb.ggn(double).to_scipy()
    found = linalg.eigsh(operator, k=3, return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(found), np.linalg.eigvalsh(full)[-3:], rtol=1e-8)
    v = np.ones((double.size, 2))
    np.testing.assert_allclose(operator.matmat(v), full @ v, atol=1e-9)
    np.testing.assert_allclose(operator.rmatvec(v[:, 0]), full @ v[:, 0], atol=1e-9)


def test_an_unknown_layer_names_the_nearest(double):
    with pytest.raises(hb.RequestError, match="dense1"):
        hb.ggn(double).block("dense")
    with pytest.raises(hb.RequestError, match=r"head\.weight"):
        hb.ggn(double).block(param="head.wieght")
    with pytest.raises(hb.RequestError, match="layer"):
        hb.ggn(double).block()


def test_parts_are_asked_for_as_on_the_command_line(double, full):
    g = hb.ggn(double)
    parts = g.parts(["diag", "layers", "layer=dense1,head", ("head", "dense2"), "range=0..10,5..9", "param=head.bias", "full"])
    names = ["diag", "layer=dense1", "layer=dense2", "layer=head", "layer=dense1,head", "layer=head,dense2", "range=0..10,5..9"]
    assert list(parts) == [*names, "param=head.bias", "full"]
    found = parts.compute()
    np.testing.assert_allclose(found["layer=head,dense2"], full[1244:, 1040:1244], atol=1e-12)
    np.testing.assert_allclose(found["range=0..10,5..9"], full[:10, 5:9], atol=1e-12)
    np.testing.assert_allclose(parts["head"], full[1244:, 1244:], atol=1e-12)
    assert parts["head"].is_computed and "head" in parts and "tail" not in parts
    with pytest.raises(KeyError, match="layer=dense1"):
        parts["tail"]


def test_rectangles_are_slices_ranges_and_several_ranges(double, full):
    g = hb.ggn(double)
    np.testing.assert_allclose(g.rectangle(slice(3, 7), range(10, 30)), full[3:7, 10:30], atol=1e-12)
    rows = np.r_[0:4, 1300:1310]
    several = g.rectangle([(0, 4), (1300, 1310)], (7, 9))
    np.testing.assert_allclose(several[2:6], full[rows][2:6, 7:9], atol=1e-12)
    assert not several.is_computed
    np.testing.assert_allclose(several, full[rows][:, 7:9], atol=1e-12)
    assert several.verify(8)
    with pytest.raises(hb.RequestError, match="step"):
        g.rectangle(slice(0, 10, 2), (0, 1))
    with pytest.raises(hb.RequestError):
        g.rectangle((0, 2000), (0, 1))


def test_repr_says_matrix_model_and_shape(single):
    assert repr(hb.hessian(single)) == "Operator(Hessian of digits/model.onnx: 1,374 × 1,374, float32, 64 samples, CPU)"
    assert hb.ggn(single).T @ np.ones(1374) is not None
    assert "layer=dense1" in repr(hb.ggn(single).layers())
