"""Logins to a REST catalog, over TLS with an authority of its own: each is shown with every request, as
who guards the catalog wants it, at the address that the catalog names."""

import pytest

import records
import tables
from parts import topics
from parts.faults import Answer
from parts.guard import WAREHOUSE, Guard
from parts.run_dir import part_dir
from readers import with_pyiceberg
from tables import Entry

PAUSE_SECONDS = 1
LOGINS = {
    "token": {"token": "${env:CATALOG_TOKEN}"},
    "oauth2": {"oauth2": {"client_id": Guard.client, "client_secret": "${env:CATALOG_SECRET}"}},
    "sigv4": {"sigv4": Guard.service, "region": Guard.region},
}
SECRETS = {
    "CATALOG_TOKEN": Guard.token,
    "AWS_ACCESS_KEY_ID": Guard.access_key,
    "AWS_SECRET_ACCESS_KEY": Guard.secret_key,
    "AWS_SESSION_TOKEN": Guard.session,
    "AWS_EC2_METADATA_DISABLED": "true",
}
WRONG = {
    name: f"another {name}" for name in ("CATALOG_TOKEN", "CATALOG_SECRET", "AWS_SECRET_ACCESS_KEY")
}
# What the second commit meets first.
REFUSALS = {
    "token": Answer(503, retry_after=PAUSE_SECONDS),
    "oauth2": Answer(419),
    "sigv4": Answer(429, retry_after=PAUSE_SECONDS),
}


@pytest.fixture(scope="module")
def guard(rest_on_disk):
    with Guard(rest_on_disk) as found:
        yield found


def config_of(kafka, guard, name):
    topic = f"{name}.public.t"
    topics.create_topic(kafka, topic)
    entries = [Entry(topic, "t", "iceberg")]
    config = tables.config(kafka.lakebed_config(), part_dir("lake"), entries, name)
    config["lake"]["bronze"] = False
    config["lake"]["silver"] = {"database": f"{name}_silver"}
    config["lake"]["catalog"] = {
        "type": "rest", "uri": guard.uri, "warehouse": WAREHOUSE, "create_databases": True,
        "ca_file": str(guard.ca_file),
    }  # fmt: skip
    return config


@pytest.mark.parametrize("login", LOGINS)
def test_every_request_shows_the_login(lakebed, kafka, guard, rest_on_disk, unique, login):
    config = config_of(kafka, guard, unique)
    catalog = config["lake"]["catalog"]
    catalog |= LOGINS[login]
    guard.wanted, guard.came, guard.refusals = login, [], []
    topic, rows = f"{unique}.public.t", [{"id": n, "v": f"{n}"} for n in range(3)]
    topics.produce(kafka, [records.record(topic, n, row) for n, row in enumerate(rows)])
    lakebed.start(config, "run", "--until-caught-up", env=SECRETS).expect(0, 90)
    assert guard.came and not any(came.answer == 401 for came in guard.came), guard.came

    # Refused once: for a while, or because the login has ended.
    guard.came, guard.refusals = [], [REFUSALS[login]]
    topics.produce(kafka, [records.record(topic, 9, {"id": 0, "v": "changed"}, "u")])
    lakebed.start(config, "run", "--until-caught-up", env=SECRETS).expect(0, 90)
    (at,) = [n for n, came in enumerate(guard.came) if came.answer == REFUSALS[login].status]
    refused, following = guard.came[at], guard.came[at + 1]
    if login == "oauth2":
        assert following.path == "/v1/oauth/tokens" and guard.came[at + 2].path == refused.path
    else:
        assert following.at - refused.at >= PAUSE_SECONDS * 0.95

    silver = with_pyiceberg.rest_catalog(rest_on_disk).load_table((f"{unique}_silver", "t"))
    found = {row["id"]: row["v"] for row in with_pyiceberg.rows(silver)}
    assert found == {0: "changed", 1: "1", 2: "2"}
    is_where_the_catalog_says(guard)
    # What looks at all lakes of the run later looks at this one through the catalog itself.
    config["lake"]["catalog"] = rest_on_disk.lakebed_config()


def is_where_the_catalog_says(guard):
    """Tokens and settings come from the address that is configured, all else from where these say."""
    for came in guard.came:
        is_first = came.path.startswith(("/v1/config", "/v1/oauth"))
        wanted = guard.uri if is_first else guard.elsewhere
        assert came.host == wanted.removeprefix("https://"), came


@pytest.mark.parametrize("login", LOGINS)
def test_a_wrong_secret_is_refused_and_never_shown(lakebed, kafka, guard, unique, login):
    config = config_of(kafka, guard, unique)
    config["lake"]["catalog"] |= LOGINS[login]
    guard.wanted, guard.came = login, []
    checked = lakebed.run(["check"], config, env=SECRETS | WRONG)
    assert checked.returncode == 1 and "PROBLEM  the REST catalog" in checked.stdout, checked
    assert {came.answer for came in guard.came} == {401}
    assert not any(wrong in checked.stdout + checked.stderr for wrong in WRONG.values())


def test_a_catalog_that_nobody_vouches_for_is_not_trusted(lakebed, kafka, guard, unique):
    config = config_of(kafka, guard, unique)
    config["lake"]["catalog"] |= LOGINS["token"]
    guard.wanted, guard.came = "token", []
    del config["lake"]["catalog"]["ca_file"]
    checked = lakebed.run(["check"], config, env=SECRETS)
    assert checked.returncode == 1 and "certificate" in checked.stdout, checked
    assert guard.came == [], "the login is not shown to just anybody"
