"""Every table that any other test made, held against what Athena takes (``lakebed check``).

Runs last (see ``conftest.py``), on what the run has left on disk and in S3.
"""

import re
from collections import Counter

from parts import Lakebed

TABLE = re.compile(r"^(ok|BROKEN) +table `(?P<path>[^`]+)` \((?P<format>\w+), ")

# At least so many tables of a whole run; a part of it makes fewer.
WHOLE_RUN = {("iceberg", "disk"): 60, ("delta", "disk"): 60, ("iceberg", "s3"): 4, ("delta", "s3"): 2}


def test_athena_can_query_every_table_that_was_made(lakebed, s3, is_whole_run):
    counted: Counter = Counter()
    broken = []
    for lake, (config, env) in Lakebed.lakes.items():
        place = "s3" if str(config["lake"]["location"]).startswith("s3://") else "disk"
        checked = lakebed.run(["check", "--all-tables"], config, env=env)
        tables = [match for line in checked.stdout.splitlines() if (match := TABLE.match(line))]
        if checked.returncode != 0:
            broken.append((lake, checked.stdout, checked.stderr))
        counted.update((found["format"], place) for found in tables)
    print(f"tables looked at: {dict(counted)} in {len(Lakebed.lakes)} lakes")
    assert not broken, broken
    if is_whole_run:
        for kind, least in WHOLE_RUN.items():
            assert counted[kind] >= least, (kind, counted)
