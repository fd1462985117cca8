//! Turns change events into changes of silver rows: plans the columns, finds the key, folds.
//!
//! Owns the schema that the open batch is in: the table's, or its successor with the columns that
//! the batch brings. Knows nothing of files or commits.

mod beside;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use lakebed_schemas::change_event::{ChangeEvent, Decoded, Op, Row, RowShape};
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::config::OnTruncate;
use lakebed_schemas::evolve::{self, KeyPlan, Plan, Refusal, Rules};
use lakebed_schemas::partition::PartitionBy;
use lakebed_schemas::position::TopicPartition;
use lakebed_schemas::value::{Value, key_hash};

use super::floors::Floors;
use super::kept_rows::KeptRows;
use crate::fold::{Fold, RowChange, RowMove, Sealed};

/// Seconds for which a new column counts as new.
const HOUR: u64 = 3600;

/// Name of the memo that tells a table's new columns.
const NEW_COLUMNS: &str = "new-columns";

/// Most plans kept: schemaless topics may show many shapes, and the look-up is a scan.
const PLANS_MAX: usize = 64;

/// System columns that every row has a value for, in the order of [`system_values`].
const SYSTEM: [&str; 6] =
    ["_cdc_op", "_cdc_source_ts", "_cdc_position", "_cdc_topic", "_cdc_partition", "_cdc_offset"];

/// Where they stand in a schema. New columns go to its end, so this is good for its successors.
type SystemSlots = [Option<usize>; SYSTEM.len()];

/// Why an event cannot go into silver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// This record is not what the table's records are: the policy for bad records decides.
    Record(String),
    /// The table cannot go on as it is, and so would the next record say. It halts.
    Table(String),
}

/// Place of a record, for the system columns.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Where it was read.
    pub tp: &'a TopicPartition,
    /// Its offset.
    pub offset: i64,
}

/// How rows of one table are keyed and typed.
#[derive(Debug, Clone)]
pub struct SilverRules {
    /// Key columns by the source's names; empty: the fields of the record key.
    pub key: Vec<String>,
    /// Columns that the table may get within an hour, beyond those it is made with.
    pub new_columns_per_hour: usize,
    /// What the table is partitioned by.
    pub partition_by: Vec<PartitionBy>,
    /// What the table's configuration and format allow.
    pub columns: Rules,
    /// What to do when the source's table was truncated.
    pub on_truncate: OnTruncate,
}

/// The silver side of an open batch.
pub struct SilverRows {
    rules: SilverRules,
    schema: Option<TableSchema>,
    system: SystemSlots,
    plans: Vec<Plan>,
    key_plans: Vec<KeyPlan>,
    fold: Fold,
    /// Rows that left their keys in earlier batches.
    kept: KeptRows,
    /// Truncates of topics with several partitions.
    floors: Floors,
    /// How many partitions each topic has.
    partitions: HashMap<Arc<str>, usize>,
    /// How many of them are read here.
    read: HashMap<Arc<str>, usize>,
    /// Changes that a truncate had taken before they came.
    passed_over: u64,
    /// Values that became NULL by the policy for values out of range.
    nulled: usize,
    growth: Growth,
}

impl SilverRows {
    /// Starts without a table; [`Self::reset`] tells its schema once it is opened.
    pub fn new(rules: SilverRules) -> Self {
        Self {
            rules,
            schema: None,
            system: SystemSlots::default(),
            plans: Vec::new(),
            key_plans: Vec::new(),
            fold: Fold::default(),
            kept: KeptRows::default(),
            floors: Floors::default(),
            partitions: HashMap::new(),
            read: HashMap::new(),
            passed_over: 0,
            nulled: 0,
            growth: Growth::default(),
        }
    }

    /// Notes how many partitions a topic has.
    pub fn set_partitions(&mut self, topic: Arc<str>, count: usize) {
        self.partitions.insert(topic, count);
    }

    /// How many partitions a topic has; 0 where that has not been told.
    pub(super) fn partitions(&self, topic: &str) -> usize {
        self.partitions.get(topic).copied().unwrap_or(0)
    }

    /// The open fold, for its size and weight.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// The schema of the open batch; `None` until a table or a row has told it.
    pub fn schema(&self) -> Option<&TableSchema> {
        self.schema.as_ref()
    }

    /// Values nulled by policy since the last call.
    pub fn take_nulled(&mut self) -> usize {
        std::mem::take(&mut self.nulled)
    }

