from __future__ import annotations

import torch

from dlrt.descent import direction, transport

BETAS, EPS = (0.9, 0.999), 1e-8


def test_rules_are_torchs_own_while_the_basis_rests(double):
    gradients = [torch.randn(4, 3) for _ in range(6)]
    for rule, make in {
        "sgd": lambda p: torch.optim.SGD([p], lr=0.1),
        "momentum": lambda p: torch.optim.SGD([p], lr=0.1, momentum=0.9),
        "adam": lambda p: torch.optim.Adam([p], lr=0.1, betas=BETAS, eps=EPS),
        "adamw": lambda p: torch.optim.AdamW([p], lr=0.1, betas=BETAS, eps=EPS, weight_decay=0.0),
    }.items():
        p, X, moments = torch.nn.Parameter(torch.zeros(4, 3)), torch.zeros(4, 3), {}
        optimiser = make(p)
        for g in gradients:
            p.grad = g.clone()
            optimiser.step()
            D, moments = direction(rule, g, moments, BETAS, EPS)
            X = X - 0.1 * D
            torch.testing.assert_close(X, p.detach())


def test_momentum_follows_a_turning_basis(double):
    """With moments carried along, momentum in moving coordinates is momentum in the fixed ones."""
    fixed, turning = {}, {}
    Q = torch.eye(5)
    for _ in range(6):
        G = torch.randn(7, 5)
        turn = torch.linalg.qr(torch.randn(5, 5))[0]
        turning = transport(turning, None, turn)
        Q = Q @ turn
        a, fixed = direction("momentum", G, fixed, BETAS, EPS)
        b, turning = direction("momentum", G @ Q, turning, BETAS, EPS)
        torch.testing.assert_close(b, a @ Q)


def test_second_moments_are_the_expectation_for_uncorrelated_entries():
    g = torch.randn(200_000, 3) * torch.tensor([1.0, 2.0, 0.5])
    turn = torch.linalg.qr(torch.randn(3, 3))[0]
    moments = {"first": g.mean(0, keepdim=True), "second": g.square().mean(0, keepdim=True), "count": 1}
    moments = transport(moments, None, turn)
    torch.testing.assert_close(moments["second"], (g @ turn).square().mean(0, keepdim=True), rtol=2e-2, atol=0)


def test_a_new_direction_moves_like_adams_first_step(double):
    moments = {}
    for _ in range(50):
        _, moments = direction("adam", torch.randn(3, 2), moments, BETAS, EPS)
    moments = transport(moments, None, torch.eye(2, 4))
    D, _ = direction("adam", torch.full((3, 4), 7.0), moments, BETAS, EPS)
    torch.testing.assert_close(D[:, 2:], torch.ones(3, 2))
