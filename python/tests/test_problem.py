"""Problems: what they are made from, what they say, and other weights."""

from __future__ import annotations

import sys
import time

import hessblock as hb
import numpy as np
import pytest
from conftest import IMAGES, LABELS, MODEL, digits, extra


def test_parameters_cover_the_flat_order_without_gaps(double):
    offset = 0
    for parameter in double.parameters:
        assert parameter.offset == offset
        assert parameter.size == np.prod(parameter.shape)
        offset += parameter.size
    assert offset == double.size == 1374
    assert [layer.name for layer in double.layers] == ["dense1", "dense2", "head"]
    assert sum(layer.size for layer in double.layers) == double.size
    assert double.layers[0].parameters == ("dense1.weight", "dense1.bias")


def test_repr_says_model_sizes_loss_and_device(single):
    text = repr(single)
    for part in ("digits/model.onnx", "1,374 parameters", "3 layers", "64 samples", "cross-entropy(mean)", "CPU", "float32"):
        assert part in text, part
    assert "dense1.weight" in single._repr_html_()


def test_a_path_its_bytes_and_arrays_give_the_same_problem(double, arrays):
    with open(MODEL, "rb") as file:
        model = file.read()
    other = hb.Problem(model, hb.Loss.cross_entropy(), arrays, device="cpu", dtype=np.float64)
    assert other.samples == 64
    assert other.loss_value() == double.loss_value()
    np.testing.assert_array_equal(other.gradient(), double.gradient())


def test_gradient_is_the_derivative_of_the_loss(fresh):
    gradient, values = fresh.gradient(), fresh.values()
    direction = np.random.default_rng(0).standard_normal(fresh.size)
    step = 1e-6
    losses = []
    for sign in (1, -1):
        fresh.update(values + sign * step * direction)
        losses.append(fresh.loss_value())
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(gradient @ direction, rel=1e-7)


def test_gradient_as_a_dictionary_has_the_shapes_of_the_parameters(double):
    flat, named = double.gradient(), double.gradient(as_dict=True)
    assert list(named) == [p.name for p in double.parameters]
    for p in double.parameters:
        assert named[p.name].shape == p.shape
        np.testing.assert_array_equal(named[p.name].ravel(), flat[p.range])
    flat[:] = 0
    assert np.any(double.gradient())
    np.testing.assert_array_equal(double.values(as_dict=True)["head.bias"], double.values()[-10:])


def test_jvp_and_vjp_are_adjoint(double):
    draws = np.random.default_rng(1)
    v, u = draws.standard_normal((double.size, 3)), draws.standard_normal((64, 3, 10))
    forward, backward = double.jvp(v), double.vjp(u)
    assert forward.shape == (64, 3, 10) and backward.shape == (double.size, 3)
    np.testing.assert_allclose(np.einsum("nkc,nkc->k", forward, u), np.einsum("pk,pk->k", v, backward), rtol=1e-10)
    np.testing.assert_allclose(double.jvp(v[:, 0]), forward[:, 0], atol=1e-12)
    np.testing.assert_allclose(double.vjp(u[:, 0]), backward[:, 0], atol=1e-12)
    named = double.vjp(u, as_dict=True)
    assert named["head.bias"].shape == (10, 3)


def test_outputs_have_their_own_shape_and_decide_the_accuracy(double, arrays):
    outputs = double.outputs()
    assert outputs.shape == (64, *double.output_shape) == (64, 10)
    assert double.accuracy() == np.mean(outputs.argmax(1) == arrays[1])


def test_update_gives_operators_and_blocks_the_new_weights(fresh):
    g = hb.ggn(fresh)
    block = g.block("head")
    before, version = np.array(block), fresh.version
    fresh.update(1.5 * fresh.values())
    assert fresh.version == version + 1 and not block.is_computed
    other = digits(dtype="float64")
    other.update(1.5 * other.values())
    np.testing.assert_array_equal(np.asarray(block), hb.ggn(other).block("head"))
    assert not np.allclose(before, block)


def test_update_takes_a_dictionary_and_milliseconds(fresh):
    named = {p.name: np.full(p.shape, 0.01, np.float32) for p in fresh.parameters}
    fresh.update(named)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        fresh.update(named)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.02
    np.testing.assert_allclose(fresh.values(), 0.01, rtol=1e-6)


def test_update_of_a_file_needs_values_that_fit(fresh):
    with pytest.raises(hb.RequestError, match="file"):
        fresh.update()
    with pytest.raises(hb.ShapeError, match="1,374 parameters"):
        fresh.update(np.zeros(3))
    with pytest.raises(hb.ShapeError, match=r"nearest: dense1\.weight"):
        fresh.update({"dense1.wieght": 0})


def test_samples_are_a_number_or_a_range(double):
    assert digits(samples=(8, 24)).samples == 16
    assert digits(samples=slice(None, None)).samples == 1797
    assert digits(samples=range(3)).samples == 3
    for wrong in ((5, 5), slice(0, 10, 2), 0):
        with pytest.raises(hb.RequestError, match="samples="):
            digits(samples=wrong)


