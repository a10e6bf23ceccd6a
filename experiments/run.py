"""Train what the command line describes: one run, a sweep (-m), or a preset (-m experiment=NAME).

    python -m experiments.run integrator=abc_psi model=mlp5_500 data=mnist tau=0.1 seed=0
    python -m experiments.run -m integrator=abc_psi,aug_bug tau=0.05,0.1 seed=0,1
    python -m experiments.run -m experiment=demo

conf/ holds the configs, `config` their schema, `validate` their rules. `sweeper` turns a sweep or a preset (`presets`)
into cells; each becomes one record (`cell`, `trainer`, `records`).
"""

import os
import sys

import hydra

from experiments import cell, sweeper
from experiments.config import CONF
from experiments.explain import explain, is_mistake


def main() -> None:
    """Run Hydra on the command line; a mistake in it ends in one sentence and exit code 1."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors here, instead of printing them its way
    sweeper.register()
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(cell.run)()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not is_mistake(error):
            raise
        sys.exit(explain(error))


if __name__ == "__main__":
    main()
