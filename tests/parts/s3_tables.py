"""A table bucket of S3 Tables by ministack, behind a proxy that refuses what AWS refuses there.

Tables are not prepared, nobody tells them where to lie, and their files are neither listed nor
deleted nor put on conditions. ministack lets all of that pass.
"""

import json
from collections import Counter, deque
from urllib.parse import parse_qs, urlsplit

from ministack.services.s3tables import iceberg_iam_checks

from parts.faults import PASS, Answer, Proxy, Request
from parts.s3 import S3


class TableBucket(Proxy):
    """``refused``: requests by what was wrong with them. ``permissions``: what the others need.
    ``faults`` are met by commits, in turn."""

    def __init__(self, s3: S3, name: str) -> None:
        super().__init__(s3.endpoint)
        self.s3 = s3
        self.name = name
        self.arn = s3.client("s3tables").create_table_bucket(name=name)["arn"]
        self.refused: Counter = Counter()
        self.permissions: set[str] = set()
        self.faults: deque[str | Answer] = deque()

    def choose(self, request: Request) -> str | Answer:
        address = urlsplit(request.path)
        first, *rest = address.path.strip("/").split("/")
        if first == "iceberg":
            return self._of_catalog(request, rest)
        if first == self.name:
            return self._of_files(request, address.query)
        return PASS

    def _of_catalog(self, request: Request, path: list[str]) -> str | Answer:
        address = urlsplit(request.path)
        needed = iceberg_iam_checks(
            request.method, address.path, request.body, parse_qs(address.query)
        )
        self.permissions |= {action for action, _ in needed or []}
        if request.method != "POST" or "tables" not in path:
            return PASS
        if path[-1] != "tables":
            return self.faults.popleft() if self.faults else PASS
        asked = json.loads(request.body)
        for key in ("stage-create", "location"):
            if asked.get(key):
                return self._refuse(key, 400)
        return PASS

    def _of_files(self, request: Request, query: str) -> str | Answer:
        if request.method == "DELETE":
            return self._refuse("delete", 405)
        if request.method == "GET" and "list-type" in query:
            return self._refuse("list", 405)
        if "If-None-Match" in request.headers:
            return self._refuse("condition", 501)
        reads = request.method in ("GET", "HEAD")
        self.permissions.add("s3tables:GetTableData" if reads else "s3tables:PutTableData")
        return PASS

    def _refuse(self, what: str, status: int) -> Answer:
        self.refused[what] += 1
        error = {"message": f"{what} is not supported", "type": "BadRequest", "code": status}
        return Answer(status, body=json.dumps({"error": error}).encode())

    def catalog_config(self, endpoint: str) -> dict:
        """The ``lake.catalog`` section of a configuration."""
        return {
            "type": "rest",
            "uri": f"{endpoint}/iceberg",
            "warehouse": self.arn,
            "sigv4": "s3tables",
            "region": self.s3.region,
        }
