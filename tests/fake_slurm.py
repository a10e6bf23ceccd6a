"""A SLURM of four scripts: it runs a job array at once, on this machine, and requeues jobs."""

import os
from collections.abc import Mapping
from pathlib import Path

SCRIPTS = {
    "sbatch": """
        cp "$1" "$FAKE_SLURM/submission.sh"
        last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
        export SLURM_JOB_ID=1 SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
        for job in $([[ $last ]] && seq -f 1_%g 0 $last || echo 1); do scontrol requeue $job; done
        echo Submitted batch job 1""",
    "scontrol": """
        echo $2 >> "$FAKE_SLURM/queue"
        [[ $2 == 1 ]] || export SLURM_ARRAY_JOB_ID=1 SLURM_ARRAY_TASK_ID=${2#1_}
        bash "$FAKE_SLURM/submission.sh" >> "$FAKE_SLURM/out" 2>&1 &""",
    "srun": """
        while [[ $1 == --* ]]; do [[ $1 == --output || $1 == --error ]] && shift; shift; done
        exec timeout --signal=USR1 "${FAKE_SLURM_USR1:-0}" "$@" """,
    "sacct": "echo 'JobID|State|NodeList'",
}


def slurm(folder: Path, usr1: int = 0) -> Mapping[str, str]:
    """Make the commands in `folder`; returns the environment that has them.

    A job gets USR1 after `usr1` seconds, if they are not 0. The folder keeps submission.sh, what the jobs print in
    `out`, and a line in `queue` for each time that a job is queued.
    """
    folder.mkdir()
    for name, script in SCRIPTS.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (folder / name).chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "FAKE_SLURM": str(folder), "FAKE_SLURM_USR1": str(usr1)}
