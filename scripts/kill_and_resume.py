"""Kill a training again and again, start it again, and compare it with one that nothing has happened to.

    python scripts/kill_and_resume.py --kills 20 data.kwargs.train_limit=5000 trainer.epochs=4

The arguments after the options are those of `python -m experiments.run`. The kills are SIGKILL at random moments, which
the seed fixes as far as the machine runs evenly. The exit code is 1 if weights or record differ in a bit, but for the
record's timing and provenance.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file


def options() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    return parser.parse_intermixed_args()


def start(folder: Path, overrides: list[str]) -> subprocess.Popen[str]:
    """The training in a process of its own, checkpointed often."""
    places = [f"results_dir={folder}", "checkpoint_seconds=0.2"]
    command = [sys.executable, "-m", "experiments.run", *overrides, *places]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill(process: subprocess.Popen[str], seconds: float) -> bool:
    """Kill the process after so many seconds; whether it was still running."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def result(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The run's record without what differs between two runs, and the bits of its weights."""
    (path,) = (folder / "records").glob("*.json")
    record = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("timing", "provenance")}
    (weights,) = (folder / "weights").glob("*.safetensors")
    return record, {name: x.numpy().tobytes() for name, x in load_file(weights).items()}


def timing(folder: Path) -> dict[str, Any]:
    """The timing of the run's record."""
    (path,) = (folder / "records").glob("*.json")
    found: dict[str, Any] = json.loads(path.read_text())["timing"]
    return found


def main() -> None:
    """Train once undisturbed, once disturbed, and compare."""
    given = options()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        whole, torn = Path(name) / "whole", Path(name) / "torn"
        begun = time.monotonic()
        start(whole, given.overrides).communicate()
        seconds = time.monotonic() - begun
        (expected, bits), training = result(whole), timing(whole)["seconds"]
        longest = seconds - training + training / given.kills  # so that most lives take the training a little further
        killed = 0
        while killed < given.kills and kill(start(torn, given.overrides), rng.uniform(0, longest)):
            killed += 1
        said, _ = start(torn, given.overrides).communicate()
        record, torn_bits = result(torn)
        print(f"killed {killed} times within {training:.0f} s of training; the last start said: {said.splitlines()[0]}")
        print("ranks after each epoch:", *(list(row["ranks"].values()) for row in record["history"]))
        if record != expected or torn_bits != bits:
            sys.exit("the records differ" if record != expected else "the weights differ")
        print(f"record and {len(bits)} tensors are identical to the bit")


if __name__ == "__main__":
    main()
