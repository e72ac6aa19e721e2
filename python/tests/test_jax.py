"""Functions of JAX with their parameters, against `jax.hessian` in double precision."""

from __future__ import annotations

import time

import hessblock as hb
import numpy as np
import pytest
from conftest import extra

jax = extra("jax")
extra("jax2onnx")
jnp = jax.numpy
from jax.flatten_util import ravel_pytree  # noqa: E402

RANDOM = np.random.default_rng(0)
LABELS = np.array([0, 2, 1, 0, 1, 2, 2])
POINTS = RANDOM.standard_normal((7, 3)).astype(np.float32)
IMAGES = RANDOM.standard_normal((7, 6, 6, 2)).astype(np.float32)


def normal(*shape):
    return jnp.asarray(RANDOM.standard_normal(shape) / 2, jnp.float32)


def mlp(params, x):
    h = jnp.tanh(x @ params["dense"]["kernel"] + params["dense"]["bias"])
    return h @ params["head"]["kernel"] + params["head"]["bias"]


MLP = {"dense": {"kernel": normal(3, 4), "bias": normal(4)}, "head": {"kernel": normal(4, 3), "bias": normal(3)}}


def convnet(params, x):
    """A convolution, maximum and mean over windows, and a dense layer; images have their channels last, as JAX has them."""
    order = ("NHWC", "HWIO", "NHWC")
    x = jax.lax.conv_general_dilated(x, params["conv"]["kernel"], (1, 1), "SAME", dimension_numbers=order)
    x = jax.nn.gelu(x + params["conv"]["bias"])
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "VALID") / 4
    return x.reshape(x.shape[0], -1) @ params["head"]


CONVNET = {"conv": {"kernel": normal(3, 3, 2, 3), "bias": normal(3)}, "head": normal(12, 3)}


def cross_entropy(z, t):
    return -jnp.take_along_axis(jax.nn.log_softmax(z), t[:, None], 1).mean()


def problem(function, params, loss="cross-entropy", data=(POINTS, LABELS), **options):
    return hb.Problem((function, params), loss, data, **{"device": "cpu", "dtype": "float64", **options})


def dense(function, params, loss=cross_entropy, data=(POINTS, LABELS)):
    """The Hessian by jax.hessian, in the order of ravel_pytree."""
    with jax.enable_x64(True):
        params = jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        inputs, targets = jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf, jnp.float64 if leaf.dtype.kind == "f" else None), data)
        flat, unravel = ravel_pytree(params)
        return np.asarray(jax.hessian(lambda w: loss(function(unravel(w), inputs), targets))(flat))


def agrees(p, wanted, tolerance=1e-12):
    found = np.asarray(hb.hessian(p).full())
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


def test_hessian_of_an_mlp_is_that_of_jax():
    agrees(problem(mlp, MLP), dense(mlp, MLP))


def test_hessian_of_a_convnet_is_that_of_jax():
    # Constants of gelu are in single precision in the graph.
    data = (IMAGES, LABELS)
    agrees(problem(convnet, CONVNET, data=data), dense(convnet, CONVNET, data=data), 1e-6)


def test_block_between_two_layers_and_product_are_those_of_jax():
    p, wanted = problem(mlp, MLP), dense(mlp, MLP)
    G = hb.hessian(p)
    np.testing.assert_allclose(np.asarray(G.block("dense", "head")), wanted[:16, 16:], atol=1e-14)
    v = RANDOM.standard_normal(p.size)
    np.testing.assert_allclose(G @ v, wanted @ v, atol=1e-13)


def test_parameters_are_named_by_their_path_in_the_order_of_ravel_pytree():
    p = problem(mlp, MLP)
    assert [each.name for each in p.parameters] == ["dense.bias", "dense.kernel", "head.bias", "head.kernel"]
    assert [layer.name for layer in p.layers] == ["dense", "head"]
    np.testing.assert_array_equal(p.values(), np.asarray(ravel_pytree(MLP)[0], np.float64))
    assert p.name == "mlp"


