"""Updates within the backward pass: the same step to the last bit, in less memory."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
import torch.nn.functional as F
from problems import dense_net, problem
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint

import dlrt
from experiments.benchmark.memory import peak_bytes

ONE_POINT = [name for name in sorted(dlrt.INTEGRATORS) if not dlrt.INTEGRATORS[name].new_points]


def train(name, model, batches, in_backward, loss=F.cross_entropy, **options):
    """A copy of the model after a step per batch, and its integrator."""
    net = copy.deepcopy(model)
    stepper = dlrt.INTEGRATORS[name](net, in_backward=in_backward, **options)
    for x, y in batches:
        stepper.step(lambda x=x, y=y: loss(net(x), y))
    return net, stepper


def flat(tree):
    """All values within nested dicts and lists, with their paths."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else None
    return {(): tree} if items is None else {(key, *path): v for key, x in items for path, v in flat(x).items()}


def assert_same(a, b):
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    for path, x in a.items():
        assert torch.equal(x, b[path]) if isinstance(x, torch.Tensor) else x == b[path], path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("kind", ["mlp", "small batch", "shared", "conv"])
@pytest.mark.parametrize("name", ONE_POINT)
def test_the_same_steps_to_the_last_bit(name, kind, rule, dtype):
    torch.set_default_dtype(dtype)
    net, x, y = dense_net(kind)
    model = dlrt.factorize(net, rank=3)
    batches = [(x + 0.1 * torch.randn_like(x), y) for _ in range(3)]
    options = {"lr": 0.02, "tau": 0.05, "decay": 0.1, "optimizer": rule}
    one, plain = train(name, model, batches, False, **options)
    two, stepper = train(name, model, batches, True, **options)
    assert_same(one.state_dict(), two.state_dict())
    assert_same(plain.state_dict(), stepper.state_dict())
    start = model.state_dict()
    assert not any(torch.equal(v, start[k]) for k, v in two.state_dict().items() if k.endswith("U"))


def deep(layers=8, width=64, batch=96, rank=4):
    net = nn.Sequential(*[m for _ in range(layers) for m in (nn.Linear(width, width), nn.Tanh())])
    return dlrt.factorize(net, rank=rank, init="orthonormal"), torch.randn(batch, width)


@pytest.mark.parametrize("name", ONE_POINT)
def test_cotangents_are_freed_layer_by_layer(name):
    """At the end of the ordinary pass the cotangents of all layers are alive, here not more than three."""
    layers, batch, width = 8, 96, 64
    model, x = deep(layers, width, batch)
    peaks = []
    for in_backward in (False, True):
        net = copy.deepcopy(model)
        stepper = dlrt.INTEGRATORS[name](net, lr=0.1, in_backward=in_backward)
        work = lambda net=net, stepper=stepper: stepper.step(lambda: net(x).square().mean())  # noqa: E731
        peaks.append(peak_bytes(net.parameters(), work, torch.device("cpu")))
    cotangent = 4 * batch * width
    assert peaks[1] <= peaks[0] - (layers - 3) * cotangent


@pytest.mark.parametrize("in_backward", [False, True])
@pytest.mark.parametrize("name", ONE_POINT)
def test_nothing_of_a_step_outlives_it_without_the_garbage_collector(name, in_backward):
    model, x = deep()
    stepper = dlrt.INTEGRATORS[name](model, lr=0.1, in_backward=in_backward)
    kept = []

    def watch(module, inputs, output):
        kept.append(StorageWeakRef(output.untyped_storage()))
        output.register_hook(lambda delta: kept.append(StorageWeakRef(delta.untyped_storage())))

    for module in model:
        module.register_forward_hook(watch)
    gc.collect()
    gc.disable()
    try:
        stepper.step(lambda: model(x).square().mean())
        assert len(kept) >= 2 * len(model)
        assert all(ref.expired() for ref in kept)
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ONE_POINT)
def test_a_call_that_the_loss_ignores_only_postpones_the_layer(name):
    p = problem("mlp")
    x, y = torch.randn(20, 12), torch.randint(0, 4, (20,))

    def loss(net):
        net[2](torch.ones(1, 15))  # recorded, and never reached by the backward pass
        return F.cross_entropy(net(x), y)

    nets = [copy.deepcopy(p.model) for _ in range(2)]
    for net, in_backward in zip(nets, (False, True), strict=True):
        dlrt.INTEGRATORS[name](net, lr=0.1, in_backward=in_backward).step(lambda net=net: loss(net))
    assert_same(nets[0].state_dict(), nets[1].state_dict())
    assert not torch.equal(nets[1][2].U, p.model[2].U)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_take_the_same_step(reentrant):
    p = problem("mlp")
    x, y = torch.randn(20, 12, requires_grad=True), torch.randint(0, 4, (20,))
    nets = [copy.deepcopy(p.model) for _ in range(3)]
    for net, in_backward, wrap in zip(nets, (False, False, True), (False, True, True), strict=True):

        def loss(net=net, wrap=wrap):
            z = checkpoint(net[:3], x, use_reentrant=reentrant) if wrap else net[:3](x)
            return F.cross_entropy(net[3:](z), y)

        dlrt.integrators.AugmentedBUG(net, lr=0.1, in_backward=in_backward).step(loss)
    assert_same(nets[0].state_dict(), nets[1].state_dict())
    assert_same(nets[0].state_dict(), nets[2].state_dict())


