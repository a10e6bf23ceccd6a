from __future__ import annotations

import pytest
import torch

from experiments.benchmark.memory import bytes_read, peak_bytes, storage_bytes

CPU = torch.device("cpu")
KB = 1024


def kilobytes(count: float) -> torch.Tensor:
    return torch.ones(int(count * KB) // 4)


def test_a_storage_counts_once() -> None:
    x = kilobytes(8)
    assert storage_bytes([x, x[10:], x.view(2, -1), x.detach(), kilobytes(1)]) == 9 * KB
    assert storage_bytes([x[:1]]) == 8 * KB  # a view keeps all of it alive
    assert storage_bytes([]) == 0


def test_a_chain_of_elementwise_operations_holds_two_links() -> None:
    x = kilobytes(4)
    assert peak_bytes([x], lambda: x.cos().cos().cos().cos(), CPU) == (4 + 4 + 4) * KB
    assert peak_bytes([], lambda: x.cos().cos().cos().cos(), CPU) == (4 + 4) * KB


def test_views_and_in_place_results_take_nothing() -> None:
    x = kilobytes(4)
    assert peak_bytes([x], lambda: x.view(32, 32).mT[1:].add_(x.view(32, 32)[1:]).unsqueeze(0), CPU) == 4 * KB


def test_read_is_what_something_is_computed_from() -> None:
    x, y, z, unused = (kilobytes(n) for n in (1, 2, 4, 8))
    p = torch.nn.Parameter(kilobytes(16))

    def work() -> None:
        x.view(2, -1)[0].exp()
        y.detach()  # a view
        unused.copy_(z.repeat(2))
        p.data = p.data * 2  # another storage from now on

    assert bytes_read([x, y, z, unused, p], work) == (1 + 4 + 16) * KB
    assert bytes_read([x], lambda: y.exp()) == 0


def test_read_in_the_backward_pass_is_read() -> None:
    x, W = torch.ones(64, 16), torch.ones(16, 32, requires_grad=True)  # 4 KB, 2 KB
    loss = (x @ W).sum()
    assert bytes_read([x, W], loss.backward) == 4 * KB


def test_what_is_freed_before_the_peak_does_not_count() -> None:
    def work() -> None:
        a = kilobytes(10)
        del a
        b = kilobytes(3)
        b.add_(kilobytes(1).sum())

    assert peak_bytes([], work, CPU) == 10 * KB


def test_tensors_saved_for_backward_live_until_it_has_used_them() -> None:
    """Only autograd's graph, in C++, holds the links of the chain; backward frees one by one."""
    x, W = torch.ones(64, 16), torch.ones(16, 16, requires_grad=True)  # 4 KB, 1 KB

    def forward(layers: int) -> torch.Tensor:
        z = x
        for _ in range(layers):
            z = (z @ W).exp()  # exp saves its result; the product saves the exp before
        return z

    # Alive at the last exp: the results of all exps and of the last product.
    assert peak_bytes([x, W], lambda: forward(5), CPU) == (4 + 1 + 5 * 4 + 4) * KB
    with torch.no_grad():
        assert peak_bytes([x, W], lambda: forward(5), CPU) == (4 + 1 + 3 * 4) * KB


def test_matrix_product_and_backward() -> None:
    x, W = torch.ones(64, 16), torch.ones(16, 32, requires_grad=True)  # 4 KB, 2 KB

    def work() -> None:
        z = (x @ W).exp()  # 8 KB and 8 KB: the product dies here
        z.backward(torch.ones_like(z))

    # At the end: z and its cotangent, held by `work`, the product's cotangent and the gradient of W.
    assert peak_bytes([x, W], work, CPU) == (4 + 2 + 3 * 8 + 2) * KB
    assert W.grad is not None


def test_what_the_work_replaces_counts_until_it_is_freed() -> None:
    p = torch.nn.Parameter(kilobytes(16))

    def work() -> None:
        p.data = kilobytes(4)
        kilobytes(10)

    assert peak_bytes([p], work, CPU) == (16 + 4) * KB
    assert peak_bytes([p], work, CPU) == (4 + 10) * KB


def test_an_error_in_the_work_is_raised_and_measuring_goes_on() -> None:
    with pytest.raises(ZeroDivisionError):
        peak_bytes([], lambda: 1 / 0, CPU)
    x = kilobytes(4)
    assert peak_bytes([], lambda: x.cos(), CPU) == 4 * KB


def test_older_memory_that_the_work_reads_or_frees_does_not_count() -> None:
    old = [kilobytes(32)]

    def work() -> None:
        old[0].view(2, -1)
        old.clear()
        kilobytes(8)

    assert peak_bytes([], work, CPU) == 8 * KB


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_counts_as_the_cpu_does() -> None:
    device = torch.device("cuda")
    x = torch.ones(1 << 20, device=device)
    assert peak_bytes([x], lambda: x.cos().cos().cos(), device) == 3 * 4 * 2**20
