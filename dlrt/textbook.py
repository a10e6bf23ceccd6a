"""Every integrator, written line by line from the equations of its paper: the oracle of the tests.

`Y = U S Vᵀ` follows the gradient flow `Ẏ = −∇ℓ(Y)` for one step of size h. Nothing is clever: every explicit Euler
substep of every K-, L- and S-flow evaluates the dense gradient afresh, at the *joint* state of all layers.

Shapes per layer: Y, ∇ℓ(Y) (m, n); U (m, r), S (r, r), V (n, r); K = U S (m, r), L = V Sᵀ (n, r). U0, K1, …
are values at t0 and t1; `hat` marks an augmented basis, `til` (tilde) the directions that augmentation adds.

References: (3.2)–(4.3) and Algorithm 4.1 are those of abc-PSI, 2025. `aug_bug` is the rank-adaptive BUG of
DLRT, 2022 (Ceruti, Kusch & Lubich, BIT 62), `parallel_bug` that of Ceruti, Kusch & Lubich, SISC 46, 2024.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Triple = tuple[Tensor, Tensor, Tensor]
Factors = list[Triple]
Gradient = Callable[[list[Tensor]], list[Tensor]]


class _Layers(list[Tensor]):
    """One matrix per layer, with arithmetic layer by layer: equations read as they are printed."""

    def __matmul__(self, other: "_Layers") -> "_Layers":
        return _Layers(map(torch.matmul, self, other))

    def __neg__(self) -> "_Layers":
        return _Layers(map(torch.neg, self))

    @property
    def T(self) -> "_Layers":
        return _Layers(a.T for a in self)


_Pair = tuple[_Layers, _Layers]
_USV = tuple[_Layers, _Layers, _Layers]
_Field = Callable[[_Layers], _Layers]
_Flow = Callable[[_Layers, _Field], _Pair]  # X(t0) and Ẋ as a function of X give X(t1) and X(t1) − X(t0)


def _psi(flow: _Flow, G: _Field, U0: _Layers, S0: _Layers, V0: _Layers) -> _USV:
    K1, _ = flow(U0 @ S0, lambda K: -G(K @ V0.T) @ V0)  # (3.3a)
    U1, R = _qr(K1)  # U1 S(t0) = K(t1)
    S1, _ = flow(R, lambda S: U1.T @ G(U1 @ S @ V0.T) @ V0)  # (3.3b), backward in time
    L1, _ = flow(V0 @ S1.T, lambda L: -G(U1 @ L.T).T @ U1)  # (3.3c)
    V1, R = _qr(L1)  # L(t1) = V1 S1ᵀ
    return U1, R.T, V1


def _bc_psi(flow: _Flow, G: _Field, U0: _Layers, S0: _Layers, V0: _Layers) -> _USV:
    K1, _ = flow(U0 @ S0, lambda K: -G(K @ V0.T) @ V0)  # (3.4a)
    U1, _ = _qr(K1)
    S_bar = U1.T @ U0 @ S0  # (3.4b)
    L1, _ = flow(V0 @ S_bar.T, lambda L: -G(U1 @ L.T).T @ U1)  # (3.4c)
    V1, R = _qr(L1)  # L(t1) = V1 S1ᵀ
    return U1, R.T, V1


def _abc_psi(flow: _Flow, G: _Field, U0: _Layers, S0: _Layers, V0: _Layers) -> _USV:
    _, dK = flow(U0 @ S0, lambda K: -G(K @ V0.T) @ V0)  # (4.1a), (4.3a)
    U_hat, _ = _ortho(U0, dK)
    S_bar = U_hat.T @ U0 @ S0  # (4.1b)
    L1, _ = flow(V0 @ S_bar.T, lambda L: -G(U_hat @ L.T).T @ U_hat)  # (4.1c), (4.3b)
    V_hat, R = _qr(L1)  # Algorithm 4.1 takes the SVD of L1, which is V_hat times the SVD of R
    return U_hat, R.T, V_hat


def _bug(flow: _Flow, G: _Field, U0: _Layers, S0: _Layers, V0: _Layers) -> _USV:
    K1, _ = flow(U0 @ S0, lambda K: -G(K @ V0.T) @ V0)  # (3.2a)
    L1, _ = flow(V0 @ S0.T, lambda L: -G(U0 @ L.T).T @ U0)  # (3.2b)
    (U1, _), (V1, _) = _qr(K1), _qr(L1)
    S1, _ = flow(U1.T @ U0 @ S0 @ V0.T @ V1, lambda S: -U1.T @ G(U1 @ S @ V1.T) @ V1)  # (3.2c)
    return U1, S1, V1


def _aug_bug(flow: _Flow, G: _Field, U0: _Layers, S0: _Layers, V0: _Layers) -> _USV:
    _, dK = flow(U0 @ S0, lambda K: -G(K @ V0.T) @ V0)  # (3.2a)
    _, dL = flow(V0 @ S0.T, lambda L: -G(U0 @ L.T).T @ U0)  # (3.2b)
    (U_hat, _), (V_hat, _) = _ortho(U0, dK), _ortho(V0, dL)
    S_hat = U_hat.T @ U0 @ S0 @ V0.T @ V_hat
    S1, _ = flow(S_hat, lambda S: -U_hat.T @ G(U_hat @ S @ V_hat.T) @ V_hat)  # (3.2c), augmented bases
    return U_hat, S1, V_hat


def _parallel_bug(flow: _Flow, G: _Field, U0: _Layers, S0: _Layers, V0: _Layers) -> _USV:
    K1, dK = flow(U0 @ S0, lambda K: -G(K @ V0.T) @ V0)  # (3.2a)
    L1, dL = flow(V0 @ S0.T, lambda L: -G(U0 @ L.T).T @ U0)  # (3.2b)
    S1, _ = flow(S0, lambda S: -U0.T @ G(U0 @ S @ V0.T) @ V0)  # (3.2c), old bases
    (U_hat, U_til), (V_hat, V_til) = _ortho(U0, dK), _ortho(V0, dL)
    return U_hat, _Layers(map(_bordered, S1, U_til.T @ K1, V_til.T @ L1)), V_hat


def _bordered(S1: Tensor, K_til: Tensor, L_til: Tensor) -> Tensor:
    """Ŝ = [[S1, L̃ᵀ], [K̃, 0]] with K̃ = ŨᵀK1, L̃ = ṼᵀL1."""
    zero = S1.new_zeros(len(K_til), len(L_til))
    return torch.cat([torch.cat([S1, L_til.T], 1), torch.cat([K_til, zero], 1)])


def _qr(X: _Layers) -> _Pair:
    Q, R = zip(*map(torch.linalg.qr, X), strict=True)
    return _Layers(Q), _Layers(R)


def _ortho(U0: _Layers, D: _Layers) -> _Pair:
    """Û = ortho[U0, K1] = [U0, Ũ] with at most m columns, and Ũ, from the displacement D = K1 − K0."""
    U_til = _Layers(map(_new_directions, U0, D))
    return _Layers(torch.cat(pair, 1) for pair in zip(U0, U_til, strict=True)), U_til


def _new_directions(U: Tensor, D: Tensor) -> Tensor:
    I_UU = torch.eye(len(U), dtype=U.dtype, device=U.device) - U @ U.T
    P, sigma, _ = torch.linalg.svd(I_UU @ (I_UU @ D), full_matrices=False)  # twice against rounding errors
    # Directions below this level are rounding errors; a QR of [U, K1] would keep them, arbitrary as they are.
    kept = P[:, sigma > 100 * torch.finfo(D.dtype).eps * D.norm()][:, : U.shape[0] - U.shape[1]]
    return torch.linalg.qr(I_UU @ kept).Q


def _truncate(U: Tensor, S: Tensor, V: Tensor, r0: int, tau: float | None, max_rank: int | None) -> Triple:
    """(4.2) with the smallest r1 for which ‖(σ_{r1+1}, …)‖₂ ≤ τ‖σ‖₂, clipped to [1, max_rank], or r1 = r0."""
    P, sigma, Qt = torch.linalg.svd(S, full_matrices=False)
    r1 = r0
    if tau is not None:
        r1 = next(r for r in range(len(sigma) + 1) if sigma[r:].norm() <= tau * sigma.norm())
        r1 = max(1, min(r1, max_rank or r1))
    return U @ P[:, :r1], torch.diag(sigma[:r1]), V @ Qt.T[:, :r1]


_FIXED_RANK = {"psi": _psi, "bc_psi": _bc_psi, "bug": _bug}  # these ignore tau and max_rank
_RANK_ADAPTIVE = {"abc_psi": _abc_psi, "aug_bug": _aug_bug, "parallel_bug": _parallel_bug}
_INTEGRATORS = _FIXED_RANK | _RANK_ADAPTIVE


def step(
    name: str,
    factors: Factors,
    gradient: Gradient,
    h: float,
    tau: float | None = None,
    max_rank: int | None = None,
    substeps: int = 1,
) -> Factors:
    """The factors after one step of size `h` of the integrator `name`, all layers together.

    Args:
        name: `psi`, `bc_psi`, `abc_psi`, `bug`, `aug_bug` or `parallel_bug`.
        factors: (U, S, V) per layer, shapes (m, r), (r, r), (n, r), with orthonormal U and V.
        gradient: maps the dense Y (m, n) of all layers to their ∇ℓ; it is −F for the equation Ẏ = F(Y).
        h: step size, in the time of the gradient flow (the learning rate).
        tau: relative truncation tolerance in [0, 1) of the rank-adaptive methods; None keeps the rank.
        max_rank: upper bound of the rank that `tau` chooses.
        substeps: explicit Euler steps, of size h / substeps, per K-, L- and S-flow.

    Raises:
        ValueError: unknown name; an argument out of range; factors or gradients whose shapes do not fit.
    """
    _check(name, h, tau, max_rank, substeps)
    _check_factors(factors)
    U0, S0, V0 = (_Layers(x.detach() for x in column) for column in zip(*factors, strict=True))

    def G(Y: _Layers) -> _Layers:
        grads = gradient(list(Y))
        if [g.shape for g in grads] != [y.shape for y in Y]:
            raise ValueError(f"gradient returned shapes {[tuple(g.shape) for g in grads]}; return those of Y")
        return _Layers(grads)

    def flow(X: _Layers, velocity: _Field) -> _Pair:
        D = _Layers(map(torch.zeros_like, X))  # summed apart: K1 − K0 would have rounding errors of size ε‖K0‖
        for _ in range(substeps):
            now = _Layers(map(torch.add, X, D))
            D = _Layers(d + h / substeps * dx for d, dx in zip(D, velocity(now), strict=True))
        return _Layers(map(torch.add, X, D)), D

    U, S, V = _INTEGRATORS[name](flow, G, U0, S0, V0)
    if name in _FIXED_RANK:
        return list(zip(U, S, V, strict=True))
    return [_truncate(u, s, v, len(s0), tau, max_rank) for u, s, v, s0 in zip(U, S, V, S0, strict=True)]


def _check(name: str, h: float, tau: float | None, max_rank: int | None, substeps: int) -> None:
    if name not in _INTEGRATORS:
        raise ValueError(f"unknown integrator {name!r}; choose one of {', '.join(_INTEGRATORS)}")
    if not 0 < h < float("inf"):
        raise ValueError(f"h = {h} must be positive and finite; to reverse time negate the gradient")
    if tau is not None and not 0 <= tau < 1:
        raise ValueError(f"tau = {tau} must lie in [0, 1); use None to keep the rank")
    for label, value in {"max_rank": max_rank, "substeps": substeps}.items():
        if value is not None and value < 1:
            raise ValueError(f"{label} = {value} must be at least 1")


def _check_factors(factors: Factors) -> None:
    if not factors or any(len(triple) != 3 for triple in factors):
        raise ValueError("factors must be a non-empty list of triples; pass one (U, S, V) per layer")
    for i, (U, S, V) in enumerate(factors):
        m, n, r = len(U), len(V), len(S)
        found = [tuple(x.shape) for x in (U, S, V)]
        if found != [(m, r), (r, r), (n, r)] or not 1 <= r <= min(m, n):
            raise ValueError(f"factors[{i}] has shapes {found}; pass (m, r), (r, r), (n, r), 1 <= r <= m, n")
