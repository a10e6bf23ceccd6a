"""The printed figures are checked against the papers' ranks and percentages."""

import math

import pandas as pd
import pytest

from experiments import paper

PRINTED = paper.read()
WIDTHS = {
    "dlrt_table5_mlp500": [(500, 784), (500, 500), (500, 500), (500, 500)],
    "dlrt_table6_mlp784": [(784, 784)] * 4,
    "dlrt_table8_pruning": [(784, 784)] * 4,
}
LENET5 = [(20, 25), (50, 500), (500, 800), (10, 500)]


def row(stem: str, method: str, tau: float | None = None) -> pd.Series:
    rows = PRINTED[(PRINTED["preset"] == stem) & (PRINTED["method"] == method)]
    return rows.iloc[0] if tau is None else rows[rows["tau"] == tau].iloc[0]


@pytest.mark.parametrize("stem", WIDTHS)
def test_printed_ranks_give_the_printed_parameters(stem: str) -> None:
    rows = PRINTED[(PRINTED["preset"] == stem) & (PRINTED["method"] != "dense")]
    for _, printed in rows.iterrows():
        low_rank = sum(r * (m + n) for r, (m, n) in zip(printed["ranks"], WIDTHS[stem], strict=False))
        assert printed["params"] == low_rank + 10 * WIDTHS[stem][-1][0]


def test_lenet5_counts_all_four_layers() -> None:
    printed = row("dlrt_table7_lenet5", "aug_bug", 0.15)
    assert printed["params"] == sum(r * (m + n) for r, (m, n) in zip((13, 31, 9, 10), LENET5, strict=True))
    assert printed["compression"] == pytest.approx(1 - printed["params"] / sum(m * n for m, n in LENET5))


@pytest.mark.parametrize("stem", [*WIDTHS, "dlrt_table7_lenet5"])
def test_compression_is_the_printed_one_but_for_rounding_and_one_misprint(stem: str) -> None:
    table = pd.read_csv(f"{paper.__path__[0]}/{stem}.csv")
    rows = PRINTED[PRINTED["preset"] == stem]
    off = [abs(100 * a - b) for a, b in zip(rows["compression"], table["eval_cr"], strict=True)]
    misprints = [float(difference) for difference in off if difference > 0.05]
    assert misprints == (pytest.approx([0.303], abs=0.01) if stem == "dlrt_table6_mlp784" else [])


def test_each_printed_figure_is_a_fraction_of_the_right_row() -> None:
    assert row("dlrt_table5_mlp500", "aug_bug", 0.17)[["accuracy", "std"]].tolist() == pytest.approx([0.969, 0.0045])
    assert row("dlrt_table8_pruning", "bug")["accuracy"] == pytest.approx(0.9816)
    psi = row("abc_psi_table1_lr0.01", "psi", 0.02)
    assert (psi["accuracy"], psi["params"]) == pytest.approx((0.9665, 110_000))
    assert psi["compression"] == pytest.approx(1 - 0.11 / 1.142)
    assert math.isnan(row("abc_psi_table1_lr0.01", "psi", 0.005)["accuracy"])


def test_the_dense_networks_are_rows_too() -> None:
    dense = PRINTED[PRINTED["method"] == "dense"].set_index("preset")["accuracy"]
    assert dense["abc_psi_table1_lr0.01"] == dense["abc_psi_table2_lr0.001"] == 0.9454
    assert dense["dlrt_table6_mlp784"] == pytest.approx(0.9853)
    assert "dlrt_table7_lenet5" not in dense


def test_the_training_parameters_follow_from_the_printed_ranks() -> None:
    for stem in ("dlrt_table5_mlp500", "dlrt_table6_mlp784"):
        rows = PRINTED[(PRINTED["preset"] == stem) & (PRINTED["method"] != "dense")]
        for _, printed in rows.iterrows():
            pairs = zip(printed["ranks"], WIDTHS[stem], strict=False)
            assert printed["train_params"] == sum(2 * r * (m + n) + 4 * r * r for r, (m, n) in pairs) + (
                10 * WIDTHS[stem][-1][0]
            )
    assert row("dlrt_table5_mlp500", "aug_bug", 0.03)["train_compression"] == pytest.approx(-0.7127, abs=1e-4)


def test_the_released_logs_are_of_lenet5_with_a_dense_output_layer() -> None:
    logs = PRINTED[PRINTED["preset"] == "dlrt_table7_released_logs"]
    assert logs["output_dense"].all() and not row("dlrt_table7_lenet5", "aug_bug", 0.2)["output_dense"]
    low_rank = logs[logs["method"] == "aug_bug"]
    assert low_rank["compression"].tolist() == pytest.approx([0.93, 0.953, 0.97, 0.978])
    assert low_rank["accuracy"].tolist() == pytest.approx([0.982, 0.981, 0.981, 0.975])
    assert logs["std"].isna().all()


def test_table_8_prints_the_truncated_networks_too() -> None:
    rows = PRINTED[(PRINTED["preset"] == "dlrt_table8_pruning") & (PRINTED["rank"] == 20)]
    assert rows[["accuracy", "svd_accuracy"]].iloc[0].tolist() == pytest.approx([0.9747, 0.0915])
