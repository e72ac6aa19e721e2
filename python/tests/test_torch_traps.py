"""Modules that would not give the Hessian that their user expects are refused, with a reason and a cure."""

from __future__ import annotations

import gc
import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import hessblock as hb
from hessblock import _core
from hessblock._errors import ModelError, UnsupportedError
from hessblock._torch import TorchFrontend

CPU = torch.device("cpu")


def taken(module: Any, *inputs: Any, **options: Any) -> tuple[TorchFrontend, Any]:
    """Returns the frontend of a module, and its network."""
    frontend = TorchFrontend(module, **options)
    frontend.data(inputs[0] if len(inputs) == 1 else (tuple(inputs), None))
    graph = frontend.graph()
    network = _core.Network.from_graph(
        graph.proto, frontend.arrays(), graph.parameters, name=frontend.name, aliases=graph.aliases, output=graph.output
    )
    return frontend, network


def outputs(network: Any, *inputs: Any) -> np.ndarray[Any, Any]:
    given = [(None, np.asarray(value)) for value in inputs]
    return _core.outputs(network, given, _core.Device.open("cpu", "f64"))


def linear(module: nn.Module) -> nn.Module:
    """A module with `module` after a layer."""
    return nn.Sequential(OrderedDict(first=nn.Linear(4, 4), then=module, last=nn.Linear(4, 2)))


class Forward(nn.Module):
    """A linear layer and a function of it."""

    def __init__(self, function: Any, width: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(4, width)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.layer(x))


X = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.Dropout(0.5), nn.RReLU(), nn.AlphaDropout(0.1)])
def test_layers_in_training_mode_are_refused_by_name(layer: nn.Module) -> None:
    with pytest.raises(ModelError, match=rf"training mode.*then \({type(layer).__name__}\).*model\.eval\(\)"):
        TorchFrontend(linear(layer))


def test_a_single_layer_in_training_mode_is_refused_in_a_module_that_is_not() -> None:
    module = linear(nn.BatchNorm1d(4)).eval()
    module.then.train()
    with pytest.raises(ModelError, match=r"then \(BatchNorm1d\)"):
        TorchFrontend(module)


def test_training_mode_without_layers_that_differ_is_taken_and_stays() -> None:
    module = linear(nn.Sequential(nn.Tanh(), nn.Dropout(0.0)))
    _, network = taken(module, X)
    assert network.parameter_count == 30
    assert all(part.training for part in module.modules())
    module.first.eval()
    taken(module, X)
    assert not module.first.training and module.then.training


def test_own_layers_that_differ_in_training_mode_are_refused() -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(x, 0.5, self.training)

    module, state = linear(Noisy()), torch.random.get_rng_state()
    with pytest.raises(ModelError, match="computes something else than in evaluation"):
        taken(module, X)
    assert torch.equal(torch.random.get_rng_state(), state)
    taken(linear(Noisy()).eval(), X)


def test_norms_without_running_statistics_are_refused() -> None:
    with pytest.raises(ModelError, match=r"no running statistics.*then \(BatchNorm1d\)"):
        TorchFrontend(linear(nn.BatchNorm1d(4, track_running_stats=False)).eval())


def test_names_are_free_of_those_of_compile() -> None:
    module = linear(torch.compile(nn.Linear(4, 4)))
    module.last.compile()
    frontend, network = taken(torch.compile(module), X)
    names = ["first.weight", "first.bias", "then.weight", "then.bias", "last.weight", "last.bias"]
    assert frontend.graph().parameters == names and [name for name, *_ in network.parameters] == names
    assert frontend.name == "Sequential"
    with torch.no_grad():
        assert np.allclose(outputs(network, X), linear_eager(module)(X), atol=1e-5)


def linear_eager(module: nn.Module) -> Any:
    return lambda x: module.last(module.then._orig_mod(module.first(x)))