    /// Drops what is open; `schema` is the table's, as loaded.
    pub fn reset(&mut self, schema: Option<TableSchema>) {
        self.fold.clear();
        self.kept.abandon();
        self.committed(schema);
    }

    /// Takes the table's schema as it is after a commit, with field ids.
    pub fn committed(&mut self, schema: Option<TableSchema>) {
        if self.schema != schema {
            self.plans.clear();
            self.key_plans.clear();
            self.set_schema(schema);
        }
    }

    fn set_schema(&mut self, schema: Option<TableSchema>) {
        self.system = SYSTEM.map(|name| schema.as_ref()?.index_of(name));
        self.schema = schema;
    }

    /// Whether a truncate of the source empties the table.
    pub fn follows_truncates(&self) -> bool {
        self.rules.on_truncate == OnTruncate::Apply
    }

    /// Takes over what the table tells of its columns.
    pub fn recall(&mut self, memos: &BTreeMap<String, String>) {
        if let Some(text) = memos.get(NEW_COLUMNS) {
            self.growth.recall(text);
        }
    }

    /// What to keep with the table when the batch is committed: with new columns, when they came.
    pub fn memos(&self) -> BTreeMap<String, String> {
        let columns = self.schema.iter().flat_map(|schema| &schema.columns);
        let mut growing = columns.filter(|column| self.growth.seen.contains_key(&column.name));
        match growing.any(|column| column.id == 0) {
            true => [(NEW_COLUMNS.to_owned(), self.growth.text())].into(),
            false => BTreeMap::new(),
        }
    }

    /// Takes the changes; the schema stays.
    pub fn seal(&mut self) -> Sealed {
        let width = self.schema.as_ref().map_or(0, |schema| schema.columns.len());
        let mut sealed = self.fold.seal(width);
        let Some(schema) = &self.schema else { return sealed };
        let Some(slot) = schema.index_of("_cdc_incomplete") else { return sealed };
        for &(change, column) in &sealed.lost {
            if let Some(row) = &mut sealed.changes[change].row {
                say_incomplete(&mut row[slot], &schema.columns[column].name);
            }
        }
        sealed
    }

    /// Whether a record that silver holds already would be refused for itself: what bronze says of
    /// it must not depend on which layer was written first.
    ///
    /// # Errors
    /// [`Refused::Record`], where [`Self::push`] would have answered so.
    pub fn fits(&mut self, place: Place<'_>, decoded: &Decoded) -> Result<(), Refused> {
        let key = match decoded {
            Decoded::Change(event) if !matches!(event.op, Op::Truncate | Op::Message) => {
                self.key_row(event)
            }
            Decoded::Tombstone { key } if self.rules.key.is_empty() => key.as_ref(),
            _ => None,
        };
        let (Some(key), Some(_)) = (key, &self.schema) else { return Ok(()) };
        match self.key_values(place, key) {
            Err(Refused::Record(reason)) => Err(Refused::Record(reason)),
            // The table has passed it.
            Ok(_) | Err(Refused::Table(_)) => Ok(()),
        }
    }

    /// Applies a delete that has no event of its own: a tombstone.
    ///
    /// # Errors
    /// When the key does not fit the table's.
    pub fn push_tombstone(&mut self, place: Place<'_>, key: Option<&Row>) -> Result<(), Refused> {
        // Without a table there is no row to delete, and without a key no way to name it. A key
        // from the configuration is not in a tombstone: the `d` before it has done the work.
        let (Some(key), Some(_), true) = (key, &self.schema, self.rules.key.is_empty()) else {
            return Ok(());
        };
        let key = self.key_values(place, key)?;
        self.fold.push(place.tp, key, RowChange::Delete { moved: None });
        Ok(())
    }

    /// The key in silver of what a record changes; `None` where it changes no row.
    ///
    /// # Errors
    /// When the key does not fit the table's.
    pub fn key_of(
        &mut self,
        place: Place<'_>,
        decoded: &Decoded,
    ) -> Result<Option<Vec<Value>>, Refused> {
        let row = match decoded {
            Decoded::Change(event) => match event.op {
                Op::Truncate | Op::Message => None,
                Op::Read | Op::Create | Op::Update | Op::Delete => self.key_row(event).cloned(),
            },
            Decoded::Tombstone { key } if self.rules.key.is_empty() => key.clone(),
            _ => None,
        };
        row.map(|row| self.key_values(place, &row)).transpose()
    }

