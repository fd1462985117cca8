//! Positions order as the source commits; those of connectors that nobody runs here, on events of
//! their documented shapes.

use super::*;
use crate::change_event::SourceInfo;

/// The source of a change with these members, beside the connector's name.
fn source_of(connector: &str, source: &str, transaction: &str) -> SourceInfo {
    let value = format!(
        r#"{{"op":"c","after":{{}},"transaction":{transaction},"source":{{"connector":"{connector}","name":"n"{source}}}}}"#
    );
    change(decode_value(&mut Decoder::new(DecodeOptions::default()), &value)).source
}

/// Each source but the last stands below the next, with positions of one width, and none is another.
fn assert_ordered(connector: &str, sources: &[String]) {
    let infos: Vec<SourceInfo> = sources
        .iter()
        .map(|source| match source.split_once(" in ") {
            Some((source, transaction)) => source_of(connector, source, transaction),
            None => source_of(connector, source, "null"),
        })
        .collect();
    for pair in infos.windows(2) {
        let [a, b] = [&pair[0], &pair[1]].map(|info| info.position.clone().expect("a position"));
        assert!(a < b, "{connector}: {a} {b}");
        assert_eq!(a.len(), b.len(), "{connector}");
        assert_ne!(pair[0].place, pair[1].place, "{connector}");
        assert!(pair[0].place.is_some(), "{connector}");
    }
}