def test_parallel_wrappers_are_unwrapped_with_a_note() -> None:
    frontend, network = taken(nn.DataParallel(linear(nn.Tanh())), X)
    assert network.parameters[0][0] == "first.weight"
    assert any("DataParallel was unwrapped" in note for note in frontend.notes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_what_is_no_eager_module_is_refused() -> None:
    with pytest.raises(ModelError, match="TorchScript"):
        TorchFrontend(torch.jit.trace(linear(nn.Tanh()), X))
    with pytest.raises(ModelError, match=r"torch\.nn\.Module"):
        TorchFrontend(lambda x: x)


def test_names_of_inputs_and_values_may_be_those_of_parameters() -> None:
    class Clash(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x, self.tanh, self.output, self.val_0, self.a_b, self.lifted_tensor_0 = (nn.Parameter(torch.randn(4)) for _ in range(6))
            self.a = nn.Module()
            self.a.b = nn.Parameter(torch.randn(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.tanh(x * self.x + self.a_b) * self.tanh + self.output * self.a.b
            return y * torch.tensor([1.0, 2.0, 3.0, 4.0]) + self.val_0 * self.lifted_tensor_0

    module = Clash().eval()
    frontend, network = taken(module, X)
    assert [name for name, *_ in network.parameters] == [name for name, _ in module.named_parameters()]
    with torch.no_grad():
        assert np.allclose(outputs(network, X), module(X), atol=1e-5)


def test_two_tensors_of_one_name_are_refused() -> None:
    module = nn.Module()
    module.register_module("_orig_mod", nn.Linear(4, 2))
    module.weight = nn.Parameter(torch.randn(3))
    with pytest.raises(ModelError, match="two tensors of the module have the name 'weight'"):
        TorchFrontend(module)


BATCHES = {
    "view": lambda h: h.view(8, -1),
    "zeros": lambda h: h + torch.zeros(8, 4),
    "two": lambda h: h.reshape(2, -1),
    "rows": lambda h: h.reshape(-1, 8),
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_that_is_baked_in_is_refused(name: str) -> None:
    line = "" if name == "two" else r".*test_torch_traps.py:\d+"  # which fails for no number of samples
    with pytest.raises(ModelError, match=rf"works for a fixed batch{line}.*x\.shape\[0\]"):
        taken(Forward(BATCHES[name]), torch.randn(16, 4))


def test_control_flow_on_values_is_refused_at_its_line() -> None:
    with pytest.raises(ModelError, match=r"depends on values.*test_torch_traps\.py:\d+: .*sum.*torch\.where"):
        taken(Forward(lambda h: h if h.sum() > 0 else -h), X)
    with pytest.raises(ModelError, match="depends on values"):
        taken(Forward(lambda h: h[:, : int(h.argmax() % 3) + 1]), X)
    with pytest.raises(UnsupportedError, match="NonZero.*depends on values"):
        taken(Forward(lambda h: h[h > 0]), X)


def test_all_operations_without_a_form_in_onnx_are_listed_with_their_modules() -> None:
    svd = Forward(lambda h: torch.linalg.svdvals(h.reshape(-1, 2, 2)))
    bessel = Forward(torch.special.i0e, 2)
    module = nn.Sequential(OrderedDict(start=nn.Linear(4, 4), svd=svd, mix=nn.Linear(2, 4), bessel=bessel))
    with pytest.raises(UnsupportedError) as caught:
        taken(module, X)
    assert len(caught.value.nodes) == 2
    assert "linalg_svd" in caught.value.nodes[0] and "in svd" in caught.value.nodes[0]
    assert "i0e" in caught.value.nodes[1] and "in bessel" in caught.value.nodes[1]
    assert all(node in str(caught.value) for node in caught.value.nodes)


def test_operations_that_the_library_refuses_are_named_with_their_modules() -> None:
    module = nn.Sequential(OrderedDict(a=nn.Linear(4, 4), b=nn.Sequential(Forward(lambda h: h.sort(1)[0])), c=Forward(torch.tanh)))
    frontend = TorchFrontend(module)
    frontend.data(X)
    graph = frontend.graph()
    with pytest.raises(UnsupportedError) as caught:
        _core.Network.from_graph(graph.proto, frontend.arrays(), graph.parameters, name=frontend.name)
    assert 'of module "b.0"' in str(caught.value)
    assert any('of module "b.0"' in node for node in caught.value.nodes)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_converted_with_a_note(half: torch.dtype) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm, self.scale = nn.Linear(4, 4), nn.LayerNorm(4), torch.rand(4).to(half)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.layer(x)) * self.scale

    module = Constant().to(half)
    frontend, network = taken(module, X)
    assert any("converted to float32" in note for note in frontend.notes)
    assert dict(frontend.arrays())["layer.weight"].dtype == np.float32
    twin = Constant().double()
    twin.load_state_dict(module.state_dict())
    twin.scale = module.scale.double()
    with torch.no_grad():
        assert np.allclose(outputs(network, X), twin(X.double()), atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_weights_on_cuda_are_copied_with_a_note() -> None:
    module = linear(nn.Tanh()).cuda()
    frontend, network = taken(module, X)
    assert any("copied from cuda:0" in note for note in frontend.notes)
    with torch.no_grad():
        assert np.allclose(outputs(network, X), module(X.cuda()).cpu(), atol=1e-4)


def test_modules_without_values_are_refused() -> None:
    with pytest.raises(ModelError, match="meta device.*first.weight"):
        TorchFrontend(linear(nn.Tanh()).to("meta"))
    with pytest.raises(ModelError, match="not initialised yet.*then.weight"):
        TorchFrontend(linear(nn.LazyLinear(4)))


def test_parameters_of_other_number_types_are_refused() -> None:
    module = linear(nn.Tanh())
    module.phase = nn.Parameter(torch.randn(3, dtype=torch.complex64))
    with pytest.raises(UnsupportedError, match=r"phase \(complex64\)"):
        TorchFrontend(module)


def test_a_module_without_trained_parameters_is_refused() -> None:
    with pytest.raises(ModelError, match="nothing to differentiate"):
        TorchFrontend(linear(nn.Tanh()).requires_grad_(False))


def test_parametrised_weights_have_the_names_of_their_originals() -> None:
    module = linear(nn.Tanh()).eval()
    parametrizations.weight_norm(module.first)
    parametrizations.spectral_norm(module.last)
    _, network = taken(module.eval(), X)
    names = [name for name, *_ in network.parameters]
    assert names == [name for name, _ in module.named_parameters()]
    assert "first.parametrizations.weight.original1" in names
    with torch.no_grad():
        assert np.allclose(outputs(network, X), module(X), atol=1e-5)
    with pytest.raises(ModelError, match="_SpectralNorm"):
        TorchFrontend(module.train())


def test_a_tied_weight_has_its_first_name_and_a_note_says_the_other() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.emb, self.out = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
            self.out.weight = self.emb.weight
            self.unused = nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(torch.tanh(self.emb(x)))

    module, tokens = Tied(), torch.randint(10, (5, 3))
    frontend, network = taken(module, tokens)
    assert [(name, list(shape)) for name, _, shape, _ in network.parameters] == [("unused", [3]), ("emb.weight", [10, 4])]
    assert any("out.weight is tied to emb.weight" in note for note in frontend.notes)
    with torch.no_grad():
        assert np.allclose(outputs(network, tokens).reshape(5, 3, 10), module(tokens), atol=1e-5)


def test_frozen_parameters_are_constants() -> None:
    module = linear(nn.Tanh())
    module.first.requires_grad_(False)
    frontend, network = taken(module, X)
    assert frontend.graph().parameters == ["last.weight", "last.bias"]
    assert [name for name, *_ in network.parameters] == ["last.weight", "last.bias"]


def test_arrays_share_memory_with_the_module_and_follow_it() -> None:
    module = linear(nn.Tanh())
    frontend, _ = taken(module, X)
    arrays = dict(frontend.arrays())
    with torch.no_grad():
        module.first.weight.fill_(3.0)
    assert (arrays["first.weight"] == 3.0).all()
    module.first = nn.Linear(4, 4)
    assert np.shares_memory(dict(frontend.arrays())["first.weight"], module.first.weight.detach().numpy())
    del module.last.bias
    module.last.register_parameter("bias", None)
    with pytest.raises(ModelError, match=r"no last\.bias any more"):
        frontend.arrays()


def test_buffers_are_constants_that_are_followed() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.plain = nn.Linear(4, 4), torch.full((4,), 2.0)
            self.register_buffer("kept", torch.rand(4))
            self.register_buffer("loose", torch.rand(4), persistent=False)
            self.register_buffer("unread", torch.rand(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) * self.kept + self.loose * self.plain

    module = Scaled()
    frontend, network = taken(module, X)
    assert [name for name, _ in frontend.arrays()] == ["layer.weight", "layer.bias", "kept", "loose", "plain"]
    module.kept, module.loose = torch.rand(4), torch.rand(4)
    module.plain.fill_(3.0)
    with torch.no_grad():
        assert np.allclose(outputs(network.with_arrays(frontend.arrays()), X), module(X), atol=1e-5)


def test_the_module_is_as_before_after_an_export() -> None:
    module = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    taken(module, torch.randn(4, 3, 5, 5))
    assert not module[0]._forward_pre_hooks and module.training
    assert torch.backends.mha.get_fastpath_enabled()
    assert gc.isenabled() and gc.get_freeze_count() == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(type(tensor) is nn.Parameter and tensor.is_leaf for tensor in module.parameters())


def test_an_export_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    taken(linear(nn.Tanh()), X)
    with pytest.raises(ModelError):
        taken(Forward(lambda h: h if h.sum() > 0 else -h), X)
    assert capfd.readouterr() == ("", "")


def test_weights_do_not_go_into_the_graph() -> None:
    frontend, _ = taken(nn.Linear(4, 100_000), X)
    assert len(frontend.graph().proto) < 2000


def test_several_outputs_need_a_choice() -> None:
    module = Forward(lambda h: {"mean": h.mean(1, keepdim=True), "logits": h})
    with pytest.raises(ModelError, match="returns 2 tensors; choose one by output= 'mean', 'logits'"):
        taken(module, X)
    frontend, network = taken(module, X, output="logits")
    assert frontend.graph().output == "logits" and network.output_shape == [4]
    _, network = taken(Forward(lambda h: (h, h.mean(1, keepdim=True))), X, output=1)
    assert network.output_shape == [1]
    with pytest.raises(ModelError, match="'nothing' is not among them"):
        taken(module, X, output="nothing")


def test_gradients_that_are_cut_off_are_noted() -> None:
    frontend, _ = taken(Forward(lambda h: h * h.detach()), X)
    assert any("detach at" in note and "test_torch_traps.py" in note for note in frontend.notes)
    frontend, _ = taken(Forward(lambda h: h * (h > 0).detach()), X)
    assert not frontend.notes


def test_inputs_that_forward_does_not_take_are_refused() -> None:
    module = linear(nn.Tanh())
    frontend = TorchFrontend(module)
    with pytest.raises(ModelError, match="forward of Sequential takes input, and the data have 2 inputs"):
        frontend.data(((X, X), None))
    with pytest.raises(ModelError, match="forward of Forward takes x, and the data have the inputs x, y, z"):
        TorchFrontend(Forward(torch.tanh)).data({"x": X, "y": X, "z": X})
    with pytest.raises(ModelError, match="fails on 2 samples of the data.*cannot be multiplied"):
        frontend.data(torch.randn(3, 5))


def test_inputs_that_are_not_read_are_left_out() -> None:
    class Unread(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Any, y: Any, scale: float = 1.0, *, bias: Any, **more: Any) -> torch.Tensor:
            return scale * self.layer(x) + bias + more["other"]

    data = {"bias": torch.randn(6, 3), "y": X, "other": torch.randn(6, 3), "x": X}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problem = hb.Problem(Unread(), "cross-entropy", (data, torch.zeros(6, dtype=torch.int64)), device="cpu")
    assert problem.size == 15


def test_data_come_before_the_graph() -> None:
    with pytest.raises(ModelError, match="give the data first"):
        TorchFrontend(linear(nn.Tanh())).graph()
