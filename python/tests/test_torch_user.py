"""What users of PyTorch try first: losses written by hand, targets of other shapes, gradients as tuples."""

import numpy as np
import pytest
from conftest import extra

torch = extra("torch")
import hessblock as hb  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812


def model(outputs=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, outputs)).double().eval()


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(20, 6, generator=generator, dtype=torch.float64), torch.randint(0, 4, (20,), generator=generator)


def test_empirical_fisher_of_a_callable_is_that_of_the_loss_it_computes(data):
    known = hb.Problem(model(), nn.CrossEntropyLoss(), data)
    own = hb.Problem(model(), lambda o, t: F.cross_entropy(o, t), data)
    np.testing.assert_allclose(hb.empirical_fisher(own).full(), hb.empirical_fisher(known).full(), atol=1e-12)
    total = hb.Problem(model(), lambda o, t: F.cross_entropy(o, t, reduction="sum"), data)
    reference = hb.Problem(model(), nn.CrossEntropyLoss(reduction="sum"), data)
    np.testing.assert_allclose(hb.empirical_fisher(total).trace(), hb.empirical_fisher(reference).trace(), rtol=1e-10)


def test_targets_that_pytorch_would_broadcast_or_refuse_are_refused(data):
    x, y = data
    for loss in (nn.MSELoss(), nn.BCEWithLogitsLoss()):
        with pytest.raises(hb.ModelError, match=r"\[N, 1\].*\[N\]"):
            hb.Problem(model(1), loss, (x, torch.rand(20, dtype=torch.float64)))
    with pytest.raises(hb.ModelError, match="long"):
        hb.Problem(model(), nn.CrossEntropyLoss(), (x, y.float()))


def test_loss_without_second_derivatives_has_a_ggn_of_zeros(data):
    p = hb.Problem(model(), nn.L1Loss(), (data[0], torch.randn(20, 4, dtype=torch.float64)))
    assert not np.any(hb.ggn(p).full())
    assert np.any(hb.hessian(p).full())


def test_gradients_as_a_tuple_of_tensors_are_a_vector(data):
    m = model()
    p = hb.Problem(m, nn.CrossEntropyLoss(), data)
    gradients = torch.autograd.grad(F.cross_entropy(m(data[0]), data[1]), list(m.parameters()))
    product = hb.ggn(p) @ gradients
    assert isinstance(product, tuple) and [each.shape for each in product] == [each.shape for each in gradients]
    flat = hb.ggn(p) @ torch.cat([each.flatten() for each in gradients])
    torch.testing.assert_close(torch.cat([each.flatten() for each in product]), flat)
    with pytest.raises(hb.ShapeError, match="3 arrays for 4 parameters"):
        hb.ggn(p) @ gradients[:3]


def test_layers_of_a_sequential_are_named_by_their_numbers_too(data):
    G = hb.ggn(hb.Problem(model(), nn.CrossEntropyLoss(), data))
    assert G.block(0, 2).shape == G.block("0", "2").shape
    with pytest.raises(TypeError, match="named by a string"):
        G.block(["0"])


def test_matrix_of_something_else_than_a_problem_is_refused():
    with pytest.raises(TypeError, match=r"Problem\(model, loss, data\)"):
        hb.ggn(model())
