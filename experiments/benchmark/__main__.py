"""Time training steps against the dense step, separate passes and their floor: table, plot and records.

    python -m experiments.benchmark preset=quick
    python -m experiments.benchmark -m preset=quick,growth device=cpu,cuda
    python -m experiments.benchmark profile=true case.model=mlp case.width=5120 case.rank=40

conf/benchmark.yaml says what the keys do, conf/preset/ holds the presets, docs/cost.md derives the floor.
"""

from experiments.benchmark.config import BenchmarkConfig
from experiments.benchmark.run import run
from experiments.command import run_hydra


def main() -> None:
    """Run Hydra on the command line; a mistake in it ends in one sentence and exit code 1."""
    run_hydra(run, "benchmark", BenchmarkConfig)


if __name__ == "__main__":
    main()