def test_budgets_are_sizes_in_words_or_bytes():
    for size in ("2GiB", "1.5 GB", "512m", 1 << 30):
        assert digits(host_memory=size).samples == 64
    for wrong in ("2 bananas", "-1GiB", 0, ""):
        with pytest.raises(hb.RequestError, match="host_memory="):
            digits(host_memory=wrong)


def test_double_precision_runs_on_the_cpu():
    assert digits(device="auto", dtype="float64").dtype == np.float64
    assert digits().dtype == np.float32
    with pytest.raises(hb.RequestError, match="float32 or float64"):
        digits(dtype="int8")
    with pytest.raises(hb.RequestError, match="f64"):
        digits(device="gpu", dtype="float64")


def test_a_refused_argument_names_what_can_be_given():
    with pytest.raises(hb.ModelError, match=r"torch\.nn\.Module"):
        hb.Problem(3.0, "mse", (IMAGES, LABELS))
    with pytest.raises(hb.DataError, match="data"):
        hb.Problem(MODEL, "cross-entropy")
    with pytest.raises(hb.RequestError, match="loss"):
        hb.Problem(MODEL, None, (IMAGES, LABELS))
    with pytest.raises(hb.RequestError, match="mse"):
        hb.Problem(MODEL, "msee", (IMAGES, LABELS))
    with pytest.raises(hb.FileError, match="nothing.onnx"):
        hb.Problem("nothing.onnx", "mse", (IMAGES, LABELS))
    with pytest.raises(hb.RequestError, match="PyTorch"):
        digits(device="cuda:0")
    with pytest.raises(hb.DeviceError, match="nonsense"):
        digits(device="nonsense")


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.delitem(sys.modules, "hessblock._jax", raising=False)
    with pytest.raises(ImportError, match=r"hessblock\[jax\]"):
        hb.Problem((lambda params, x: x, {}), "mse", (IMAGES, LABELS))


def test_constant_parameters_are_left_out():
    problem = digits(constant="dense*")
    assert [layer.name for layer in problem.layers] == ["head"]


def test_a_given_hessian_of_the_loss_is_taken_at_the_outputs(double):
    class Squares:
        name = "half a square"

        def derivatives(self, outputs, targets):
            share = 1 / len(outputs)
            hessians = np.broadcast_to(np.eye(10) * share, (len(outputs), 10, 10)).copy()
            return 0.5 * share * (outputs**2).sum(1), share * outputs, hessians

    problem = digits(dtype="float64", loss=Squares())
    outputs = problem.outputs()
    assert problem.loss == "half a square"
    assert problem.loss_value() == pytest.approx(0.5 * (outputs**2).sum() / 64, rel=1e-12)
    v = np.random.default_rng(2).standard_normal(problem.size)
    np.testing.assert_allclose(hb.ggn(problem) @ v, problem.vjp(problem.jvp(v)) / 64, rtol=1e-9, atol=1e-12)
    problem.update(0.5 * problem.values())
    moved = problem.outputs()
    assert not np.allclose(moved, outputs)
    assert problem.loss_value() == pytest.approx(0.5 * (moved**2).sum() / 64, rel=1e-12)
    np.testing.assert_allclose(problem.gradient(), problem.vjp(moved) / 64, atol=1e-12)


def test_a_module_is_taken_with_its_weights_as_they_are_at_update(arrays):
    torch = extra("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 6), torch.nn.Tanh(), torch.nn.Linear(6, 10)).double().eval()
    images, labels = torch.from_numpy(arrays[0].reshape(64, -1).astype(np.float64)), torch.from_numpy(arrays[1]).long()
    loss = torch.nn.CrossEntropyLoss()
    problem = hb.Problem(model, loss, (images, labels), device="cpu")
    assert problem.dtype == np.float64 and problem.name == "Sequential"
    assert [p.name for p in problem.parameters] == [name for name, _ in model.named_parameters()]
    for _ in range(2):
        value = loss(model(images), labels)
        gradient = torch.autograd.grad(value, list(model.parameters()))
        assert problem.loss_value() == pytest.approx(value.item(), rel=1e-12)
        for found, expected in zip(problem.gradient(as_dict=True).values(), gradient, strict=True):
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(0.7)
        assert problem.values() == pytest.approx(torch.cat([w.ravel() for w in model.parameters()]).detach().numpy() / 0.7)
        problem.update()
    named = dict(model.named_parameters())
    assert list(hb.ggn(problem) @ named) == list(named)


def test_notes_of_a_model_are_warned_of(monkeypatch, recwarn):
    monkeypatch.setattr(hb.Problem, "notes", property(lambda self: ["weights were copied", "weights were copied"]))
    digits()
    (warning,) = [w for w in recwarn if w.category is UserWarning]
    assert str(warning.message) == "weights were copied"
