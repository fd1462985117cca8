"""A proxy before an HTTP server that loses requests and answers, as told."""

import http.server
import itertools
import threading

import requests


class FaultyProxy:
    """``faults`` are met in turn by the ``POST`` requests whose path has ``only`` in it:
    ``"pass"``; ``"lost reply"``: it takes effect, and the connection ends; ``"lost request"``: the
    connection ends; a number: that status, without effect; ``("done", number)``: with effect."""

    def __init__(self, target: str, only: str, faults: list) -> None:
        self._next = itertools.cycle(faults)
        self.met: list = []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._forward("pass")

            def do_POST(self) -> None:
                fault = next(proxy._next) if only in self.path else "pass"
                if only in self.path:
                    proxy.met.append(fault)
                self._forward(fault)

            def _forward(self, fault) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if fault == "lost request":
                    self.close_connection = True
                    return
                if isinstance(fault, int):
                    self._answer(fault, b"{}")
                    return
                kept = ("content-type", "authorization", "accept")
                headers = {name: self.headers[name] for name in kept if name in self.headers}
                answer = requests.request(
                    self.command, f"{target}{self.path}", data=body, headers=headers, timeout=60
                )
                if fault == "lost reply":
                    self.close_connection = True
                elif isinstance(fault, tuple):
                    self._answer(fault[1], b"{}")
                else:
                    self._answer(answer.status_code, answer.content)

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "FaultyProxy":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()
