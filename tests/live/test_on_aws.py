"""The whole way as users go it: the example connectors at PostgreSQL and MariaDB, through Kafka, into
tables on S3 that are looked up in Glue; on a bad day of AWS.

One run for the whole module. Lakebed is killed at steps of its commits, replies are lost, effects come
late, requests are refused, Glue and S3 throttle everything for more than a minute, and somebody else commits to
the Iceberg tables all the time. In the end every row is the source's, for readers that nobody here wrote.
"""

import re
import time
from dataclasses import dataclass, field

import pytest

import tables
import workload
from parts import Lakebed, topics
from parts.faults import OF_CHANGES, THROTTLED, BadDay
from parts.process import wait_until
from readers import with_deltalake, with_duckdb, with_pyiceberg, with_trino
from readers.compare import compare, problems
from shop import TABLES, MariaShop, PostgresShop, Shop
from tables import FORMATS, LAYERS, Entry

# Each is hit in both formats; the others are in test_killed.py.
STEPS = ("amid-stage", "before-commit-metadata", "before-commit-point", "after-commit-point")
STEP_SECONDS = 120
THROTTLED_SECONDS = 70
# Of what changes something. There is one such request to Glue in a commit, and many to S3.
FAULT_SHARE = {"s3": 0.03, "glue": 0.15}
CHANGES_PER_SECOND = 3


@dataclass
class Lane:
    """One format: a consumer group, a lake and its databases in Glue."""

    kind: str
    config: dict
    entries: list[Entry]
    kills: list[str] = field(default_factory=list)

    @property
    def location(self) -> str:
        return self.config["lake"]["location"]

    def database(self, layer: str) -> str:
        return self.config["lake"][layer]["database"]

    def place(self, entry: Entry, layer: str) -> str:
        return f"{self.location}/{self.database(layer)}/{entry.name}"


@dataclass
class OnAws:
    shops: list[Shop]
    lanes: dict[str, Lane]
    source: dict[str, object]  # by name of the table
    records: dict[str, list[topics.Record]]
    faults: BadDay
    throttled: int
    commits_in_between: int
    theirs: dict[str, set[str]]  # properties that somebody else has committed, by table


def lane(kafka, s3, endpoint: str, kind: str, shops: list[Shop]) -> Lane:
    bucket = s3.create_bucket(f"on-aws-{kind}")
    entries = [
        Entry(shop.topic(table), f"{shop.prefix}_{table}", kind) for shop in shops for table in TABLES
    ]
    config = tables.config(
        kafka.lakebed_config(), f"{bucket}/lake", entries, f"on-aws-{kind}",
        s3=s3.lakebed_config() | {"endpoint": endpoint}, batch={"max_age": "1s"},
    )  # fmt: skip
    config["lake"]["catalog"] = {"type": "glue", "endpoint": endpoint, "create_databases": True}
    for layer in LAYERS:
        config["lake"][layer] = {"database": f"{kind}_{layer}"}
    config["kafka"]["properties"] = tables.SHORT_SESSION
    return Lane(kind, config, entries)


def kill_at_each_step(program, lanes: list[Lane]) -> None:
    """Both lanes side by side; a kill counts only where the process says that it was at the step."""
    for step in STEPS:
        env = {"LAKEBED_KILL_AT": f"{step}:3"}
        started = [(lane, program.start(lane.config, "run", env=env)) for lane in lanes]
        for lane, running in started:
            code = running.wait(STEP_SECONDS)
            said = f"failpoint {step} hit" in running.stderr.splitlines()
            assert (code, said) == (-9, True), f"{lane.kind}, {step}:\n{running.tail()}"
            lane.kills.append(step)


class Somebody:
    """Commits a property to each of the Iceberg lane's silver tables in turn, as often as it can."""

    def __init__(self, s3, lane: Lane) -> None:
        self.s3, self.lane = s3, lane
        self.committed: dict[str, set[str]] = {entry.name: set() for entry in lane.entries}
        self._count = 0

    def work(self, stopping) -> None:
        catalog = with_pyiceberg.glue_catalog(self.s3)
        while not stopping():
            for entry in self.lane.entries:
                self._commit(catalog, entry)
            time.sleep(0.2)

    def _commit(self, catalog, entry: Entry) -> None:
        name = f"theirs.{self._count}"
        try:
            table = catalog.load_table((self.lane.database("silver"), entry.name))
            table.transaction().set_properties({name: "kept"}).commit_transaction()
        except Exception:  # not there yet, or it lost a race: pyiceberg says so in many ways
            return
        self._count += 1
        self.committed[entry.name].add(name)