def test_lists_tuples_and_single_arrays_are_trees_too():
    p = problem(lambda params, x: jnp.tanh(x @ params[0]) @ params[1][0], [normal(3, 4), (normal(4, 3),)])
    assert [each.name for each in p.parameters] == ["0", "1.0"]
    assert [each.name for each in problem(lambda w, x: x @ w, normal(3, 3)).parameters] == ["params"]


def test_leaves_that_are_no_real_numbers_are_constants():
    params = {**MLP, "steps": jnp.arange(3), "activation": jnp.tanh, "rate": 0.5}

    def function(params, x):
        return params["rate"] * params["activation"](mlp(params, x)) + params["steps"]

    p = problem(function, params)
    assert p.size == 31
    agrees(p, dense(lambda own, x: function({**params, **own}, x), MLP))


def test_unused_parameter_has_zero_rows():
    params = {**MLP, "unused": normal(2)}
    with pytest.warns(UserWarning, match="unused"):
        p = problem(mlp, params)
    agrees(p, dense(mlp, params))


@pytest.mark.parametrize("name", ["cross-entropy", "mse", "bce"])
def test_losses_by_name_are_those_of_jax(name):
    targets = LABELS if name == "cross-entropy" else RANDOM.random((7, 3)).astype(np.float32)
    losses = {
        "cross-entropy": cross_entropy,
        "mse": lambda z, t: ((z - t) ** 2).mean(),
        "bce": lambda z, t: (jax.nn.softplus(z) - z * t).mean(),
    }
    data = (POINTS, targets)
    agrees(problem(mlp, MLP, name, data), dense(mlp, MLP, losses[name], data))


def test_classes_are_on_the_last_axis():
    tokens = RANDOM.integers(0, 5, (7, 4)).astype(np.int32)
    targets = RANDOM.integers(0, 3, (7, 4))
    params = {"embedding": normal(5, 2), "head": normal(2, 3)}

    def function(params, x):
        return jnp.tanh(params["embedding"][x]) @ params["head"]

    def loss(z, t):
        return -jnp.take_along_axis(jax.nn.log_softmax(z), t[..., None], -1).mean()

    data = (tokens, targets)
    agrees(problem(function, params, data=data), dense(function, params, loss, data))


@pytest.mark.parametrize("reduce", [jnp.mean, jnp.sum])
def test_callable_loss_is_differentiated_by_jax(reduce):
    def quartic(z, t):
        return reduce(((z - jax.nn.one_hot(t, 3)) ** 4).sum(-1))

    p = problem(mlp, MLP, quartic)
    agrees(p, dense(mlp, MLP, quartic))
    assert p.has_callable_loss


def test_functions_of_optax_are_losses():
    optax = extra("optax")
    assert problem(mlp, MLP, optax.softmax_cross_entropy_with_integer_labels).loss == "cross-entropy(mean)"
    onehot = (POINTS, np.eye(3, dtype=np.float32)[LABELS])
    agrees(problem(mlp, MLP, optax.softmax_cross_entropy, onehot), dense(mlp, MLP))


def test_loss_that_mixes_samples_is_refused():
    with pytest.raises(hb.ModelError, match="neither the mean nor the sum"):
        problem(mlp, MLP, lambda z, t: jnp.std(z))


def test_loss_that_is_a_mean_only_over_the_first_samples_is_refused():
    from hessblock._jax_loss import JaxLoss

    def weighted(z, t):
        weight = jnp.array([0.5, 2.0, 1.0])[t]
        each = -jnp.take_along_axis(jax.nn.log_softmax(z), t[..., None], -1)[..., 0]
        return (weight * each).sum() / weight.sum()

    outputs, classes = np.random.default_rng(1).standard_normal((30, 3)), np.arange(30) // 10
    with pytest.raises(hb.ModelError, match="weighted is neither the mean nor the sum over samples: 30 samples"):
        JaxLoss(weighted, (3,)).derivatives(outputs, classes)
    JaxLoss(weighted, (3,), "mean").derivatives(outputs, classes)


