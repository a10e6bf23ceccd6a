"""Each run's own log."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.joblog import logging_to, news

log = logging.getLogger("some.module")


def test_a_run_logs_its_news_and_every_warning_to_its_own_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with logging_to(tmp_path / "logs" / name):
            news.info("news of %s", name)
            log.warning("warning of %s", name)
    for name in ("one", "two"):
        lines = (tmp_path / "logs" / name).read_text().splitlines()
        assert [line.split("  ")[1] for line in lines] == [f"news of {name}", f"warning of {name}"]


def test_a_second_stretch_appends(tmp_path: Path) -> None:
    for word in ("first", "second"):
        with logging_to(tmp_path / "log"):
            news.info(word)
    assert len((tmp_path / "log").read_text().splitlines()) == 2


def test_the_console_gets_no_news_and_each_warning_once(tmp_path: Path) -> None:
    script = (
        "import logging, sys, pathlib; from experiments.joblog import logging_to, news\n"
        "logging.basicConfig(stream=sys.stdout, format='%(message)s')\n"
        f"with logging_to(pathlib.Path({str(tmp_path / 'log')!r})):\n"
        "    news.info('news'); logging.getLogger('module').warning('warning')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("warning\n", "")


def test_no_handler_stays_whatever_happens(tmp_path: Path) -> None:
    before = [list(logger.handlers) for logger in (logging.getLogger(), news)]
    with pytest.raises(KeyboardInterrupt), logging_to(tmp_path / "log"):
        raise KeyboardInterrupt
    assert [list(logger.handlers) for logger in (logging.getLogger(), news)] == before


def test_a_place_that_cannot_be_written_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "logs").write_text("a file in the folder's place")
    with logging_to(tmp_path / "logs" / "log"):
        news.info("news")
    assert [record.message.partition(" (")[0] for record in caplog.records if record.name != news.name] == [
        "there is no log of this run"
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_stops_nothing_and_says_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with logging_to(Path("/dev/full")):
        for _ in range(3):
            news.info("news")
            log.warning("warning")
    assert "Error" not in "".join(capfd.readouterr())


def test_no_secret_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_TOKEN", "s3cretword")
    with logging_to(tmp_path / "log"):
        log.warning("cannot read %s", "https://host?token=s3cretword")
    assert "s3cretword" not in (tmp_path / "log").read_text()