    /// Applies one event. Events without a key, where none is configured, are bronze only.
    ///
    /// `key_changes`: a `d` whose row goes on under another key.
    ///
    /// # Errors
    /// When its columns, its key or its values cannot go into the table.
    pub fn push(
        &mut self,
        place: Place<'_>,
        event: &ChangeEvent,
        key_changes: bool,
    ) -> Result<(), Refused> {
        match event.op {
            Op::Truncate => return self.truncate(place, event),
            Op::Message => return Ok(()),
            Op::Read | Op::Create | Op::Update | Op::Delete => {}
        }
        let Some(key_row) = self.key_row(event) else { return Ok(()) };
        self.fold.settle_key_change(place.tp);
        if self.floors.is_below(place.tp, &event.source) {
            self.passed_over += 1;
            return Ok(());
        }
        if event.op == Op::Delete {
            if self.schema.is_none() {
                // No table, no row to delete.
                return Ok(());
            }
            let key = self.key_values(place, key_row)?;
            let moved = (key_changes && self.rules.key.is_empty())
                .then(|| RowMove { old_key: key_hash(&key), place: event.source.place });
            self.fold.push(place.tp, key, RowChange::Delete { moved });
            return Ok(());
        }
        let after = event.after.as_ref().ok_or_else(|| {
            Refused::Record(format!("an event of op `{}` without `after`", event.op.letter()))
        })?;
        if self.schema.is_none() {
            let schema = self.create(key_row, after)?;
            self.set_schema(Some(schema));
        }
        let mut row = self.row_values(place, event, after)?;
        let key = self.key_values(place, key_row)?;
        let change = if event.op == Op::Update {
            RowChange::Update { row }
        } else {
            let moved = self.came_by(place, event)?;
            if let (Some(moved), Some(schema)) = (&moved, &self.schema) {
                self.kept.claim(moved, schema, &mut row);
            }
            RowChange::Replace { row, moved }
        };
        self.fold.push(place.tp, key, change);
        Ok(())
    }

    /// The row that holds the key: the record's key, or the image that has the configured columns.
    fn key_row<'a>(&self, event: &'a ChangeEvent) -> Option<&'a Row> {
        if self.rules.key.is_empty() {
            event.key.as_ref()
        } else if event.op == Op::Delete {
            event.before.as_ref()
        } else {
            event.after.as_ref()
        }
    }

    fn create(&self, key_row: &Row, after: &Row) -> Result<TableSchema, Refused> {
        let of_record = || key_row.shape.fields.iter().map(|field| field.name.clone()).collect();
        let configured = &self.rules.key;
        let key: Vec<String> = if configured.is_empty() { of_record() } else { configured.clone() };
        evolve::create(&after.shape, &key, &self.rules.partition_by, &self.rules.columns)
            .map_err(refused)
    }

    /// Index of the plan for a shape; new columns make a successor schema.
    fn plan(&mut self, shape: &Arc<RowShape>) -> Result<usize, Refused> {
        if let Some(known) = self.plans.iter().position(|plan| plan.is_for(shape)) {
            return Ok(known);
        }
        let schema = self.schema.as_ref().ok_or_else(no_schema)?;
        let plan = evolve::plan(schema, shape, &self.rules.columns).map_err(refused)?;
        if let Some(successor) = &plan.successor {
            let added = successor.columns.iter().skip(schema.columns.len());
            let added = added.map(|column| column.name.as_str());
            self.growth.admit(added, self.rules.new_columns_per_hour).map_err(Refused::Table)?;
            // Columns are only added at the end and promoted, so the rows of older plans stay
            // right; the fold pads them.
            self.schema = Some(successor.clone());
        }
        Ok(keep(&mut self.plans, plan))
    }

    fn key_values(&mut self, place: Place<'_>, key: &Row) -> Result<Vec<Value>, Refused> {
        let known = self.key_plans.iter().position(|plan| plan.is_for(&key.shape));
        let schema = self.schema.as_ref().ok_or_else(no_schema)?;
        let index = match known {
            Some(index) => index,
            None => {
                let plan = evolve::key_plan(schema, &key.shape, &self.rules.columns);
                let plan = plan.map_err(|refusal| match refusal {
                    Refusal::KeyMissing(_) if self.rules.key.is_empty() => {
                        Refused::Record(refusal.to_string())
                    }
                    refusal => refused(refusal),
                })?;
                if self.rules.key.is_empty() {
                    evolve::refuse_grown_key(schema, &key.shape).map_err(refused)?;
                }
                keep(&mut self.key_plans, plan)
            }
        };
        let mut values = self.key_plans[index].apply(key).map_err(refused)?;
        if self.rules.columns.topic_in_key {
            values.push(Value::Text(place.tp.topic.to_string()));
        }
        Ok(values)
    }

    fn row_values(
        &mut self,
        place: Place<'_>,
        event: &ChangeEvent,
        after: &Row,
    ) -> Result<Vec<Value>, Refused> {
        let plan = self.plan(&after.shape)?;
        let plan = &self.plans[plan];
        let applied = plan.apply(after).map_err(refused)?;
        self.nulled += applied.nulled;
        let schema = self.schema.as_ref().ok_or_else(no_schema)?;
        let mut row = vec![Value::Null; schema.columns.len()];
        for (column, value) in plan.columns.iter().zip(applied.values) {
            row[*column] = value;
        }
        for (slot, value) in self.system.iter().zip(system_values(place, event)) {
            if let Some(slot) = slot {
                row[*slot] = value;
            }
        }
        // Said beforehand, and taken back by the table where an older row knows the value.
        if let (false, Some(slot)) =
            (applied.retyped.is_empty(), schema.index_of("_cdc_incomplete"))
        {
            for index in applied.retyped {
                say_incomplete(&mut row[slot], &schema.columns[plan.columns[index]].name);
            }
        }
        Ok(row)
    }
}

