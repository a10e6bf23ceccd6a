"""Rules for the arguments that the loaders share; each raises ValueError with the value, the rule and the fix."""

from experiments.importing import did_you_mean


def check_choice(key: str, value: object, choices: tuple[str, ...]) -> None:
    """`value` must be one of `choices`."""
    if value not in choices:
        raise ValueError(f"{key} is {value!r}: {did_you_mean(value, choices)}use {' or '.join(choices)}")


def check_integer(key: str, value: object, least: int) -> None:
    """`value` must be an integer of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{key} is {value!r}: give an integer of at least {least}")


def check_positive(**values: int | None) -> None:
    """Each must be None or an integer of at least 1."""
    for key, value in values.items():
        if value is not None:
            check_integer(key, value, 1)


def check_flag(key: str, value: object) -> None:
    """`value` must be True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{key} is {value!r}: give true or false")
