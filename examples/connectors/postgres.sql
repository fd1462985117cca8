-- What Debezium needs in the source database, run once by its owner (psql -d shop -f postgres.sql).
-- The server: wal_level = logical (Amazon RDS and Aurora: rds.logical_replication = 1, then a restart).

CREATE ROLE debezium LOGIN REPLICATION;  -- RDS: without REPLICATION, then GRANT rds_replication TO debezium;
-- Give it a password: \password debezium
GRANT USAGE ON SCHEMA public TO debezium;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO debezium;

-- A column too large for its page (TOAST) is sent only when it changes, unless the old row comes along.
-- Without this Lakebed takes it from the row that it has; with it nothing has to be looked up, and a row
-- whose key changes is whole wherever it goes. It costs the old row in the log for each change.
ALTER TABLE customers REPLICA IDENTITY FULL;

-- Moves the slot on while the captured tables are quiet, so that the server can drop its log.
CREATE TABLE debezium_heartbeat (id int PRIMARY KEY, at timestamptz NOT NULL);
-- Asks for incremental snapshots: https://debezium.io/documentation/reference/stable/configuration/signalling.html
CREATE TABLE debezium_signal (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048));
GRANT SELECT, INSERT, UPDATE, DELETE ON debezium_heartbeat, debezium_signal TO debezium;

-- A partitioned table comes as one topic, under its own name.
CREATE PUBLICATION shop FOR TABLE customers, orders, debezium_heartbeat, debezium_signal
    WITH (publish_via_partition_root = true);
