"""Every table that any other test made, held against what Athena takes (``lakebed check``).

Runs last (see ``conftest.py``), on what the run has left on disk, in S3 and in catalogs.
"""

import re
from collections import Counter

from parts import Lakebed

TABLE = re.compile(r"^(ok|BROKEN) +table `[^`.]+\.(?P<name>[^`]+)` \((?P<format>\w+), ")

# At least so many tables of a whole run, by format, catalog and mode; a part of it makes fewer.
WHOLE_RUN = {
    ("iceberg", "filesystem", "merge-on-read"): 60,
    ("delta", "filesystem", "merge-on-read"): 60,
    ("iceberg", "filesystem", "copy-on-write"): 2,
    ("delta", "filesystem", "copy-on-write"): 2,
    ("iceberg", "glue", "merge-on-read"): 10,
    ("delta", "glue", "merge-on-read"): 10,
    ("iceberg", "rest", "merge-on-read"): 4,
}


def test_athena_can_query_every_table_that_was_made(lakebed, is_whole_run):
    counted: Counter = Counter()
    broken = []
    for lake, (config, env) in Lakebed.lakes.items():
        catalog = config["lake"].get("catalog", {}).get("type", "filesystem")
        modes = {each.get("name"): each.get("mode", "merge-on-read") for each in config["tables"]}
        checked = lakebed.run(["check", "--all-tables"], config, env=env)
        tables = [match for line in checked.stdout.splitlines() if (match := TABLE.match(line))]
        if checked.returncode != 0:
            broken.append((lake, checked.stdout, checked.stderr))
        counted.update(
            (found["format"], catalog, modes.get(found["name"], "merge-on-read"))
            for found in tables
        )
    print(f"tables looked at: {dict(counted)} in {len(Lakebed.lakes)} lakes")
    assert not broken, broken
    if is_whole_run:
        for kind, least in WHOLE_RUN.items():
            assert counted[kind] >= least, (kind, counted)
