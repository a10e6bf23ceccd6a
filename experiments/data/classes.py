"""An image folder's parts and classes: ROOT/PART/CLASS/IMAGE."""

import os
from pathlib import Path

import torch

from experiments.data.images import EXTENSIONS, Files, Form, image_files

LAYOUT = "train/CLASS/IMAGE and test/CLASS/IMAGE"


def is_image_folder(root: Path) -> bool:
    """Whether `root` has a folder train or test; if only one, `class_files` says so."""
    return (root / "train").is_dir() or (root / "test").is_dir()


def class_files(root: Path, parts: tuple[str, ...]) -> dict[str, dict[str, list[str]]]:
    """The sorted paths of the image files by part and class; the first part decides on the classes.

    Raises ValueError if a part is missing, a class has no images, or the classes of the parts differ.
    """
    if not root.is_dir():
        raise ValueError(f"root {root} is no folder: give data.root=FOLDER, a folder with {LAYOUT}")
    found = {part: _classes(root / part) for part in parts}
    for part in parts[1:]:
        _check_same(root, parts[0], set(found[parts[0]]), part, set(found[part]))
    return found


def labelled(classes: dict[str, list[str]], form: Form) -> Files:
    """The files of one part, class by class; the label is the class's place in the alphabet."""
    paths = [path for files in classes.values() for path in files]
    counts = torch.tensor([len(files) for files in classes.values()])
    return Files(paths, torch.repeat_interleave(torch.arange(len(counts)), counts), form)


def _classes(folder: Path) -> dict[str, list[str]]:
    if not folder.is_dir():
        raise ValueError(f"{folder.parent} has no folder {folder.name}: put the images into {LAYOUT} below it")
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"{folder} has no class folders: put the images into {folder.name}/CLASS/IMAGE")
    found = {name: [f"{folder}/{name}/{path}" for path, _ in image_files(folder / name)] for name in names}
    for name, files in found.items():
        if not files:
            raise ValueError(
                f"{folder / name} holds no image ({', '.join(EXTENSIONS)}): add some, or delete the folder"
            )
    return found


def _check_same(root: Path, first: str, expected: set[str], part: str, found: set[str]) -> None:
    for one, other, extra in ((first, part, expected - found), (part, first, found - expected)):
        if extra:
            names = ", ".join(repr(name) for name in sorted(extra)[:5])
            raise ValueError(f"{root} has in {one} the class {names} and not in {other}: give both the same classes")
