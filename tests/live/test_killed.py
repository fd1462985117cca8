"""Killed at every step of the commit protocol, again and again, while the source changes.

Four lanes side by side, each a process of its own with its own consumer group and lake: Iceberg and
Delta, on local disk and on S3. A kill counts only where the process said that it had reached the
step it was told to die at.
"""

import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import tables
import workload
from parts import S3, Kafka, Lakebed, topics
from parts.lakebed import Running
from parts.process import wait_until
from readers.compare import problems
from readers.source import from_postgres
from tables import FORMATS, LAYERS, Entry

SNAPSHOT_ROWS = 3_000
CHANGES_MIN = 5_000
# Slow enough for the lanes to keep up with on two cores, so that all see the load change.
CHANGES_PER_SECOND = 150
PREFIX = "killed"

# The steps of a commit, and how many times a lane must be killed at each. Two lanes have the same
# format, so each step is hit twice as often in a format.
COMMIT_STEPS = (
    "before-stage",
    "amid-stage",
    "after-stage",
    "before-commit-metadata",
    "before-commit-point",
    "after-commit-point",
    "before-hint",
    "before-offset-commit",
    "after-offset-commit",
)
# Upkeep deletes only what is older than a day, so it is killed under a clock that is two days fast.
UPKEEP_STEPS = ("before-cleanup", "amid-cleanup")
# The last hundred versions stay whatever their age: before the upkeep steps a table must have more.
GROW = "grow"
GROWN_VERSIONS = 130
ROUNDS = 1
STEP_SECONDS = 150
CLOCK = {"LAKEBED_CLOCK_AHEAD": str(2 * 24 * 3600)}


@dataclass
class Lane:
    """One process after another, each told to die at the next step of the plan."""

    name: str
    program: Lakebed
    kafka: Kafka
    config: dict
    location: str | Path
    entries: list[Entry]
    s3: S3 | None
    plan: list[tuple[str, int]]
    rng: random.Random
    hits: Counter = field(default_factory=Counter)
    compared: int = 0
    _running: Running | None = None
    _deadline: float = 0

    @property
    def group(self) -> str:
        return self.config["kafka"]["group_id"]

    def step(self) -> bool:
        """Starts a process where none runs, looks at one that has ended; true at the plan's end."""
        if self._running is None:
            if not self.plan:
                return True
            point, nth = self.plan[0]
            env = {"LAKEBED_KILL_AT": f"{point}:{nth}"} if point != GROW else {}
            if point in UPKEEP_STEPS:
                env |= CLOCK
            self._running = self.program.start(self.config, "run", env=env)
            self._deadline = time.monotonic() + STEP_SECONDS
        elif self._running.exit_code is not None:
            self._killed()
        elif time.monotonic() > self._deadline:
            point, nth = self.plan[0]
            tail = self._running.tail()
            raise TimeoutError(f"{self.name}: {point}:{nth} not in {STEP_SECONDS} s\n{tail}")
        elif self.plan[0][0] == GROW:
            self._grow()
        return False

    def _grow(self) -> None:
        """Lets the process work until a table is old enough, then asks it to end."""
        if any(self._version(entry) >= GROWN_VERSIONS for entry in self.entries):
            self._running.sigterm()
            self._running.expect(0, 60)
            self._running = None
            self.plan.pop(0)

    def _version(self, entry: Entry) -> int:
        said = re.findall(
            rf'"table":"silver.{entry.name}",.*"silver_version":(\d+)', self._running.stderr
        )
        return int(said[-1]) if said else 0

    def _killed(self) -> None:
        ended, (point, _) = self._running, self.plan.pop(0)
        said = f"failpoint {point} hit" in ended.stderr.splitlines()
        assert (ended.exit_code, said) == (-9, True), f"{self.name}, {point}:\n{ended.tail()}"
        self.hits[point] += 1
        self._running = None
        self.offsets_are_not_ahead()

    def offsets_are_not_ahead(self) -> None:
        """The group says at most what both layers have: it is committed after them."""
        committed = topics.committed_offsets(self.kafka, self.group)
        for entry in self.entries:
            ours = {place: end for place, end in committed.items() if place[0] == entry.topic}
            for layer in LAYERS:
                stored = tables.progress(entry, layer, self.location, ours, self.s3)
                ahead = {
                    p: (end, stored.get(p)) for p, end in ours.items() if end > stored.get(p, 0)
                }
                assert not ahead, f"{self.name}, {layer}.{entry.name}: (group, table) is {ahead}"
            self.compared += len(ours)


