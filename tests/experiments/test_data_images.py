"""Decoding, listing and the fingerprint of image files that Pillow writes."""

import os
import shutil

import numpy as np
import pytest
import tiny_images
import torch
from PIL import Image
from tiny_images import save
from torchvision.transforms.v2 import functional as vision

from experiments.data import images
from experiments.data.images import Files, Form, decode, fingerprint, header, image_files

FORM = Form("RGB", (6, 4), "make all images alike")


def noise(path, shape, suffix_options=None):
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8).numpy()
    Image.fromarray(pixels).save(path, **(suffix_options or {}))
    return pixels


@pytest.mark.parametrize("large", [1, 10**6])
def test_pixels_keep_their_place_and_the_files_their_order(tmp_path, monkeypatch, large):
    monkeypatch.setattr(images, "LARGE", large)  # in threads, or not
    monkeypatch.setattr(images, "CHUNK", 2)
    expected = [noise(tmp_path / f"{i}.png", (4, 6, 3)) for i in range(7)]
    made = decode([str(tmp_path / f"{i}.png") for i in range(7)], FORM)
    assert made.dtype == torch.uint8
    assert torch.equal(made, torch.from_numpy(np.stack(expected)).permute(0, 3, 1, 2))


def test_grey_images_have_one_channel(tmp_path):
    pixels = noise(tmp_path / "a.png", (4, 6))
    assert decode([str(tmp_path / "a.png")], Form("L", (6, 4), "")).tolist() == [[pixels.tolist()]]


def test_a_jpeg_is_decoded_close_to_what_was_saved(tmp_path):
    save(tmp_path / "a.jpg", 100, size=(6, 4))
    assert (decode([str(tmp_path / "a.jpg")], FORM).int() - 100).abs().max() <= 2


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (64, 64), (10, 12)])
def test_fitting_scales_the_shorter_side_and_cuts_at_the_centre(tmp_path, size):
    across = np.linspace(0, 255, size[0])[None, :].repeat(size[1], 0)
    down = np.linspace(0, 255, size[1])[:, None].repeat(size[0], 1)
    pixels = np.stack([across, down, 0 * down], 2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    made = decode([str(tmp_path / "a.png")], Form("RGB", (20, 20), "", fitted=True))[0]
    resized = vision.resize(torch.from_numpy(pixels).permute(2, 0, 1), [20], antialias=True)
    expected = vision.center_crop(resized, [20, 20])
    assert (made.int() - expected.int()).abs().max() <= 8  # of 255: half a pixel of the ramp, and rounding


def test_files_are_decoded_when_taken_and_only_those(tmp_path):
    paths = [str(save(tmp_path / f"{i}.png", i, size=(6, 4))) for i in range(3)]
    (tmp_path / "1.png").write_bytes(b"damaged")
    part = Files(paths, torch.tensor([7, 8, 9]), FORM)
    taken = part.take(torch.tensor([2, 0]))
    assert len(part) == 3
    assert (taken.images[:, 0, 0, 0].tolist(), taken.labels.tolist()) == ([2, 0], [9, 7])
    with pytest.raises(ValueError, match=r"1\.png cannot be read"):
        part.take(torch.arange(3))


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize(
    ("mode", "name", "words"),
    [
        ("CMYK", "a.jpg", "CMYK and 6 × 4"),
        ("P", "a.png", r"of a palette \(P\)"),
        ("RGBA", "a.png", "RGBA"),
        ("L", "a.png", r"grey \(L\)"),
        ("1", "a.png", "1 and"),
    ],
)
def test_another_mode_is_refused(tmp_path, mode, name, words, fitted):
    path = save(tmp_path / name, mode=mode, size=(6, 4))
    with pytest.raises(ValueError, match=f"{path} is {words}.*: make all images alike"):
        decode([str(path)], Form("RGB", (6, 4), "make all images alike", fitted))


def test_another_size_is_refused_unless_images_are_fitted(tmp_path):
    path = save(tmp_path / "a.png", size=(6, 5))
    with pytest.raises(ValueError, match=f"{path} is RGB and 6 × 5: make all images alike"):
        decode([str(path)], FORM)
    assert decode([str(path)], Form("RGB", (3, 3), "", fitted=True)).shape == (1, 3, 3, 3)


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("a.png", lambda path: path.write_bytes(b"no image")),
        ("a.png", lambda path: path.write_bytes(b"")),
        ("a.png", lambda path: path.unlink()),
        ("a.png", cut),
        ("a.jpg", cut),
        ("a.png", lambda path: path.write_bytes(path.read_bytes().replace(b"IHDR", b"IHDX"))),
    ],
)
def test_an_unreadable_file_is_named(tmp_path, name, damage):
    noise(tmp_path / name, (40, 60, 3))
    damage(tmp_path / name)
    form = Form("RGB", (60, 40), "")
    with pytest.raises(ValueError, match=rf"{tmp_path / name} cannot be read as an image \(.+\): replace or delete it"):
        decode([str(tmp_path / name)], form)


def test_header_reads_no_pixels(tmp_path):
    noise(tmp_path / "a.png", (40, 60, 3))
    cut(tmp_path / "a.png")
    assert header(str(tmp_path / "a.png")) == ("RGB", (60, 40))


def test_image_files_are_found_at_any_depth_sorted_without_others(tmp_path):
    for name in ("b/z.PNG", "b/a/x.jpeg", "a.jpg", "a/notes.txt", ".hidden/a.png", "b/._z.png", "b/z.png.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"x" * len(name))
    assert image_files(tmp_path) == [("a.jpg", 5), ("b/a/x.jpeg", 10), ("b/z.PNG", 7)]


def test_a_folder_that_leads_into_itself_is_an_error(tmp_path):
    (tmp_path / "again").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=f"folder {tmp_path} cannot be read"):
        image_files(tmp_path)


def test_the_fingerprint_is_of_the_content_not_of_the_place(tmp_path):
    first = tiny_images.folder(tmp_path / "first")
    shutil.copytree(first, tmp_path / "second")
    (tmp_path / "second" / "notes.txt").write_text("no image")
    os.utime(tmp_path / "second/train/c0/0.png", (0, 0))
    found = fingerprint(first)
    assert len(found) == 12 and int(found, 16) >= 0
    assert found == fingerprint(tmp_path / "second") == fingerprint(str(first) + "/")


def change(root, how):
    path = root / "train/c0/0.png"
    if how == "renamed":
        path.rename(path.with_name("9.png"))
    elif how == "moved":
        path.rename(root / "train/c1/9.png")
    elif how == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize("how", ["renamed", "moved", "deleted", "changed"])
def test_another_content_has_another_fingerprint(tmp_path, how):
    first = tiny_images.folder(tmp_path / "first")
    shutil.copytree(first, tmp_path / "second")
    change(tmp_path / "second", how)
    assert fingerprint(first) != fingerprint(tmp_path / "second")


def test_a_folder_without_images_and_none_have_one_fingerprint(tmp_path):
    (tmp_path / "empty").mkdir()
    assert fingerprint(tmp_path / "empty") == fingerprint(tmp_path / "none")