def test_a_layer_recorded_anew_after_its_update_is_refused():
    model = dlrt.factorize(nn.Sequential(nn.Linear(6, 6)), rank=2, init="orthonormal")
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(5, 6, requires_grad=True)

    def twice():
        z = checkpoint(model[0], x, use_reentrant=True)
        return checkpoint(model[0], z, use_reentrant=True).square().sum()

    with pytest.raises(ValueError, match=r"'0' is called again while the backward pass runs .*: set in_backward=False"):
        dlrt.integrators.AugmentedBUG(model, lr=0.1, in_backward=True).step(twice)
    assert_same(before, model.state_dict())


@pytest.mark.parametrize("failure", ["nan", "error", "weight"])
def test_a_failed_pass_changes_no_factor(failure):
    """The later layers have run their flows when the first layer fails."""
    p = problem("mlp")
    stepper = dlrt.integrators.AugmentedBUG(p.model, lr=0.1, in_backward=True)
    before = copy.deepcopy(p.model.state_dict())

    def fail(delta):
        raise MemoryError

    def closure():
        z = p.model[:2](torch.randn(20, 12))
        if failure == "error":
            z.register_hook(fail)
        loss = p.model[2:](z).square().sum()
        if failure == "weight":
            return loss + p.model[0].weight.square().sum()
        return loss * float("nan") if failure == "nan" else loss

    error = {"nan": dlrt.Divergence, "error": MemoryError, "weight": ValueError}[failure]
    with pytest.raises(error):
        stepper.step(closure)
    assert_same(before, p.model.state_dict())
    assert all(layer.tape is None for layer in p.layers)


@pytest.mark.parametrize("options", [{}, {"inner_steps": 2}, {"max_grad_norm": 0.1}])
@pytest.mark.parametrize("name", sorted(dlrt.INTEGRATORS))
def test_steps_that_need_more_than_one_pass_run_their_flows_after_it(name, options):
    net, x, y = dense_net("mlp")
    model = dlrt.factorize(net, rank=3)
    one, two = (train(name, model, [(x, y)] * 6, in_backward, lr=0.02, **options)[0] for in_backward in (False, True))
    assert_same(one.state_dict(), two.state_dict())
    assert not torch.equal(one[0].U, model[0].U)


def test_micro_batches_run_their_flows_after_the_last():
    p = problem("mlp")
    whole = copy.deepcopy(p.model)
    x, y = torch.randn(20, 12), torch.randint(0, 4, (20,))
    halves = [lambda i=i: F.cross_entropy(p.model(x[i : i + 10]), y[i : i + 10]) / 2 for i in (0, 10)]
    dlrt.integrators.AugmentedBUG(p.model, lr=0.1).step(halves)
    dlrt.integrators.AugmentedBUG(whole, lr=0.1).step(lambda: F.cross_entropy(whole(x), y))
    for a, b in zip(p.layers, dlrt.low_rank_layers(whole).values(), strict=True):
        torch.testing.assert_close(a.weight, b.weight)
    with pytest.raises(ValueError, match="step needs a closure"):
        dlrt.integrators.AugmentedBUG(p.model, lr=0.1).step([])


@pytest.mark.parametrize("name", ONE_POINT)
def test_a_loss_that_is_not_finite_is_named_rather_than_the_layer_it_reaches_first(name):
    p = problem("mlp")
    with pytest.raises(dlrt.Divergence, match="the loss is nan"):
        dlrt.INTEGRATORS[name](p.model, lr=0.1).step(lambda: p.closure() * float("nan"))


def test_a_checkpoint_loads_into_either_mode_and_a_copy_keeps_its_own():
    p = problem("mlp")
    plain = dlrt.integrators.AugmentedBUG(p.model, lr=0.01, optimizer="adam", in_backward=False)
    plain.step(p.closure)
    model = copy.deepcopy(p.model)
    stepper = dlrt.integrators.AugmentedBUG(model, lr=0.01, optimizer="adam")
    stepper.load_state_dict(copy.deepcopy(plain.state_dict()))
    assert stepper.in_backward
    again, copied = copy.deepcopy((model, stepper))
    assert copied.in_backward
    x, y = torch.randn(20, 12), torch.randint(0, 4, (20,))
    for net, integrator in ((p.model, plain), (model, stepper), (again, copied)):
        integrator.step(lambda net=net: F.cross_entropy(net(x), y))
    assert_same(p.model.state_dict(), model.state_dict())
    assert_same(p.model.state_dict(), again.state_dict())
