"""``lakebed check`` on a real connector: what it is set to is judged, by the words of its own
configuration, and what cannot be seen is said to be."""

import tables
from tables import Entry


def test_the_connectors_settings_are_judged(lakebed, kafka, postgres, connect, tmp_path, unique):
    database = unique
    postgres.create_database(database)
    with postgres.connect(database) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, v numeric)")
        connection.execute("INSERT INTO t VALUES (1, 1.5)")
    connect.create_postgres_connector(
        unique, postgres, database, "public.t",
        decimal__handling__mode="double", unavailable__value__placeholder="gone",
        value__converter__replace__null__with__default="true",
    )  # fmt: skip
    topic = f"{unique}.public.t"
    connect.wait_caught_up(unique, postgres, database)
    config = tables.config(kafka.lakebed_config(), tmp_path, [Entry(topic, "t", "delta")], unique)
    unasked = lakebed.run(["check"], config)
    assert "set `kafka.connect.url` to have it checked" in unasked.stdout, unasked

    config["kafka"]["connect"] = {"url": connect.url}
    judged = lakebed.run(["check"], config)
    about = [line for line in judged.stdout.splitlines() if f"connector `{unique}`" in line]
    for word in ("double", "replace.null.with.default", "`gone`", "failure.handling.mode"):
        assert any(word in line for line in about), (word, judged.stdout)
    assert "unseen   the source's tables" in judged.stdout
    assert judged.returncode == 1, "another placeholder writes text where nothing was sent"

    config["records"] = {"unavailable_value_placeholder": "gone"}
    fitting = lakebed.run(["check"], config)
    assert fitting.returncode == 0, fitting.stdout + fitting.stderr
    assert "double" in fitting.stdout

    config["kafka"]["connect"] = {"url": "http://127.0.0.1:1"}
    nobody = lakebed.run(["check"], config)
    assert nobody.returncode == 1 and "cannot be asked" in nobody.stdout, nobody
    connect.delete_connector(unique, postgres, database)
    postgres.drop_database(database)
