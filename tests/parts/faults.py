"""Proxies before HTTP servers that behave as networks and services do on a bad day.

They pass requests on as they are, but for those that a fault is chosen for.
"""

import contextlib
import http.client
import itertools
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from parts.s3 import S3

PASS = "pass"
# It takes effect, and the connection ends.
LOST_REPLY = "lost reply"
# The connection ends; it takes effect some time later.
LATE_LANDING = "late landing"
# The connection ends.
LOST_REQUEST = "lost request"
# Longer than anybody waits for the reply here, shorter than a retry of a whole batch.
LATE_SECONDS = 3.0


@dataclass(frozen=True)
class Answer:
    """Of the proxy itself, instead of the server's: without effect, or after it."""

    status: int
    after_effect: bool = False
    body: bytes = b"{}"
    content_type: str = "application/json"
    # In seconds, where it asks for a pause.
    retry_after: int | None = None

    def headers(self) -> list[tuple[str, str]]:
        pause = [] if self.retry_after is None else [("Retry-After", str(self.retry_after))]
        return [("Content-Type", self.content_type), *pause]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: http.client.HTTPMessage
    body: bytes


class Proxy:
    """Usable in a ``with`` block; listens at ``endpoint``."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target).netloc
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def choose(self, request: Request) -> str | Answer:
        """The fault that this request meets."""
        raise NotImplementedError

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def forward(self, request: Request):
        connection = http.client.HTTPConnection(self._target, timeout=60)
        try:
            connection.putrequest(
                request.method, request.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers.items():
                connection.putheader(name, value)
            connection.endheaders(request.body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class Scripted(Proxy):
    """``faults`` are met in turn by the ``POST`` requests whose path has ``only`` in it."""

    def __init__(self, target: str, only: str, faults: list[str | Answer]) -> None:
        super().__init__(target)
        self._only = only
        self._next = itertools.cycle(faults)
        self.met: list[str | Answer] = []

    def choose(self, request: Request) -> str | Answer:
        if request.method != "POST" or self._only not in request.path:
            return PASS
        fault = next(self._next)
        self.met.append(fault)
        return fault


REFUSED = "refused"
THROTTLED = "throttled"
# Of what changes something; reading is only ever throttled.
OF_CHANGES = (LOST_REPLY, LATE_LANDING, REFUSED)

_JSON = "application/x-amz-json-1.1"
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_ANSWERS = {
    ("s3", REFUSED): Answer(503, body=_SLOW_DOWN, content_type="application/xml"),
    ("s3", THROTTLED): Answer(503, body=_SLOW_DOWN, content_type="application/xml"),
    ("glue", REFUSED): Answer(500, body=b'{"__type":"InternalServiceException"}', content_type=_JSON),
    ("glue", THROTTLED): Answer(
        400,
        body=b'{"__type":"ThrottlingException","message":"Rate exceeded"}',
        content_type=_JSON,
    ),
}


class BadDay(Proxy):
    """Of S3 and Glue. ``share``: by service (``s3``, ``glue``), how many of the requests that change
    something meet a fault; ``throttling``: all do. ``counts``: by service and fault."""

    def __init__(self, s3: S3, seed: int) -> None:
        super().__init__(s3.endpoint)
        self.share: dict[str, float] = {}
        self.throttling = False
        self.counts: Counter = Counter()
        self._rng = random.Random(seed)
        self._lock = threading.Lock()

    def choose(self, request: Request) -> str | Answer:
        target = request.headers.get("X-Amz-Target", "")
        service = "glue" if target else "s3"
        call = target.rsplit(".", 1)[-1]
        changes = (
            call.startswith(("Create", "Update")) if call else request.method in ("PUT", "POST")
        )
        with self._lock:
            fault = PASS
            if self.throttling:
                fault = THROTTLED
            elif changes and self._rng.random() < self.share.get(service, 0):
                fault = self._rng.choice(OF_CHANGES)
            self.counts[service, fault] += 1
        return _ANSWERS.get((service, fault), fault)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_) -> None:
        """Who asked is gone: killed, most of the time."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path, self.headers, body)
        fault = self.proxy.choose(request)
        if isinstance(fault, Answer):
            if fault.after_effect:
                self.proxy.forward(request)
            self._reply(fault.status, fault.headers(), fault.body)
        elif fault == PASS:
            self._reply(*self.proxy.forward(request))
        else:
            self.close_connection = True
            if fault == LOST_REPLY:
                self.proxy.forward(request)
            elif fault == LATE_LANDING:
                threading.Thread(target=self._late, args=[request], daemon=True).start()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _late(self, request: Request) -> None:
        time.sleep(LATE_SECONDS)
        with contextlib.suppress(OSError):  # the server may have been stopped meanwhile
            self.proxy.forward(request)

    def _reply(self, status: int, headers, body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length")
        # Of a HEAD it is the length of what a GET would bring.
        told = length if self.command == "HEAD" and length else str(len(body))
        self.send_header("Content-Length", told)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        """The tests look at what was met."""