@pytest.mark.parametrize("samples", [1, (3, 4), (2, 6)])
def test_mean_over_a_range_of_samples_is_that_of_jax(samples):
    start, stop = (0, samples) if isinstance(samples, int) else samples

    def quartic(z, t):
        return ((z - jax.nn.one_hot(t, 3)) ** 4).sum(-1).mean()

    part = (POINTS[start:stop], LABELS[start:stop])
    agrees(problem(mlp, MLP, quartic, samples=samples), dense(mlp, MLP, quartic, part))


def test_inputs_come_by_keyword_by_dictionary_or_one_after_the_other():
    params = {"left": normal(3, 3), "right": normal(2, 3)}
    other = RANDOM.standard_normal((7, 2)).astype(np.float32)

    def several(params, left, right):
        return jnp.tanh(left @ params["left"]) + right @ params["right"]

    def together(params, batch):
        return several(params, batch["left"], batch["right"])

    wanted = dense(lambda params, x: several(params, *x), params, data=((POINTS, other), LABELS))
    named = {"right": other, "left": POINTS}
    agrees(problem(several, params, data=(named, LABELS)), wanted)
    agrees(problem(together, params, data=(named, LABELS)), wanted)
    agrees(problem(several, params, data=((POINTS, other), LABELS)), wanted)


def test_update_takes_a_tree_an_array_or_a_dictionary_in_milliseconds():
    p = problem(mlp, MLP)
    G = hb.hessian(p)
    other = jax.tree_util.tree_map(lambda leaf: 0.5 * leaf + 0.1, MLP)
    wanted = dense(mlp, other)
    p.update(other)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        p.update(other)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1
    np.testing.assert_allclose(np.asarray(G.full()), wanted, atol=1e-13)
    p.update()
    np.testing.assert_allclose(np.asarray(G.full()), dense(mlp, MLP), atol=1e-13)
    p.update(np.asarray(ravel_pytree(other)[0]))
    np.testing.assert_allclose(np.asarray(G.full()), wanted, atol=1e-7)
    with pytest.raises(hb.ShapeError, match="head.bias"):
        p.update({**other, "head": {"kernel": other["head"]["kernel"], "bias": normal(2)}})


def test_callable_loss_follows_update():
    def quartic(z, t):
        return ((z - jax.nn.one_hot(t, 3)) ** 4).sum(-1).mean()

    p = problem(mlp, MLP, quartic)
    other = jax.tree_util.tree_map(lambda leaf: 0.5 * leaf + 0.1, MLP)
    p.update(other)
    agrees(p, dense(mlp, other, quartic))


def test_function_in_double_precision_gives_a_problem_in_double_precision():
    with jax.enable_x64(True):
        params = jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf, jnp.float64) / 3, MLP)
    p = hb.Problem((mlp, params), "cross-entropy", (POINTS, LABELS), device="cpu")
    assert p.dtype == np.float64
    agrees(p, dense(mlp, params))


def test_jitted_functions_and_functions_of_one_sample_under_vmap_are_taken():
    def one(params, x):
        return mlp(params, x)

    agrees(problem(jax.jit(mlp), MLP), dense(mlp, MLP))
    agrees(problem(jax.vmap(one, (None, 0)), MLP), dense(mlp, MLP))


@pytest.mark.parametrize(
    "shape, window, strides, padding",
    [((6, 6, 2), (3, 2, 1), (2, 1, 1), "SAME"), ((2, 6, 6), (1, 2, 2), (1, 2, 2), "VALID"), ((6, 6), (2, 3), (2, 3), "VALID")],
)
@pytest.mark.parametrize("kind", ["max", "sum"])
def test_windows_over_any_axes_but_the_samples_are_pooling(shape, window, strides, padding, kind):
    x = RANDOM.standard_normal((7, *shape)).astype(np.float32)
    start, reduce = (-jnp.inf, jax.lax.max) if kind == "max" else (0.0, jax.lax.add)

    def function(w, x):
        x = jnp.tanh(x * w["scale"])
        x = jax.lax.reduce_window(x, start, reduce, (1, *window), (1, *strides), padding)
        return x.reshape(x.shape[0], -1)[:, :6] @ w["head"]

    params = {"scale": normal(*shape), "head": normal(6, 3)}
    data = (x, LABELS)
    agrees(problem(function, params, data=data), dense(function, params, data=data))