def a_bad_day(kafka, postgres, mariadb, connect, s3, seed) -> OnAws:
    shops = [PostgresShop(postgres, connect, seed), MariaShop(mariadb, connect, seed + 1)]
    for shop in shops:
        shop.begin()
    names = [shop.topic(table) for shop in shops for table in TABLES]
    wait_until(lambda: set(names) <= set(topics.topics(kafka)), 60, "topics of the snapshots")
    program = Lakebed()
    with BadDay(s3, seed) as faults:
        lanes = [lane(kafka, s3, faults.endpoint, kind, shops) for kind in FORMATS]
        somebody = Somebody(s3, lanes[0])
        try:
            throttled, commits = through_a_bad_day(program, lanes, shops, faults, somebody)
            for shop in shops:
                shop.caught_up()
            last = [program.start(lane.config, "run", "--until-caught-up") for lane in lanes]
            for running in last:
                running.expect(0, 600)
        finally:
            program.close()
        for lane_ in lanes:
            # What looks at all lakes later finds the proxy gone.
            remember_without_proxy(program, lane_, s3.endpoint)
    source = {f"{shop.prefix}_{table}": shop.source(table) for shop in shops for table in TABLES}
    records = {name: topics.read_topic(kafka, name) for name in names}
    by_kind = {lane.kind: lane for lane in lanes}
    return OnAws(shops, by_kind, source, records, faults, throttled, commits, somebody.committed)


BESIDE = a_bad_day


@pytest.fixture(scope="module")
def on_aws(beside, trino, seed) -> OnAws:
    print(f"LAKEBED_SEED={seed}")
    found = beside.result(a_bad_day)
    if trino is not None:
        # Ready when the other readers are through.
        trino.spawn()
    yield found
    for shop in found.shops:
        shop.end()


def through_a_bad_day(program, lanes, shops, faults: BadDay, somebody: Somebody):
    """How many requests were throttled, and how many commits were made meanwhile."""
    first, second = (
        workload.InBackground(lambda stopping, shop=shop: shop.load(stopping, CHANGES_PER_SECOND))
        for shop in shops
    )
    with first, second, workload.InBackground(somebody.work):
        kill_at_each_step(program, lanes)
        faults.share = FAULT_SHARE
        running = [program.start(lane.config, "run") for lane in lanes]
        time.sleep(20)
        wait_until(lambda: is_bad(faults), 180, "enough faults")
        faults.throttling = True
        time.sleep(5)  # what was on its way
        before = [commits(each) for each in running]
        time.sleep(THROTTLED_SECONDS)
        between = sum(commits(each) for each in running) - sum(before)
        throttled = sum(n for (_, fault), n in faults.counts.items() if fault == THROTTLED)
        faults.throttling = False
        for each, count in zip(running, before, strict=True):
            wait_for_commits(each, count)
    for each in running:
        assert each.exit_code is None, each.tail()
        each.sigterm()
        each.expect(0, 120)
    return throttled, between


def is_bad(faults: BadDay) -> bool:
    """Every fault has met S3 twice, and Glue has met three."""
    counts = faults.counts
    glue = sum(counts["glue", fault] for fault in OF_CHANGES)
    return all(counts["s3", fault] >= 2 for fault in OF_CHANGES) and glue >= 3


def wait_for_commits(running, more_than: int) -> None:
    try:
        wait_until(lambda: commits(running) > more_than, 120, "commits after the throttling")
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{running.tail()}") from None


def commits(running) -> int:
    return len(re.findall(r'"silver_version":\d+', running.stderr))


def remember_without_proxy(program, lane: Lane, endpoint: str) -> None:
    for text, (config, _) in list(program.lakes.items()):
        if config is lane.config:
            del program.lakes[text]
    lane.config["lake"]["s3"]["endpoint"] = endpoint
    lane.config["lake"]["catalog"]["endpoint"] = endpoint
    program.remember(lane.config)


def test_the_day_was_bad_enough(on_aws):
    """Otherwise equal tables prove little."""
    counts = on_aws.faults.counts
    print(f"requests: {dict(counts)}; throttled in {THROTTLED_SECONDS} s: {on_aws.throttled}")
    print(f"committed by somebody else: { {n: len(p) for n, p in on_aws.theirs.items()} }")
    assert is_bad(on_aws.faults), counts
    assert on_aws.throttled > 20 and on_aws.commits_in_between == 0
    for lane_ in on_aws.lanes.values():
        assert lane_.kills == list(STEPS)
    assert all(len(kept) >= 10 for kept in on_aws.theirs.values()), on_aws.theirs


