"""Train what the command line describes: one run, a sweep (-m), or a preset (-m experiment=NAME).

    python -m experiments.run integrator=abc_psi model=mlp5_500 data=mnist tau=0.1 seed=0
    python -m experiments.run -m integrator=abc_psi,aug_bug tau=0.05,0.1 seed=0,1
    python -m experiments.run -m experiment=demo

conf/ holds the configs, `config` their schema, `validate` their rules. `sweeper` turns a sweep or a preset (`presets`)
into cells; each becomes one record (`cell`, `trainer`, `records`).
"""

from experiments import cell, study_sweeper, sweeper
from experiments.command import run_hydra


def main() -> None:
    """Run Hydra on the command line; a mistake in it ends in one sentence and exit code 1."""
    sweeper.register()
    study_sweeper.register()
    run_hydra(cell.run, "config")


if __name__ == "__main__":
    main()
