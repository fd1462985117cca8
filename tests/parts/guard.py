"""A guard before a REST catalog: over TLS, it lets in whoever shows the right login, and nobody else.

Signatures are made again of what has come (the request line, the headers, the body) by botocore. The
catalog's configuration is the guard's own: all else is to be asked under ``prefix``, on another name of
the same machine.
"""

import hashlib
import json
import re
import ssl
import time
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from parts import certificates
from parts.faults import PASS, Answer, Proxy, Request
from parts.rest_catalog import RestCatalog
from parts.run_dir import part_dir

WAREHOUSE = "one/two"
PREFIX = "lakes/one%2Ftwo"
TOKENS = "/v1/oauth/tokens"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>\w+)/(?P<scope>\S+), SignedHeaders=(?P<names>\S+), "
    r"Signature=(?P<signature>\w+)"
)
# What a signature has to cover.
_SIGNED = {"host", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"}


@dataclass(frozen=True)
class Came:
    """A request, what it was answered, and when it came, in seconds of a clock that only counts."""

    method: str
    path: str
    host: str
    answer: int | None
    at: float


class Guard(Proxy):
    """``wanted`` is who is let in: ``token``, ``oauth2`` or ``sigv4``; ``came`` is who came, in turn."""

    token = "a token of the catalog's"
    client = "lakebed"
    access_key, secret_key, session = "AKIDGUARD", "the secret of AWS", "a/session+token=="
    service, region = "glue", "eu-west-1"

    def __init__(self, catalog: RestCatalog) -> None:
        super().__init__(catalog.uri)
        self.ca_file, store = certificates.make(part_dir("guard"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(store)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        port = urlsplit(self.endpoint).port
        self.uri, self.elsewhere = f"https://localhost:{port}", f"https://127.0.0.1:{port}"
        self.wanted = "token"
        self.came: list[Came] = []
        # The next commits are answered with these, and have no effect.
        self.refusals: list[Answer] = []
        # Those that OAuth2 has given and that are still good.
        self._given: set[str] = set()

    def choose(self, request: Request) -> str | Answer:
        answer = self._answer(request)
        status = answer.status if isinstance(answer, Answer) else None
        host = request.headers["Host"]
        self.came.append(Came(request.method, request.path, host, status, time.monotonic()))
        return answer

    def _answer(self, request: Request) -> str | Answer:
        if request.path == TOKENS:
            return self._give(request) if self.wanted == "oauth2" else Answer(404)
        if not self._knows(request):
            return Answer(401)
        if request.path == f"/v1/config?warehouse={WAREHOUSE.replace('/', '%2F')}":
            settings = {"prefix": PREFIX, "uri": self.elsewhere}
            return Answer(200, body=json.dumps({"defaults": {}, "overrides": settings}).encode())
        if not request.path.startswith(f"/v1/{PREFIX}/"):
            return Answer(404)
        if request.method == "POST" and "/tables/" in request.path and self.refusals:
            refusal = self.refusals.pop(0)
            if refusal.status == 419:
                self._given.clear()
            return refusal
        return PASS

    def _give(self, request: Request) -> Answer:
        asked = dict(parse_qsl(request.body.decode()))
        known = {"client_id": self.client, "client_secret": RestCatalog.client_secret}
        if asked != {"grant_type": "client_credentials", "scope": "catalog", **known}:
            return Answer(401, body=b'{"error": "invalid_client"}')
        token = f"token {len(self.came)}"
        self._given.add(token)
        granted = {"access_token": token, "token_type": "bearer", "expires_in": 3600}
        return Answer(200, body=json.dumps(granted).encode())

    def _knows(self, request: Request) -> bool:
        login = request.headers.get("Authorization", "")
        if self.wanted == "sigv4":
            return self._is_signed(request, login)
        good = {self.token} if self.wanted == "token" else self._given
        return login.removeprefix("Bearer ") in good and login.startswith("Bearer ")

    def _is_signed(self, request: Request, login: str) -> bool:
        told = _AUTHORIZATION.fullmatch(login)
        if told is None:
            return False
        names = told["names"].split(";")
        date = request.headers["x-amz-date"]
        scope = f"{date[:8]}/{self.region}/{self.service}/aws4_request"
        body = hashlib.sha256(request.body).hexdigest()
        session = request.headers["x-amz-security-token"]
        return (
            set(names) >= _SIGNED
            and (told["key"], told["scope"]) == (self.access_key, scope)
            and (request.headers["x-amz-content-sha256"], session) == (body, self.session)
            and told["signature"] == self._signature(request, names, date)
        )

    def _signature(self, request: Request, names: list[str], date: str) -> str:
        url = f"https://{request.headers['Host']}{request.path}"
        signed = {name: request.headers[name] for name in names}
        asked = AWSRequest(method=request.method, url=url, headers=signed, data=request.body)
        asked.context["timestamp"] = date
        keys = Credentials(self.access_key, self.secret_key)
        auth = SigV4Auth(keys, self.service, self.region)
        return auth.signature(auth.string_to_sign(asked, auth.canonical_request(asked)), asked)

    def forward(self, request: Request):
        path = request.path.replace(f"/{PREFIX}/", "/", 1)
        return super().forward(Request(request.method, path, request.headers, request.body))
