from __future__ import annotations

import pytest
import torch

from dlrt.factors import random_factors


def test_orthonormal_start_has_the_norm_of_hes_rule():
    U, S, V = random_factors(30, 20, 6, gain=0.7)
    torch.testing.assert_close(U.mT @ U, torch.eye(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(V.mT @ V, torch.eye(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(S.square().sum(), torch.tensor(0.49 * 2 * 30))
    he = torch.randn(3000, 2000) * (2 / 2000) ** 0.5
    torch.testing.assert_close(he.square().sum(), torch.tensor(2.0 * 3000), rtol=1e-2, atol=0)


def test_spectrum_sets_the_shape_of_the_singular_values():
    S = random_factors(30, 20, 3, spectrum=torch.tensor([4.0, 2.0, 1.0])).S.diagonal()
    torch.testing.assert_close(S[0] / S, torch.tensor([1.0, 2.0, 4.0]))
    torch.testing.assert_close(S.square().sum(), torch.tensor(60.0))


def test_normal_start_is_that_of_the_abc_psi_paper():
    U, S, _ = random_factors(300, 200, 100, init="normal")
    torch.testing.assert_close(U.mT @ U, torch.eye(100), atol=1e-5, rtol=0)
    assert abs(float(S.std()) - 1) < 0.02
    assert abs(float(S.mean())) < 0.02


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rank": 0}, r"rank must lie in 1 … min\(m, n\) = 4 for a 5 × 4 matrix, got 0"),
        ({"rank": 5}, "rank must lie in"),
        ({"rank": 2, "init": "he"}, "init must be one of orthonormal, normal, got 'he'"),
        ({"rank": 2, "spectrum": torch.ones(3)}, "spectrum must hold rank = 2 values"),
        ({"rank": 2, "spectrum": torch.zeros(2)}, "spectrum must hold"),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        random_factors(5, 4, **kwargs)
