-- What Debezium needs in the source's server, run once (mysql < mysql.sql).
-- The server: log_bin, binlog_format = ROW, binlog_row_image = FULL, gtid_mode = ON and
-- enforce_gtid_consistency = ON, binlog_transaction_compression = OFF (see docs/source.md for RDS).

CREATE USER 'debezium'@'%' IDENTIFIED BY 'change me';
-- RDS refuses the global lock: Debezium then locks the captured tables, with RELOAD and LOCK TABLES.
GRANT SELECT, RELOAD, SHOW DATABASES, REPLICATION SLAVE, REPLICATION CLIENT, LOCK TABLES
    ON *.* TO 'debezium'@'%';
-- Asks for incremental snapshots.
CREATE TABLE shop.debezium_signal (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048));
GRANT INSERT, UPDATE, DELETE ON shop.debezium_signal TO 'debezium'@'%';