#[test]
fn positions_of_documented_events_order_as_each_source_commits() {
    let sqlserver = |commit: &str, change: &str, serial: &str| {
        format!(r#","commit_lsn":"{commit}","change_lsn":"{change}","event_serial_no":{serial}"#)
    };
    let lsn = "00000027:00000758:0005";
    assert_ordered(
        "sqlserver",
        &[
            sqlserver(lsn, "00000027:00000758:0003", "1"),
            sqlserver(lsn, "00000027:00000758:0003", "2"),
            sqlserver(lsn, "00000027:00000758:0004", "1"),
            sqlserver("00000027:00000AC0:0002", "00000027:00000758:0001", "1"),
        ],
    );
    let oracle = |commit: u64, sequence: u32| {
        format!(r#","scn":"{}","commit_scn":"{commit}","txSeq":{sequence}"#, 9_999 - commit)
    };
    assert_ordered("oracle", &[oracle(999, 7), oracle(1_000, 1), oracle(1_000, 2)]);
    let informix = |commit: &str, change: &str| {
        format!(r#","commit_lsn":"{commit}","change_lsn":"{change}","txId":"5""#)
    };
    assert_ordered(
        "informix",
        &[informix("999", "999"), informix("1000", "998"), informix("1000", "1000")],
    );
    let db2 =
        |commit: &str, change: &str| format!(r#","commit_lsn":"{commit}","change_lsn":"{change}""#);
    assert_ordered(
        "db2",
        &[
            db2("00000000:0000:0000:0000:0000:0017:9a3c", "00000000:0000:0000:0000:0000:0017:9a01"),
            db2("00000000:0000:0000:0000:0000:0017:9a3c", "00000000:0000:0000:0000:0000:0017:9a02"),
            db2("00000000:0000:0000:0000:0000:0018:0000", "00000000:0000:0000:0000:0000:0017:9a00"),
        ],
    );
    let vitess = |epoch: u32, rank: &str, order: u32| {
        format!(
            r#","shard":"-80","vgtid":"[]" in {{"id":"x","transaction_epoch":{epoch},"transaction_rank":"{rank}","total_order":{order}}}"#
        )
    };
    let beyond = "340282366920938463463374607431768211456";
    assert_ordered(
        "vitess",
        &[
            vitess(0, "99", 5),
            vitess(0, "100", 1),
            vitess(0, "100", 2),
            vitess(0, beyond, 1),
            vitess(1, "1", 1),
        ],
    );
    let spanner = |ts: u64, sequence: u32, number: u32| {
        format!(
            r#","ts_ns":{ts},"sequence":"{sequence}","mod_number":{number},"server_transaction_id":"t""#
        )
    };
    assert_ordered(
        "spanner",
        &[spanner(7, 9, 0), spanner(7, 10, 0), spanner(7, 10, 1), spanner(8, 1, 0)],
    );
}

#[test]
fn what_cannot_be_placed_surely_is_not_recognised_when_it_comes_again() {
    let without = |connector: &str, source: &str| source_of(connector, source, "null").place;
    // Before 3.2 several changes of a row may have one number.
    assert_eq!(without("oracle", r#","commit_scn":"5","scn":"4""#), None);
    assert!(source_of("oracle", r#","commit_scn":"5""#, "null").position.is_some());
    assert_eq!(without("oracle", r#","scn":"4","lcr_position":"00ab""#), None);
    assert_eq!(without("mongodb", r#","ord":1,"ts_ms":5"#), None);
    assert_eq!(without("vitess", r#","vgtid":"[]""#), None);
    assert_eq!(without("postgresql", r#","lsn":5,"txId":7,"snapshot":"last""#), None);
    assert_eq!(without("mysql", r#","file":"b.1","pos":5,"snapshot":"incremental""#), None);
    for broken in [
        r#""-5""#,
        r#""+5""#,
        r#""5 ""#,
        r#""""#,
        "-5",
        "1.5",
        "true",
        "{}",
        r#""18446744073709551616""#,
    ] {
        let source = format!(r#","commit_lsn":{broken},"change_lsn":"5""#);
        assert_eq!(source_of("informix", &source, "null").position, None, "{broken}");
    }
    for broken in [r#""""#, r#"":""#, r#""zz""#, r#""00000027:00000758:00055""#, "5"] {
        let source = format!(r#","commit_lsn":{broken}"#);
        assert_eq!(source_of("sqlserver", &source, "null").position, None, "{broken}");
    }
    let rank = "9".repeat(78);
    let transaction =
        format!(r#"{{"transaction_epoch":1,"transaction_rank":"{rank}","total_order":1}}"#);
    assert_eq!(source_of("vitess", "", &transaction).position, None, "beyond 256 bits");
}

#[test]
fn writers_are_told_apart_by_connector_name_and_log() {
    let pg = source_of("postgresql", r#","lsn":5,"txId":1,"db":"a""#, "null");
    let other = source_of("postgresql", r#","lsn":5,"txId":1,"db":"a","schema":"s""#, "null");
    assert_eq!(pg.writer, other.writer);
    assert_ne!(pg.place, other.place, "another table");
    assert_ne!(pg.writer, source_of("mysql", r#","db":"a""#, "null").writer);
    let database = |db: &str| source_of("sqlserver", &format!(r#","db":"{db}""#), "null").writer;
    assert_ne!(database("a"), database("b"), "each has a log of its own");
}

#[test]
fn a_commit_seen_before_may_differ_when_the_change_comes_again() {
    let pg = |sequence: &str| {
        source_of("postgresql", &format!(r#","lsn":9,"txId":3,"sequence":"{sequence}""#), "null")
    };
    let (first, again) = (pg(r#"[\"5\",\"9\"]"#), pg(r#"[null,\"9\"]"#));
    assert_eq!(first.place, again.place);
    assert_ne!(first.position, again.position);
}

#[test]
fn the_server_of_a_binary_log_is_told_by_the_gtid_and_else_by_its_number() {
    let server = |connector: &str, more: &str| {
        let block = format!(r#","file":"b.000003","pos":7,"row":0,{more}"#);
        source_of(connector, &block, "null").server
    };
    let of_gtid = |connector: &str, gtid: &str| {
        server(connector, &format!(r#""server_id":1,"gtid":"{gtid}""#)).expect("a server")
    };
    let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let first = of_gtid("mysql", &format!("{uuid}:77"));
    assert_eq!(of_gtid("mysql", &format!("{uuid}:78")), first);
    assert_eq!(of_gtid("mysql", &format!("{uuid}:tag:9")), first, "a tag is the transaction's");
    assert_ne!(of_gtid("mysql", "4e11fa47-71ca-11e1-9e33-c80aa9429562:77"), first);
    assert_eq!(of_gtid("mariadb", "0-1-77"), of_gtid("mariadb", "0-1-4000"));
    assert_ne!(of_gtid("mariadb", "0-1-77"), of_gtid("mariadb", "0-2-78"));
    assert_eq!(
        server("mysql", r#""server_id":1"#),
        server("mysql", r#""server_id":1,"gtid":null"#)
    );
    assert_ne!(server("mysql", r#""server_id":1"#), server("mysql", r#""server_id":2"#));
    assert_eq!(server("mysql", r#""snapshot":"true","server_id":0"#), None, "nobody has made it");
    assert_eq!(server("postgresql", r#""server_id":1"#), None);
}

#[test]
fn a_connection_is_a_connector_with_its_prefix_and_a_table_is_the_sources() {
    let of = |source: &str| {
        let value = format!(r#"{{"op":"c","after":{{}},"source":{{{source}}}}}"#);
        change(decode_value(&mut Decoder::new(DecodeOptions::default()), &value)).source
    };
    let shop = of(r#""connector":"vitess","name":"shop","shard":"-80","table":"t""#);
    let other_shard = of(r#""connector":"vitess","name":"shop","shard":"80-","table":"t""#);
    assert_eq!(shop.connection, other_shard.connection);
    assert_ne!(shop.writer, other_shard.writer);
    let other_name = of(r#""connector":"vitess","name":"shop2","shard":"-80","table":"t""#);
    assert_ne!(shop.connection, other_name.connection);
    assert_ne!(shop.connection, of(r#""connector":"mysql","name":"shop""#).connection);
    assert_eq!(shop.table, other_name.table);
    assert_ne!(shop.table, of(r#""connector":"vitess","name":"shop","table":"u""#).table);
    let parts = |db: &str, schema: &str| {
        of(&format!(r#""connector":"postgresql","db":"{db}","schema":"{schema}""#)).table
    };
    assert_ne!(parts("a", "bc"), parts("ab", "c"));
}

#[test]
fn positions_order_as_the_source_commits() {
    let position = |connector: &str, fields: &str, epoch: u32| {
        let options = DecodeOptions { epoch, ..DecodeOptions::default() };
        let value =
            format!(r#"{{"op":"c","after":{{}},"source":{{"connector":"{connector}",{fields}}}}}"#);
        change(decode_value(&mut Decoder::new(options), &value)).source.position
    };
    let pg = |committed: &str, lsn: u64| {
        position("postgresql", &format!(r#""sequence":"[{committed},\"{lsn}\"]","lsn":{lsn}"#), 0)
    };
    // Transactions that overlap: the later commit has the lower log position.
    assert!(pg(r#"\"100\""#, 90) < pg(r#"\"120\""#, 80));
    assert!(pg("null", 90) < pg(r#"\"1\""#, 80));
    assert_eq!(pg("null", 90).expect("a position").len(), 44);
    let read = position("postgresql", r#""lsn":999,"snapshot":"first""#, 0);
    assert!(read < pg("null", 1), "snapshot before stream");
    assert!(
        pg(r#"\"9\""#, u64::from(u32::MAX))
            < position("postgresql", r#""lsn":1,"snapshot":"true""#, 1)
    );
    assert_eq!(position("postgresql", r#""lsn":null"#, 0), None);
    assert_eq!(position("postgresql", r#""lsn":5,"snapshot":"incremental""#, 0), None);

    let binlog = |file: &str, pos: u64, row: u32| {
        position("mysql", &format!(r#""file":"{file}","pos":{pos},"row":{row}"#), 0)
    };
    assert!(binlog("mysql-bin.999999", 9, 9) < binlog("mysql-bin.1000000", 4, 0));
    assert!(binlog("b.000001", 9, 0) < binlog("b.000001", 10, 0));
    assert!(binlog("b.000001", 9, 1) < binlog("b.000001", 9, 2));
    assert_eq!(binlog("nothing", 1, 1), None);
    assert!(Fixture::named("mariadb-update").change().source.position.is_some());
    assert_eq!(Fixture::named("read-incremental").change().source.position, None);
    assert_eq!(position("mongodb", r#""ord":1"#, 0), None);
}

#[test]
fn only_a_snapshot_is_called_one() {
    let snapshot = |json: &str| {
        let value =
            format!(r#"{{"op":"c","after":{{}},"source":{{"connector":"x","snapshot":{json}}}}}"#);
        change(decode_value(&mut Decoder::new(DecodeOptions::default()), &value)).source.snapshot
    };
    for streaming in ["null", "\"false\"", "false"] {
        assert_eq!(snapshot(streaming), None);
    }
    assert_eq!(snapshot("true").as_deref(), Some("true"));
    assert_eq!(snapshot("\"last\"").as_deref(), Some("last"));
}
