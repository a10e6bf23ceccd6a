"""A queue of sweeps on one device: `lines` are what to run, `backlog` says what is next, `workers` run it.

`python -m experiments.queue FILE` (see `__main__`) ends when all is run or the time is over; the same command goes on.
"""
