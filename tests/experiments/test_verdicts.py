from typing import Any

from fake_records import record

from experiments import paper
from experiments.aggregate import aggregate
from experiments.verdicts import goals_table, printed_table


def runs(tau: float, accuracy: float, rank: int, **extra: Any) -> list[dict[str, Any]]:
    return [record("abc_psi", tau, s, accuracy=accuracy + s / 1000, rank=rank, **extra) for s in range(2)]


def test_a_printed_row_stands_beside_our_best_with_p_and_verdict() -> None:
    rows = paper.dominated(paper.select(["dlrt_table5_mlp500"]), aggregate(runs(0.1, 0.98, 10)))
    text = printed_table(rows, ["gain"]).iloc[-1].to_dict()
    assert 0 < float(text.pop("p")) < 0.01
    assert text == {
        "paper's table": "Table 5",
        "method": "aug. BUG (DLRT)",
        "τ": "0.17",
        "paper %": "96.90 ± 0.45",
        "compr. %": "92.44",
        "ours": "abc-PSI, τ 0.1, gain –",
        "ours %": "98.05 ± 0.07",
        "ours compr. %": "95.83",
        "n": "2",
        "div.": "0",
        "diff.": "+1.15",
        "dominated": "yes",
    }


def test_compression_is_counted_as_the_paper_counts() -> None:
    rows = paper.dominated(paper.select(["abc_psi_table1_lr0.01"]), aggregate(runs(0.1, 0.98, 10)))
    text = printed_table(rows, [])
    row = text[(text["method"] == "PSI") & (text["τ"] == "0.2")].iloc[0]
    assert (row["compr. %"], row["ours compr. %"]) == ("96.50 (0.04 M)", "96.25")


def test_a_row_without_rival_says_no() -> None:
    rows = paper.dominated(paper.select(["dlrt_table5_mlp500"]), aggregate(runs(0.1, 0.98, 100)))
    row = printed_table(rows, []).iloc[-1]
    assert row[["ours", "ours %", "n", "diff.", "p", "dominated"]].tolist() == ["–", "–", "0", "–", "–", "no"]


def test_goals_are_said_to_be_reached_or_not() -> None:
    goals: list[dict[str, float]] = [{"accuracy": 97.5, "params": 43000}, {"accuracy": 98.5, "compression": 90}]
    text = goals_table(paper.reached(goals, aggregate(runs(0.1, 0.98, 10)), paper.ABC_PSI), [], paper.ABC_PSI)
    assert text["with"].tolist() == ["at most 43,000 parameters", "at least 90 % compression"]
    assert text["ours"].tolist() == ["abc-PSI, τ 0.1"] * 2 and text["ours compr. %"].tolist() == ["96.25"] * 2
    assert text["reached"].tolist() == ["yes", "no"]
