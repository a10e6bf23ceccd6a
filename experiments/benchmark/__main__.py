"""Time training steps against the dense step, separate passes and their floor: table, plot and records.

    python -m experiments.benchmark preset=quick
    python -m experiments.benchmark -m preset=quick,growth device=cpu,cuda
    python -m experiments.benchmark profile=true case.model=mlp case.width=5120 case.rank=40

conf/benchmark.yaml says what the keys do, conf/preset/ holds the presets, docs/cost.md derives the floor.
"""

import os
import sys

import hydra

from experiments.benchmark.config import BenchmarkConfig
from experiments.benchmark.run import run
from experiments.config import CONF
from experiments.explain import explain, is_mistake


def main() -> None:
    """Run Hydra on the command line; a mistake in it ends in one sentence and exit code 1."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors here, instead of printing them its way
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="benchmark")(run)()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not is_mistake(error):
            raise
        sys.exit(explain(error, BenchmarkConfig))


if __name__ == "__main__":
    main()