def lanes(program: Lakebed, kafka: Kafka, s3: S3, folder: Path, seed: int) -> list[Lane]:
    made = []
    bucket = s3.create_bucket(PREFIX)
    for number, (kind, on_s3) in enumerate((k, on) for on in (False, True) for k in FORMATS):
        name = f"{kind}-{'s3' if on_s3 else 'local'}"
        location = f"{bucket}/{kind}" if on_s3 else folder / name
        entries = [Entry(f"{PREFIX}.public.{table}", table, kind) for table in workload.TABLES]
        more = {"s3": s3.lakebed_config()} if on_s3 else {}
        config = tables.config(
            kafka.lakebed_config(), location, entries, f"{PREFIX}-{name}",
            batch={"max_age": "300ms", "max_rows": 200}, **more,
        )  # fmt: skip
        # A member that was killed keeps its partitions for as long as this.
        config["kafka"]["properties"] = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 500}
        rng = random.Random(seed + number)
        steps = [step for step in COMMIT_STEPS for _ in range(ROUNDS)]
        rng.shuffle(steps)
        # Rare ones at their first hit, the others anywhere in the first few batches.
        plan = [(step, 1 if step == "before-hint" else rng.randint(1, 9)) for step in steps]
        if not on_s3:
            # Where versions come fast; twice, so that each format has its number.
            plan += [(GROW, 0), *((step, 1) for step in UPKEEP_STEPS for _ in range(2))]
        lane = Lane(
            name, program, kafka, config, location, entries, s3 if on_s3 else None, plan, rng
        )
        made.append(lane)
    return made


@pytest.fixture(scope="module")
def killed(kafka, postgres, connect, s3, tmp_path_factory):
    seed = workload.seed()
    load = workload.Workload(postgres, PREFIX, seed)
    load.create(SNAPSHOT_ROWS)
    # Without schemas, and in the modes that make such records exact: the live test has the others.
    connect.create_postgres_connector(
        PREFIX, postgres, PREFIX, ",".join(f"public.{table}" for table in workload.TABLES),
        decimal__handling__mode="string", time__precision__mode="isostring",
        binary__handling__mode="base64",
    )  # fmt: skip
    names = [f"{PREFIX}.public.{table}" for table in workload.TABLES]
    wait_until(lambda: set(names) <= set(topics.topics(kafka)), 60, "topics of the snapshot")
    program = Lakebed()
    made = lanes(program, kafka, s3, tmp_path_factory.mktemp("killed"), seed)

    def load_on(stopping) -> None:
        load.run(CHANGES_MIN // 2, CHANGES_PER_SECOND, until=stopping)
        load.evolve()
        load.run(1 << 62, CHANGES_PER_SECOND, until=stopping)

    try:
        with workload.InBackground(load_on):
            seconds = STEP_SECONDS * max(len(lane.plan) for lane in made)
            wait_until(
                lambda: all([lane.step() for lane in made]), seconds, "all kills", every=0.05
            )
            wait_until(lambda: load.changes() >= CHANGES_MIN, 120, "enough load")
        connect.wait_caught_up(PREFIX, postgres, PREFIX)
        last = [program.start(lane.config, "run", "--until-caught-up") for lane in made]
        for running in last:
            running.expect(0, 120)
    finally:
        program.close()
    with postgres.connect(PREFIX) as connection:
        source = {t: from_postgres(connection, f"public.{t}") for t in workload.TABLES}
    records = {name: topics.read_topic(kafka, name) for name in names}
    yield made, source, records
    connect.delete_connector(PREFIX, postgres, PREFIX)
    postgres.drop_database(PREFIX)


def test_every_step_was_hit_in_both_formats(killed):
    made, _, _ = killed
    hits = {kind: Counter() for kind in FORMATS}
    for lane in made:
        hits[lane.entries[0].format] += lane.hits
    for kind, counted in hits.items():
        print(f"kills in {kind}: {dict(counted)}")
        for step in (*COMMIT_STEPS, *UPKEEP_STEPS):
            assert counted[step] >= 2, (kind, step)
    assert sum(counted.total() for counted in hits.values()) >= 30


@pytest.mark.parametrize("number", range(4), ids=["iceberg", "delta", "iceberg-s3", "delta-s3"])
def test_silver_equals_the_source(killed, number):
    made, source, _ = killed
    lane = made[number]
    comparisons = [
        tables.silver_comparison(source[entry.name], entry, lane.location, lane.s3)
        for entry in lane.entries
    ]
    assert problems(comparisons) == []
    for comparison, table in zip(comparisons, source.values(), strict=True):
        assert comparison.cells == len(table.rows) * len(table.columns) > 3_000


@pytest.mark.parametrize("number", range(4), ids=["iceberg", "delta", "iceberg-s3", "delta-s3"])
def test_bronze_holds_each_record_once(killed, number):
    made, _, records = killed
    lane = made[number]
    for entry in lane.entries:
        bronze = tables.bronze_rows(entry, lane.location, lane.s3)
        assert tables.log_problems(records[entry.topic], bronze) == []


def test_the_group_was_never_ahead_of_the_tables(killed):
    """Looked at after each kill; here: there was something to look at, and the ends met."""
    made, _, records = killed
    for lane in made:
        assert lane.compared >= 10
        lane.offsets_are_not_ahead()
        committed = topics.committed_offsets(lane.kafka, lane.group)
        wanted = tables.ends(lane.kafka, list(records))
        assert committed == wanted
