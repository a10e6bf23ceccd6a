"""From config to data, model and integrator."""

import pytest
import torch
from torch import nn
from toy_runs import ADAPTED, PROBED, TOY, compose

import dlrt
from dlrt.adapters import AdaLoRALayer, LoRALayer, adapters_of
from experiments import build
from experiments.build import ADAPTERS_ONLY, INTEGRATORS, arguments, dense_state, factorises, ignored_keys
from experiments.devices import device_of
from experiments.records import identity

CASES = [(name, TOY) for name in INTEGRATORS if name not in ADAPTERS_ONLY]
CASES += [(name, (*TOY, *ADAPTED)) for name in INTEGRATORS if factorises(name)]


@pytest.mark.parametrize(("name", "line"), CASES, ids=[f"{name}-{len(line)}" for name, line in CASES])
def test_every_integrator_is_built_from_its_yaml_and_takes_a_step(name: str, line: tuple[str, ...]) -> None:
    config = identity(compose(*line, f"integrator={name}"))
    net = build.model(config)
    integrator = build.integrator(config, net)
    data = build.data(config, torch.device("cpu"))
    before = nn.functional.cross_entropy(net(data.train.images), data.train.labels)
    loss = integrator.step(lambda: nn.functional.cross_entropy(net(data.train.images), data.train.labels))
    assert type(integrator) is INTEGRATORS[name] and loss.item() == pytest.approx(before.item(), rel=1e-5)
    adapted = line != TOY
    assert bool(dlrt.low_rank_layers(net)) == (factorises(name) and name not in ADAPTERS_ONLY)
    assert list(adapters_of(net)) == (["0", "2"] if adapted else [])
    kinds = {"lora": LoRALayer, "adalora": AdaLoRALayer}
    assert all(isinstance(layer, kinds.get(name, dlrt.LowRankLinear)) for layer in adapters_of(net).values())


def test_what_an_integrator_ignores() -> None:
    def ignored(*overrides: str) -> set[str]:
        return ignored_keys(identity(compose(*TOY, *overrides))) - {"timing"}

    assert "timing" in ignored_keys(identity(compose(*TOY)))
    assert ignored("integrator=aug_bug") == set()
    assert ignored("integrator=bug") == ignored("integrator=svd_factor") == {"tau"}
    assert ignored("integrator=abc_psi", "init=svd") == {"gain"}
    assert ignored("integrator=dense") == ignored(*PROBED) == {"tau", "rank", "init", "gain"}
    assert ignored(*ADAPTED) == {"init", "gain"}
    assert ignored(*ADAPTED, "integrator=lora") == ignored(*ADAPTED, "integrator=adalora") == {"tau", "init", "gain"}


def test_the_seed_decides_the_model() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.randn(seed + 7)  # what was drawn before must not matter
        net = build.model(identity(compose(*TOY, f"seed={seed}")))
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    assert torch.equal(weights(3), weights(3)) and not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize("method", [(), ("integrator=lora",), ("integrator=adalora",), PROBED, "full"])
def test_all_methods_start_from_the_same_model(method: tuple[str, ...] | str) -> None:
    """The classifier, new for the data at hand, must not depend on what is drawn for the adapters."""
    line = ("integrator=dense",) if method == "full" else (*ADAPTED, *method)
    net = build.model(identity(compose(*TOY, *line)))
    plain = build.dense_model(identity(compose(*TOY)))
    x = torch.randn(5, 8)
    assert torch.equal(net(x), plain(x))


def test_adapters_and_what_is_trained_besides_are_those_of_the_config() -> None:
    net = build.model(identity(compose(*TOY, *ADAPTED, "rank=2", "adapters.targets=['0']", "integrator=lora")))
    assert {name: layer.rank for name, layer in adapters_of(net).items()} == {"0": 2}
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {"0.adapter.A", "0.adapter.B", "2.bias"}
    probed = build.model(identity(compose(*TOY, *PROBED)))
    assert {name for name, p in probed.named_parameters() if p.requires_grad} == {"2.weight", "2.bias"}


def test_weights_source_and_root_are_arguments_of_the_target_where_they_are_given() -> None:
    group = {"target": "a:b", "kwargs": {"classes": 3}, "weights": None}
    assert arguments(group) == {"classes": 3}
    assert arguments(group | {"weights": "imagenet"}) == {"classes": 3, "weights": "imagenet"}
    assert arguments({"kwargs": {}, "source": "folder", "root": "x"}) == {"source": "folder", "root": "x"}


def test_a_schedule_is_told_the_number_of_steps_and_a_budget_of_ranks_goes_to_those_that_keep_one() -> None:
    config = identity(compose(*TOY, *ADAPTED, "integrator=adalora", "integrator.rank_budget=2"))
    stepper = build.integrator(config, build.model(config), steps=50)
    assert isinstance(stepper, dlrt.baselines.AdaLoRA) and (stepper.total, stepper.target) == (50, 2)
    config = identity(compose(*TOY, *ADAPTED, "tau=null", "integrator.rank_budget=5"))
    assert build.integrator(config, build.model(config), 50).param_groups[0]["rank_budget"] == 5


def test_gain_scales_the_initial_spectrum() -> None:
    small, large = (build.model(identity(compose(*TOY, f"gain={gain}"))) for gain in (0.5, 2.0))
    assert torch.allclose(4 * small[0].S, large[0].S)


def test_a_dense_state_comes_from_a_factorised_one() -> None:
    net = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.Flatten(), nn.Linear(24, 5))
    like = {name: x.clone() for name, x in net.state_dict().items()}
    low_rank = dlrt.factorize(net, rank=4, init="orthonormal")
    x = torch.randn(3, 2, 2, 2)
    expected = low_rank(x)
    dense = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.Flatten(), nn.Linear(24, 5))
    dense.load_state_dict(dense_state(low_rank.state_dict(), like))
    assert torch.allclose(dense(x), expected, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(dense_state(like, like).values(), like.values(), strict=True))


def test_weights_of_another_model_are_refused() -> None:
    like = nn.Linear(3, 2).state_dict()
    with pytest.raises(ValueError, match=r"hold no weight of shape \(2, 3\)"):
        dense_state(nn.Linear(4, 2).state_dict(), like)
    with pytest.raises(ValueError, match="hold no bias of shape"):
        dense_state(nn.Linear(3, 2, bias=False).state_dict(), like)


def test_auto_is_a_device_that_is_there() -> None:
    assert device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_of("cpu").type == "cpu"
