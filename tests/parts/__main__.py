"""``python -m parts up [--only kafka,postgres]``: the parts by hand, until Ctrl-C."""

import argparse
import signal
import sys
import time

from parts import S3, Connect, Kafka, MariaDB, Postgres, Registry, RestCatalog, cache
from parts.run_dir import run_dir

_NAMES = ("kafka", "postgres", "mariadb", "registry", "s3", "rest", "connect")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m parts")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="download what is missing from the cache")
    up = commands.add_parser("up", help="start parts, print their addresses, wait for Ctrl-C")
    up.add_argument("--only", default=",".join(_NAMES), help=f"some of {','.join(_NAMES)}")
    arguments = parser.parse_args()
    if arguments.command == "fetch":
        cache.fetch_all()
        return
    wanted = arguments.only.split(",")
    unknown = set(wanted) - set(_NAMES)
    if unknown:
        parser.error(f"no part called {', '.join(sorted(unknown))}; there are {', '.join(_NAMES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        _up(wanted)
    except KeyboardInterrupt:
        print("stopping")


def _up(wanted: list[str]) -> None:
    began = time.monotonic()
    parts = {}
    if "kafka" in wanted or "connect" in wanted:
        parts["kafka"] = Kafka()
    if "postgres" in wanted:
        parts["postgres"] = Postgres()
    if "mariadb" in wanted:
        parts["mariadb"] = MariaDB()
    if "registry" in wanted:
        parts["registry"] = Registry()
    if "s3" in wanted:
        parts["s3"] = S3()
    if "rest" in wanted:
        parts["rest"] = RestCatalog()
    for part in parts.values():
        part.spawn()
    for part in parts.values():
        part.wait_ready()
    if "connect" in wanted:
        parts["connect"] = Connect(parts["kafka"]).start()
    for line in _addresses(parts):
        print(line)
    print(
        f"up after {time.monotonic() - began:.1f} s; logs below {run_dir()}; Ctrl-C stops",
        flush=True,
    )
    while True:
        time.sleep(1)
        for part in parts.values():
            part.check_alive()


def _addresses(parts: dict) -> list[str]:
    lines = []
    if kafka := parts.get("kafka"):
        lines.append(f"kafka     {kafka.bootstrap}")
        lines.append(
            f"          {kafka.sasl_bootstrap}  SASL_SSL, SCRAM-SHA-512, user {kafka.username},"
            f" password {kafka.password}, CA {kafka.ca_file}"
        )
    if postgres := parts.get("postgres"):
        lines.append(
            f"postgres  postgresql://{postgres.superuser}@{postgres.host}:{postgres.port}/postgres"
        )
    if mariadb := parts.get("mariadb"):
        lines.append(f"mariadb   {mariadb.host}:{mariadb.port}  user {mariadb.superuser}, no password")
    if registry := parts.get("registry"):
        lines.append(f"registry  {registry.url}  as Confluent's: {registry.confluent_url}")
    if s3 := parts.get("s3"):
        lines.append(
            f"s3, glue  {s3.endpoint}  region {s3.region}, keys {s3.access_key}/{s3.secret_key}"
        )
    if rest := parts.get("rest"):
        lines.append(f"rest      {rest.uri}  tables on this machine's disk")
    if connect := parts.get("connect"):
        lines.append(f"connect   {connect.url}")
    return lines


main()
