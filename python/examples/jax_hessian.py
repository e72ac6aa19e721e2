"""The Hessian of a function of JAX, beside jax.hessian.

    python python/examples/jax_hessian.py           # needs hessblock[jax]
"""

import hessblock as hb
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def network(params, inputs):
    """A network of one hidden layer."""
    hidden = jnp.tanh(inputs @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return hidden @ params["head"]["kernel"] + params["head"]["bias"]


key = jax.random.split(jax.random.key(0), 4)
params = {
    "hidden": {"kernel": jax.random.normal(key[0], (5, 7)), "bias": jnp.zeros(7)},
    "head": {"kernel": jax.random.normal(key[1], (7, 3)), "bias": jnp.zeros(3)},
}
inputs, targets = jax.random.normal(key[2], (20, 5)), jax.random.normal(key[3], (20, 3))

p = hb.Problem((network, params), "mse", (inputs, targets), device="cpu", dtype="float64")
block = np.asarray(hb.hessian(p).block("hidden"))

flat, unravel = jax.flatten_util.ravel_pytree(params)
full = jax.hessian(lambda flat: jnp.mean((network(unravel(flat), inputs) - targets) ** 2))(flat)
rows = [i for layer in p.layers if layer.name == "hidden" for start, stop in layer.ranges for i in range(start, stop)]
print(p)
print("largest difference from jax.hessian:", np.abs(block - full[np.ix_(rows, rows)]).max())
