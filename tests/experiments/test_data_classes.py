"""The layout of an image folder and what is said when it is another."""

import re
import shutil

import pytest
import tiny_images
from tiny_images import save

from experiments.data.classes import class_files, is_image_folder, labelled
from experiments.data.images import Form

PARTS = ("train", "test")


@pytest.fixture
def root(tmp_path):
    return tiny_images.folder(tmp_path / "data", ["dog", "cat"])


def test_classes_and_files_are_sorted(root):
    save(root / "train" / "cat" / "deeper" / "1.png")
    found = class_files(root, PARTS)
    assert list(found) == ["train", "test"]
    assert list(found["train"]) == ["cat", "dog"]
    assert found["train"]["cat"] == [f"{root}/train/cat/{name}.png" for name in ("0", "1", "2", "3", "deeper/1")]


def test_labels_count_the_classes_in_order(root):
    save(root / "train" / "cat" / "4.png")
    files = labelled(class_files(root, PARTS)["train"], Form("RGB", (32, 32), ""))
    assert files.labels.tolist() == [0] * 5 + [1] * 4
    assert [path.split("/")[-2] for path in files.paths] == ["cat"] * 5 + ["dog"] * 4


def test_hidden_folders_and_loose_files_are_no_classes(root):
    (root / "train" / ".ipynb_checkpoints").mkdir()
    save(root / "train" / "loose.png")
    assert list(class_files(root, PARTS)["train"]) == ["cat", "dog"]


def test_an_image_folder_is_known_by_its_parts(root, tmp_path):
    assert is_image_folder(root)
    assert not is_image_folder(tmp_path)
    shutil.rmtree(root / "test")
    assert is_image_folder(root)


def empty(root):
    for path in (root / "test" / "dog").iterdir():
        path.unlink()
    (root / "test" / "dog" / "readme.txt").write_text("no image")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (shutil.rmtree, "root ROOT is no folder: give data.root=FOLDER, a folder with train/CLASS/IMAGE and"),
        (lambda root: shutil.rmtree(root / "train"), "ROOT has no folder train: put the images into train/CLASS"),
        (lambda root: shutil.rmtree(root / "test"), "ROOT has no folder test: put the images"),
        (
            lambda root: [shutil.rmtree(root / "test" / name) for name in ("cat", "dog")],
            "ROOT/test has no class folders: put the images into test/CLASS/IMAGE",
        ),
        (empty, "ROOT/test/dog holds no image (.jpg, "),
        (
            lambda root: shutil.rmtree(root / "test" / "dog"),
            "ROOT has in train the class 'dog' and not in test: give both the same classes",
        ),
        (
            lambda root: (root / "test" / "dog").rename(root / "test" / "dgo"),
            "ROOT has in train the class 'dog' and not in test",
        ),
        (lambda root: save(root / "test" / "cow" / "0.png"), "ROOT has in test the class 'cow' and not in train"),
    ],
)
def test_another_layout_is_named(root, change, sentence):
    change(root)
    with pytest.raises(ValueError, match=re.escape(sentence.replace("ROOT", str(root)))):
        class_files(root, PARTS)
