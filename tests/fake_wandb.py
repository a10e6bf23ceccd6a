"""A W&B server of this process, as far as `wandb` needs one: it keeps the runs' rows, and can go away."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """`rows`: of each run's history, by id; `configs`: all that was sent of them; `gone`: it is unreachable."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.rows: dict[str, dict[int, Any]] = {}
        self.configs: dict[str, str] = {}
        self.gone = False
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Nothing: `wandb` breaks connections off as it likes."""

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """To a GraphQL query."""
        if "upsertBucket" in query:
            self.configs[variables["name"]] = self.configs.get(variables["name"], "") + (variables["config"] or "")
            project = {"id": "p", "name": "project", "entity": {"id": "e", "name": "entity"}}
            bucket = {"id": "b", "name": variables["name"], "displayName": "run", "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": variables["name"] not in self.rows}}
        if "RunResumeStatus" in query:
            return {"model": {"id": "p", "name": "project", "bucket": self._resumed(variables["name"])}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {}

    def _resumed(self, run: str) -> dict[str, Any] | None:
        if run not in self.rows:
            return None
        rows = self.rows[run]
        tail = json.dumps([json.dumps(rows[max(rows)])]) if rows else "[]"
        counts = {"historyLineCount": len(rows), "eventsLineCount": 0, "logLineCount": 0}
        texts = {"historyTail": tail, "eventsTail": "[]", "config": "{}", "summaryMetrics": "{}"}
        return {"id": "b", "name": run, "displayName": "run", "tags": [], "notes": None, **counts, **texts}

    def take(self, run: str, stream: dict[str, Any]) -> None:
        """A part of a run's files."""
        history = stream.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
        rows = self.rows.setdefault(run, {})
        rows |= {history["offset"] + i: json.loads(line) for i, line in enumerate(history["content"])}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.gone:
            self.close_connection = True
            return
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            asked = json.loads(body)
            answer = {"data": self.server.answer(asked["query"], asked.get("variables") or {})}
        elif self.path.endswith("/file_stream"):
            self.server.take(self.path.split("/")[-2], json.loads(body))
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_POST

    def log_message(self, *_: object) -> None:
        pass
