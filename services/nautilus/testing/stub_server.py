"""A small HTTP server that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """`has_length` False leaves out Content-Length; `delay_s` is waited before a byte is sent."""

    status: int
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    has_length: bool = True
    delay_s: float = 0


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class StubServer:
    url: str
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def stub_server(answers: Mapping[str, Answer]) -> Iterator[StubServer]:
    """Answers by path (without the query); 404 for the others."""
    stub = StubServer("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            stub.asked.append(Asked(self.command, self.path, dict(self.headers.items())))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = answers.get(urlsplit(self.path).path, Answer(404, b'{"message": "404 Not Found"}'))
            time.sleep(answer.delay_s)
            self.send_response(answer.status)
            headers = {"Content-Type": "application/json", **answer.headers}
            if answer.has_length:
                headers["Content-Length"] = str(len(answer.body))
            else:
                headers["Connection"] = "close"
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                with suppress(BrokenPipeError, ConnectionResetError):  # who had enough hangs up
                    self.wfile.write(answer.body)

        do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
