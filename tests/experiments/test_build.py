"""From config to data, model and integrator."""

import pytest
import torch
from torch import nn
from toy_runs import TOY, compose

import dlrt
from experiments import build
from experiments.build import INTEGRATORS, dense_state, factorises, ignored_keys
from experiments.records import identity


@pytest.mark.parametrize("name", INTEGRATORS)
def test_every_integrator_is_built_from_its_yaml_and_takes_a_step(name: str) -> None:
    config = identity(compose(*TOY, f"integrator={name}"))
    net = build.model(config)
    integrator = build.integrator(config, net)
    data = build.data(config, torch.device("cpu"))
    before = nn.functional.cross_entropy(net(data.train.images), data.train.labels)
    loss = integrator.step(lambda: nn.functional.cross_entropy(net(data.train.images), data.train.labels))
    assert type(integrator) is INTEGRATORS[name] and loss.item() == pytest.approx(before.item(), rel=1e-5)
    assert bool(dlrt.low_rank_layers(net)) == factorises(name)


def test_what_an_integrator_ignores() -> None:
    def ignored(*overrides: str) -> set[str]:
        return ignored_keys(identity(compose(*TOY, *overrides))) - {"timing"}

    assert "timing" in ignored_keys(identity(compose(*TOY)))
    assert ignored("integrator=aug_bug") == set()
    assert ignored("integrator=bug") == ignored("integrator=svd_factor") == {"tau"}
    assert ignored("integrator=abc_psi", "init=svd") == {"gain"}
    assert ignored("integrator=dense") == {"tau", "rank", "init", "gain"}


def test_the_seed_decides_the_model() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.randn(seed + 7)  # what was drawn before must not matter
        net = build.model(identity(compose(*TOY, f"seed={seed}")))
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    assert torch.equal(weights(3), weights(3)) and not torch.equal(weights(3), weights(4))


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
    assert build.device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert build.device_of("cpu").type == "cpu"
