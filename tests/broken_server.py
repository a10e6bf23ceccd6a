"""A web server on this machine whose network disappears in one of several ways."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Answers HEAD well, and GET as `server.way` says."""

    server: Any

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        body = self.server.files.get(self.path.lstrip("/"), b"")
        getattr(self, self.server.way)(body)

    def well(self, body: bytes) -> None:
        self.answer(body, len(body))

    def closes_midway(self, body: bytes) -> None:
        self.answer(body[: len(body) // 2], len(body))

    def sends_too_little_without_saying(self, body: bytes) -> None:
        self.answer(body[:-7], len(body) - 7)

    def sends_another_file(self, body: bytes) -> None:
        self.answer(b"<html>log in first</html>", 25)

    def is_no_web_server(self, body: bytes) -> None:
        self.wfile.write(b"\x00\xff garbage\r\n" * 3)

    def hangs_midway(self, body: bytes) -> None:
        self.answer(body[:5], len(body))
        self.server.over.wait(5)

    def has_not_the_file(self, body: bytes) -> None:
        self.send_error(404)

    def sends_elsewhere(self, body: bytes) -> None:
        self.send_response(302)
        self.send_header("Location", "http://[nowhere/")
        self.end_headers()

    def never_ends(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.over.is_set():
            self.wfile.write(bytes(1 << 16))

    def answer(self, body: bytes, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass


WAYS = (
    *("closes_midway", "sends_too_little_without_saying", "sends_another_file", "is_no_web_server", "hangs_midway"),
    *("has_not_the_file", "sends_elsewhere", "never_ends"),
)


class Server(ThreadingHTTPServer):
    """Never prints what a client that has gone away makes of it."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        pass


@contextmanager
def serving(files: dict[str, bytes], way: str) -> Iterator[str]:
    """Serve `files` in that way; gives the address, which ends in a slash."""
    server = Server(("127.0.0.1", 0), Handler)
    server.files, server.way, server.over = files, way, threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.over.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