/// Adds a column to those that a row says it lacks.
fn say_incomplete(cell: &mut Value, column: &str) {
    let name = Value::Text(column.to_owned());
    match cell {
        Value::List(names) if names.contains(&name) => {}
        Value::List(names) => names.push(name),
        other => *other = Value::List(vec![name]),
    }
}

/// The values of [`SYSTEM`].
fn system_values(place: Place<'_>, event: &ChangeEvent) -> [Value; SYSTEM.len()] {
    [
        Value::Text(event.op.letter().to_owned()),
        event.source.ts_us.map_or(Value::Null, Value::Long),
        event.source.position.clone().map_or(Value::Null, Value::Text),
        Value::Text(place.tp.topic.to_string()),
        Value::Long(i64::from(place.tp.partition)),
        Value::Long(place.offset),
    ]
}

/// Columns that came lately. Those of a batch that is read again count once.
#[derive(Default)]
struct Growth {
    /// By name, when each was first seen: seconds since 1970, for it has to outlast the process.
    seen: BTreeMap<String, u64>,
}

impl Growth {
    fn admit<'a>(
        &mut self,
        added: impl Iterator<Item = &'a str>,
        per_hour: usize,
    ) -> Result<(), String> {
        let now = now();
        // A clock that was set back must not keep a column new for ever.
        self.seen.retain(|_, since| now.abs_diff(*since) < HOUR);
        for name in added {
            if !self.seen.contains_key(name) {
                self.seen.insert(name.to_owned(), now);
            }
        }
        let count = self.seen.len();
        if count > per_hour {
            return Err(format!(
                "{count} new columns within an hour, more than the {per_hour} allowed \
                 (`limits.new_columns_per_hour`): raise it if the source has really grown, or see \
                 what writes names into the records"
            ));
        }
        Ok(())
    }

    /// Takes over what an earlier process has seen. What cannot be read is left out: it is a help
    /// against a flood, not a fact about rows.
    fn recall(&mut self, text: &str) {
        let stored: BTreeMap<String, u64> = serde_json::from_str(text).unwrap_or_default();
        for (name, since) in stored {
            self.seen.entry(name).or_insert(since);
        }
    }

    fn text(&self) -> String {
        serde_json::to_string(&self.seen).expect("names and numbers are JSON")
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Keeps a plan, forgetting the oldest beyond the bound; gives its index.
fn keep<P>(plans: &mut Vec<P>, plan: P) -> usize {
    if plans.len() >= PLANS_MAX {
        plans.remove(0);
    }
    plans.push(plan);
    plans.len() - 1
}

fn refused(reason: impl ToString) -> Refused {
    Refused::Table(reason.to_string())
}

fn no_schema() -> Refused {
    Refused::Table("a row before the table's columns are known: this is a fault of Lakebed".into())
}
