"""The words in which runs and sweeps end."""

import pytest
from fake_records import record
from fake_timings import timed
from toy_runs import ADAPTED, TOY, compose

from experiments.records import identity
from experiments.summary import already, note_of, outcome, print_summary, unused


def test_a_finished_run_says_what_it_reached() -> None:
    run = record("abc_psi", tau=0.1, accuracy=0.9731, rank=20)
    assert outcome(run).startswith(f"abc_psi-mlp5_500-mnist-tau0.1-rank120-seed0 [{run['key'][:4]}]: done after 1:00: ")
    assert "test accuracy 97.31 % at epoch 3" in outcome(run) and outcome(run).endswith("ranks 20 20 20 20")
    assert "ranks" not in outcome(record("dense", rank=None))


def test_a_fine_tuned_net_has_adapters_instead_of_a_compression() -> None:
    run = record("lora", rank=3)
    run["final"]["adapter_params"] = 497_664
    assert "at epoch 3, 497,664 adapter parameters, ranks 3 3 3 3" in outcome(run)


def test_a_run_without_figures_says_why() -> None:
    run = record("psi", status="diverged")
    run["error"] |= {"epoch": 2}
    assert outcome(run).endswith("diverged after 1:00 in epoch 2: loss is not finite")
    run["error"] |= {"epoch": None}
    assert outcome(run).endswith("diverged after 1:00: loss is not finite")


def test_a_recorded_run_names_its_commit() -> None:
    run = record("psi")
    assert f"(done, key {run['key']}, commit abcdef012)" in already(run)
    assert "commit unknown" in already(run | {"provenance": {}})


def test_the_summary_has_a_row_per_run_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    done, diverged = record("abc_psi", tau=0.1), record("psi", status="diverged")
    rows = [
        (run["name"], run["key"], run["status"], run, note_of(run, trained))
        for run, trained in ((done, False), (diverged, True))
    ]
    print_summary([*rows, ("", "", "not run", None, "no rank")])
    header, first, second, third = capsys.readouterr().out.splitlines()
    status = header.index("status")
    assert [line[status:].split()[0] for line in (first, second, third)] == ["done", "diverged", "not"]
    assert first.endswith("recorded before") and second.endswith("loss is not finite") and third.endswith("no rank")


def test_a_timing_cell_says_what_it_measured() -> None:
    assert outcome(timed(40, 0.123)).endswith("123 ms (median of 20), 0.061 of dense")
    assert outcome(timed(None, 2.0)).endswith("2000 ms (median of 20)")
    assert note_of(timed(40, 0.123), trained=False) == "recorded before: 123 ms (median of 20), 0.061 of dense"


def test_a_given_key_without_a_meaning_is_named_with_what_ignores_it() -> None:
    timing, dense = (identity(compose(*TOY, key)) for key in ("task=time_training", "integrator=dense"))
    assert unused(timing, ["tau", "rank"]) == ["note: tau is ignored: task=time_training does not use it"]
    assert unused(dense, ["tau"]) == ["note: tau is ignored: integrator=dense does not use it"]
    adapted = identity(compose(*TOY, *ADAPTED))
    assert unused(adapted, ["gain", "rank"]) == ["note: gain is ignored: adapters=vit does not use it"]
