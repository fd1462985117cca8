"""Every table that any other test made, held against what Athena takes (``lakebed check``).

Runs last (see ``conftest.py``), on what the run has left on disk, in S3 and in catalogs.
"""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from parts import Lakebed

TABLE = re.compile(
    r"^(ok|BROKEN) +table `(?P<database>[^`.]+)\.(?P<name>[^`]+)` \((?P<format>\w+), "
)

# At least so many tables of a whole run, by format, catalog and the mode of silver; a part of it makes
# fewer. Bronze has no mode: nothing in it is ever changed.
WHOLE_RUN = {
    ("iceberg", "filesystem", "merge-on-read"): 30,
    ("delta", "filesystem", "merge-on-read"): 30,
    ("iceberg", "filesystem", "copy-on-write"): 2,
    ("delta", "filesystem", "copy-on-write"): 2,
    ("iceberg", "filesystem", "bronze"): 25,
    ("delta", "filesystem", "bronze"): 25,
    ("iceberg", "glue", "merge-on-read"): 8,
    ("delta", "glue", "merge-on-read"): 8,
    ("iceberg", "glue", "copy-on-write"): 2,
    ("delta", "glue", "copy-on-write"): 2,
    ("iceberg", "glue", "bronze"): 5,
    ("delta", "glue", "bronze"): 5,
    ("iceberg", "rest", "merge-on-read"): 8,
    ("iceberg", "rest", "copy-on-write"): 1,
    ("iceberg", "rest", "bronze"): 5,
}


def test_athena_can_query_every_table_that_was_made(lakebed, is_whole_run):
    counted: Counter = Counter()
    broken = []

    def check(lake: tuple):
        config, env = lake
        return lakebed.run(["check", "--all-tables"], config, env=env)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(check, Lakebed.lakes.values()))
    for (lake, (config, _)), checked in zip(Lakebed.lakes.items(), answers, strict=True):
        catalog = config["lake"].get("catalog", {}).get("type", "filesystem")
        modes = {each.get("name"): each.get("mode", "merge-on-read") for each in config["tables"]}
        bronze = database(config["lake"], "bronze")
        tables = [match for line in checked.stdout.splitlines() if (match := TABLE.match(line))]
        if checked.returncode != 0:
            broken.append((lake, checked.stdout, checked.stderr))
        counted.update(
            (
                found["format"],
                catalog,
                "bronze" if found["database"] == bronze else modes.get(found["name"], "merge-on-read"),
            )
            for found in tables
        )
    print(f"tables looked at: {dict(counted)} in {len(Lakebed.lakes)} lakes")
    assert not broken, broken
    if is_whole_run:
        for kind, least in WHOLE_RUN.items():
            assert counted[kind] >= least, (kind, counted)


def database(lake: dict, layer: str) -> str:
    """What the tables of a layer are listed under; none's name where there is no such layer."""
    settings = lake.get(layer, {})
    return settings.get("database", layer) if settings is not False else ""