def test_flax_modules_are_taken_with_their_parameters():
    nn = extra("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            # Without keywords, which jax2onnx' own pooling wants.
            x = nn.max_pool(nn.relu(nn.Conv(3, (3, 3), name="conv")(x)), (2, 2), (2, 2))
            x = nn.LayerNorm(name="norm")(nn.Dense(5, name="dense")(x.reshape(x.shape[0], -1)))
            return nn.Dense(3, name="head")(nn.softmax(x))

    net = Net()
    params = net.init(jax.random.PRNGKey(0), IMAGES)["params"]

    def function(params, x):
        return net.apply({"params": params}, x)

    data = (IMAGES, LABELS)
    p = problem(function, params, data=data)
    assert [layer.name for layer in p.layers] == ["conv", "dense", "head", "norm"]
    agrees(p, dense(function, params, data=data), 1e-5)


def test_nnx_and_equinox_modules_are_taken_with_their_parameters():
    nnx, equinox = extra("flax.nnx"), pytest.importorskip("equinox")
    definition, state = nnx.split(nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
    p = problem(lambda state, x: jnp.tanh(nnx.merge(definition, state)(x)), state)
    assert [each.name for each in p.parameters] == ["bias", "kernel"]

    params, static = equinox.partition(equinox.nn.MLP(3, 3, 4, 1, key=jax.random.PRNGKey(0)), equinox.is_inexact_array)

    def function(params, x):
        return jax.vmap(equinox.combine(params, static))(x)

    p = problem(function, params)
    assert [each.name for each in p.parameters][:2] == ["layers.0.weight", "layers.0.bias"]
    agrees(p, dense(function, params))


def test_one_of_several_outputs_is_chosen():
    def function(params, x):
        return {"logits": mlp(params, x), "other": x}

    with pytest.raises(hb.ModelError, match="logits, other"):
        problem(function, MLP)
    agrees(problem(function, MLP, output="logits"), dense(mlp, MLP))
    agrees(problem(function, MLP, output=0), dense(mlp, MLP))


def test_function_that_branches_on_values_is_refused():
    with pytest.raises(hb.ModelError, match="branches on the values"):
        problem(lambda params, x: mlp(params, x) if x.sum() > 0 else x, MLP)


def test_function_with_a_baked_in_batch_is_refused():
    with pytest.raises(hb.ModelError, match="number of samples"):
        problem(lambda params, x: mlp(params, x) / int(x.shape[0]), MLP)


def test_function_of_one_sample_is_refused_with_the_remedy():
    with pytest.raises(hb.ModelError, match="jax.vmap"):
        problem(lambda params, x: mlp(params, x).sum(), MLP)


def test_operations_that_cannot_be_exported_are_all_listed():
    def function(params, x):
        return jax.scipy.special.bessel_jn(mlp(params, x), v=2)[2] + jax.random.gamma(jax.random.PRNGKey(0), x)

    with pytest.raises(hb.UnsupportedError) as caught:
        problem(function, MLP)
    assert "random_gamma" in str(caught.value), caught.value
    assert caught.value.nodes


def test_difference_from_the_function_is_found(monkeypatch):
    from hessblock import _jax

    export = _jax.export

    def wrong(*arguments):
        model = export(*arguments)
        for node in model.graph.node:
            node.op_type = "Sigmoid" if node.op_type == "Tanh" else node.op_type
        return model

    monkeypatch.setattr(_jax, "export", wrong)
    with pytest.raises(hb.CheckError, match="outputs differ"):
        problem(mlp, MLP)
    problem(mlp, MLP, check=False)


def test_half_precision_parameters_are_converted_with_a_note():
    params = jax.tree_util.tree_map(lambda leaf: leaf.astype(jnp.bfloat16), MLP)
    with pytest.warns(UserWarning, match="bfloat16"):
        p = problem(mlp, params)
    agrees(p, dense(mlp, params))


def test_two_paths_of_one_name_are_refused():
    with pytest.raises(hb.ModelError, match="a.b"):
        problem(mlp, {"a": {"b": normal(2)}, "a.b": normal(2)})
