"""Secrets: which texts are replaced, and that nothing else is."""

from __future__ import annotations

import json
import logging
import math
import os
from typing import Any

import pytest

from experiments.secrets import redacted

PLAIN: list[Any] = [
    "tau=0.1",
    ["python", "-m", "experiments.run"],
    {"config": {"tau": 0.1, "rank": None, "skip": ["output"], "flag": True}, "history": [{"loss": 1.5}], "error": None},
    ("a", 1),
    "https://host/path?x=1",
    "see http://host:8080/a@b and mail user:word@host",
    "git@host:owner/repository.git",
    "",
]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with these variables and no other."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in {
        "WANDB_API_KEY": "0123456789abcdef",
        "my_token": "tok.en+(8)",
        "DB_PASSWORD": "0123456789abcdef-and-more",
        "AWS_SECRET_ID": "short",
        "GITHUB_CREDENTIALS": "",
        "PATH_OF_DATA": "mnist-data",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("value", PLAIN, ids=str)
def test_a_value_without_secrets_stays_equal(value: Any) -> None:
    assert redacted(value) == value and type(redacted(value)) is type(value)


def test_secrets_are_replaced_wherever_they_stand() -> None:
    record = {"a": [{"b": ("x 0123456789abcdef y", 3)}], "c": "tok.en+(8)tok.en+(8)"}
    assert redacted(record) == {"a": [{"b": ("x *** y", 3)}], "c": "******"}
    assert "tok.en" in record["c"]  # the record itself is as it was


def test_of_two_secrets_that_begin_alike_nothing_of_the_longer_stays() -> None:
    assert redacted("0123456789abcdef-and-more") == "***"


def test_a_secret_is_read_literally_and_short_ones_and_other_variables_are_words() -> None:
    assert redacted("tokXen++8 short mnist-data") == "tokXen++8 short mnist-data"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:pass@host/x", "https://***@host/x"),
        ("fetch ssh://u:p%40w@h:22 and http://:p@h", "fetch ssh://***@h:22 and http://***@h"),
        ("postgresql+x://u:p@h/db", "postgresql+x://***@h/db"),
    ],
)
def test_passwords_in_addresses_are_replaced(address: str, shown: str) -> None:
    assert redacted(address) == shown


def test_a_variable_that_is_set_later_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert redacted("a-new-secret") == "a-new-secret"
    monkeypatch.setenv("NEW_KEY", "a-new-secret")
    assert redacted("a-new-secret") == "***"
    monkeypatch.delenv("NEW_KEY")
    assert redacted("a-new-secret") == "a-new-secret"


def test_keys_stay_so_that_a_record_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNING_KEY", "val_accuracy")
    assert redacted({"val_accuracy": 0.5}) == {"val_accuracy": 0.5}


def test_what_is_no_text_is_left_alone() -> None:
    assert math.isnan(redacted(float("nan"))) and redacted(logging) is logging
    assert json.dumps(redacted({"a": [1, 2.5, True, None]})) == '{"a": [1, 2.5, true, null]}'