def silver_problems(on_aws: OnAws, kind: str, read) -> list[str]:
    """``read(lane, entry)`` against the source, every table."""
    lane_ = on_aws.lanes[kind]
    results = []
    for entry in lane_.entries:
        source = on_aws.source[entry.name]
        result = compare(source, read(lane_, entry))
        assert result.cells == len(source.rows) * len(source.columns) > 1_000, entry
        results.append(result)
    return problems(results)


def test_pyiceberg_reads_the_source_through_glue(on_aws, s3):
    catalog = with_pyiceberg.glue_catalog(s3)

    def read(lane_, entry):
        return with_pyiceberg.rows(catalog.load_table((lane_.database("silver"), entry.name)))

    assert silver_problems(on_aws, "iceberg", read) == []


def test_deltalake_reads_the_source(on_aws, s3):
    def read(lane_, entry):
        return with_deltalake.delta(lane_.place(entry, "silver"), s3)

    assert silver_problems(on_aws, "delta", read) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_duckdb_reads_the_source(on_aws, s3, kind):
    def read(lane_, entry):
        if kind == "delta":
            return with_duckdb.delta(lane_.place(entry, "silver"), s3)
        return with_duckdb.iceberg(metadata_location(s3, lane_, entry), s3)

    assert silver_problems(on_aws, kind, read) == []


def metadata_location(s3, lane_: Lane, entry: Entry) -> str:
    glue = s3.client("glue")
    found = glue.get_table(DatabaseName=lane_.database("silver"), Name=entry.name)
    return found["Table"]["Parameters"]["metadata_location"]


@pytest.mark.parametrize("kind", FORMATS)
def test_spark_reads_the_source(on_aws, spark, kind):
    def read(lane_, entry):
        if kind == "delta":
            return spark.delta(lane_.place(entry, "silver"))
        return spark.iceberg_in_glue(lane_.database("silver"), entry.name)

    assert silver_problems(on_aws, kind, read) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_trino_reads_the_source_through_glue(on_aws, s3, trino, kind):
    if trino is None:
        pytest.skip("no Java that is new enough for Trino, Athena's nearest relative")
    trino.wait_ready()
    catalog = with_pyiceberg.glue_catalog(s3)
    lane_ = on_aws.lanes[kind]
    for entry in lane_.entries:
        rows = with_trino.table(trino, kind, lane_.database("silver"), entry.name)
        if kind == "iceberg":
            table = catalog.load_table((lane_.database("silver"), entry.name))
            wanted = with_pyiceberg.rows(table)
        else:
            wanted = with_deltalake.delta(lane_.place(entry, "silver"), s3)
        rows, wanted = tables.in_order(rows), tables.in_order(wanted)
        if kind == "delta":
            wanted = with_trino.in_millis(wanted, rows)
        tables.same(rows, wanted, entry.name)


@pytest.mark.parametrize("kind", FORMATS)
def test_bronze_holds_each_record_once(on_aws, s3, kind):
    catalog = with_pyiceberg.glue_catalog(s3)
    lane_ = on_aws.lanes[kind]
    for entry in lane_.entries:
        if kind == "iceberg":
            table = catalog.load_table((lane_.database("bronze"), entry.name))
            rows = with_pyiceberg.rows(table)
        else:
            rows = with_deltalake.delta(lane_.place(entry, "bronze"), s3)
        assert tables.log_problems(on_aws.records[entry.topic], rows) == []


def test_what_somebody_else_committed_is_still_there(on_aws, s3):
    catalog = with_pyiceberg.glue_catalog(s3)
    lane_ = on_aws.lanes["iceberg"]
    for entry in lane_.entries:
        properties = catalog.load_table((lane_.database("silver"), entry.name)).properties
        lost = {name for name in on_aws.theirs[entry.name] if properties.get(name) != "kept"}
        assert not lost, f"{entry.name}: {len(lost)} of {len(on_aws.theirs[entry.name])}"


def test_the_examples_leave_nothing_to_object_to(on_aws, lakebed, connect):
    config = dict(on_aws.lanes["iceberg"].config)
    config["kafka"] = {**config["kafka"], "connect": {"url": connect.url}}
    checked = lakebed.run(["check"], config)
    about = [line for line in checked.stdout.splitlines() if "connector `shop" in line]
    assert len(about) == 2 and all("nothing to object to" in line for line in about), checked.stdout
