"""A proxy before S3 and Glue that behaves as AWS does on a bad day.

It passes requests on as they are, but for those that it picks for a fault: the reply is lost after the
effect, the effect comes late, or the service says that it is asked too often.
"""

import http.client
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from parts.ports import free_port
from parts.s3 import S3

# Of what changes something; reading is only ever throttled.
FAULTS = ("lost-reply", "late-landing", "refused")
# Longer than anybody waits for the reply here, shorter than a retry of the whole batch.
LATE_SECONDS = 3.0
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_THROTTLED = b'{"__type":"ThrottlingException","message":"Rate exceeded"}'


class Faults:
    """Usable in a ``with`` block. ``share``: by service (``s3``, ``glue``), how many of the requests that
    change something meet a fault."""

    def __init__(self, s3: S3, seed: int) -> None:
        self.s3 = s3
        self.share: dict[str, float] = {}
        self.throttling = False
        self.counts: Counter = Counter()  # (service, fault or "passed")
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self.endpoint = f"http://127.0.0.1:{free_port()}"

    def __enter__(self) -> "Faults":
        port = int(self.endpoint.rsplit(":", 1)[1])
        handler = type("Handler", (_Handler,), {"faults": self})
        self._server = _Server(("127.0.0.1", port), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def choose(self, service: str, changes: bool) -> str | None:
        """The fault that this request meets, and counts it."""
        with self._lock:
            fault = None
            if self.throttling:
                fault = "throttled"
            elif changes and self._rng.random() < self.share.get(service, 0):
                fault = self._rng.choice(FAULTS)
            self.counts[service, fault or "passed"] += 1
            return fault

    def forward(self, method: str, path: str, headers, body: bytes):
        connection = http.client.HTTPConnection("127.0.0.1", self.s3.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_) -> None:
        """Who asked is gone: killed, most of the time."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: Faults

    def _serve(self) -> None:
        body = self._body()
        target = self.headers.get("X-Amz-Target", "")
        service = "glue" if target else "s3"
        call = target.rsplit(".", 1)[-1]
        changes = call.startswith(("Create", "Update")) if target else self.command in ("PUT", "POST")
        fault = self.faults.choose(service, changes)
        if fault in ("throttled", "refused"):
            self._refuse(service, fault)
        elif fault == "lost-reply":
            self._forward(body)
            self.close_connection = True
        elif fault == "late-landing":
            threading.Thread(target=self._late, args=[body], daemon=True).start()
            self.close_connection = True
        else:
            self._reply(*self._forward(body))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _forward(self, body: bytes):
        return self.faults.forward(self.command, self.path, self.headers, body)

    def _late(self, body: bytes) -> None:
        time.sleep(LATE_SECONDS)
        self._forward(body)

    def _refuse(self, service: str, fault: str) -> None:
        if service == "glue":
            code = 400 if fault == "throttled" else 500
            text = _THROTTLED if fault == "throttled" else b'{"__type":"InternalServiceException"}'
            self._reply(code, [("Content-Type", "application/x-amz-json-1.1")], text)
        else:
            self._reply(503, [("Content-Type", "application/xml")], _SLOW_DOWN)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _reply(self, status: int, headers, body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        length = dict((name.lower(), value) for name, value in headers).get("content-length")
        # Of a HEAD it is the length of what a GET would bring.
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        """The tests look at ``counts``."""
