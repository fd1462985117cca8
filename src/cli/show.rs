//! `lakebed show`: rows of a table, with its deletes applied.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, is_not_null};
use arrow::error::ArrowError;
use arrow::util::pretty::pretty_format_batches_with_options;
use futures::StreamExt;
use lakebed_schemas::column::TableSchema;
use lakebed_schemas::config::ResolvedConfig;
use lakebed_sinks::log::Head;
use lakebed_sinks::storage::Storage;
use lakebed_sinks::table::reader;

use super::cells::{self, Texts, csv_line, json_row};
use super::lake::{Lake, OpenTable};
use super::{Failure, print};

/// Rows shown to people when they do not say how many.
const ROWS_SHOWN: usize = 20;

/// What `show` takes.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The table: `silver.orders`, or `orders` for the one of current rows.
    table: String,
    /// Rows at most, 0 for all [default: 20 as a table, else all].
    #[arg(long)]
    limit: Option<usize>,
    /// Columns to show, in this order [default: all].
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    columns: Option<Vec<String>>,
    /// Only rows whose column has this value, as `show` prints it; NULL is `NULL`. May be repeated.
    #[arg(long = "where", value_name = "KEY=VALUE", value_parser = parse_filter)]
    filters: Vec<(String, String)>,
    /// Only rows that have a value in this column.
    #[arg(skip)]
    present: Option<String>,
    /// An older version of the table.
    #[arg(long)]
    version: Option<i64>,
    /// Print how many rows there are instead of the rows.
    #[arg(long)]
    count: bool,
    /// Form of the rows.
    #[arg(long, value_enum, default_value_t)]
    output: Form,
}

impl ShowArgs {
    /// The rows of a table that have a value in one column.
    pub(super) fn present(
        table: String,
        columns: Vec<String>,
        present: String,
        limit: Option<usize>,
        output: Form,
    ) -> Self {
        let (filters, present) = (Vec::new(), Some(present));
        Self {
            table,
            limit,
            columns: Some(columns),
            filters,
            present,
            version: None,
            count: false,
            output,
        }
    }

    /// The first rows of a table, for people.
    pub(super) fn first_rows(table: &str, limit: usize) -> Self {
        Self {
            table: table.to_owned(),
            limit: Some(limit),
            columns: None,
            filters: Vec::new(),
            present: None,
            version: None,
            count: false,
            output: Form::Table,
        }
    }
}

/// Form of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// For people.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
    /// With a line of names; NULL is empty, an empty text is `""`.
    Csv,
}

fn parse_filter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as column=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn show(config: &ResolvedConfig, args: ShowArgs) -> Result<(), Failure> {
    let lake = Lake::open(config).await?;
    let table = find(&lake, &args).await?;
    let head = table.log.head();
    let query = Query::new(head, &args)?;
    if args.count && query.filters.is_empty() {
        return print(&format!("{}\n", head.live_rows()));
    }
    let mut printer = Printer::new(&args);
    query.read(table.log.storage(), head, |batch| printer.take(batch)).await?;
    printer.finish()
}

async fn find(lake: &Lake, args: &ShowArgs) -> Result<OpenTable, Failure> {
    let place = lake.find(&args.table).await?;
    let gone = format!("table `{}` has gone", place.path);
    lake.open_at(place, args.version).await?.ok_or_else(|| Failure::runtime(gone))
}

/// Which cells of which rows.
#[derive(Debug)]
struct Query {
    /// Columns to read: those to show first, then those to filter by.
    read: Vec<usize>,
    shown: usize,
    /// Index among the columns read, and the text that its cell must have.
    filters: Vec<(usize, String)>,
    /// Index among the columns read of the one that must have a value.
    present: Option<usize>,
}

impl Query {
    fn new(head: &Head, args: &ShowArgs) -> Result<Self, Failure> {
        let schema = &head.schema;
        let mut read = match &args.columns {
            None => (0..schema.columns.len()).collect(),
            Some(names) => {
                names.iter().map(|name| column(schema, name)).collect::<Result<Vec<_>, _>>()?
            }
        };
        let shown = read.len();
        let mut filters = Vec::new();
        for (name, value) in &args.filters {
            let index = column(schema, name)?;
            let at = read.iter().position(|known| *known == index).unwrap_or_else(|| {
                read.push(index);
                read.len() - 1
            });
            filters.push((at, value.clone()));
        }
        let mut present = None;
        if let Some(name) = &args.present {
            read.push(column(schema, name)?);
            present = Some(read.len() - 1);
        }
        Ok(Self { read, shown, filters, present })
    }

    /// Hands the rows over batch by batch, until `take` has enough.
    async fn read(
        &self,
        storage: &Storage,
        head: &Head,
        mut take: impl FnMut(RecordBatch) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let mut batches = reader::scan(storage, head, &self.read);
        let shown: Vec<usize> = (0..self.shown).collect();
        while let Some(batch) = batches.next().await {
            let batch = self.filter(batch?).map_err(unprintable)?;
            let batch = batch.project(&shown).map_err(unprintable)?;
            if batch.num_rows() > 0 && !take(batch)? {
                break;
            }
        }
        Ok(())
    }

    fn filter(&self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let batch = match self.present {
            None => batch,
            Some(at) => filter_record_batch(&batch, &is_not_null(batch.column(at))?)?,
        };
        if self.filters.is_empty() {
            return Ok(batch);
        }
        let kept = {
            let texts = Texts::new(&batch)?;
            let matches = |row: usize| -> Result<bool, ArrowError> {
                for (column, wanted) in &self.filters {
                    let text = texts.get(*column, row)?;
                    if text.as_deref().unwrap_or(cells::NULL) != wanted {
                        return Ok(false);
                    }
                }
                Ok(true)
            };
            (0..batch.num_rows()).map(matches).collect::<Result<Vec<_>, _>>()?
        };
        filter_record_batch(&batch, &BooleanArray::from(kept))
    }
}

fn column(schema: &TableSchema, name: &str) -> Result<usize, Failure> {
    schema.index_of(name).or_else(|| schema.index_of_source(name)).ok_or_else(|| {
        let names: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
        Failure::usage(format!("there is no column `{name}`; there are {}", names.join(", ")))
    })
}

fn unprintable(error: ArrowError) -> Failure {
    Failure::runtime(format!("a value of the table cannot be printed: {error}"))
}

/// Prints rows as they come; rows for people are kept to line their columns up.
struct Printer {
    form: Form,
    counts: bool,
    limit: usize,
    rows: usize,
    batches: Vec<RecordBatch>,
    more: bool,
}

impl Printer {
    fn new(args: &ShowArgs) -> Self {
        let limit = match (args.limit, args.output) {
            (Some(0), _) => usize::MAX,
            (Some(limit), _) => limit,
            (None, Form::Table) if !args.count => ROWS_SHOWN,
            (None, _) => usize::MAX,
        };
        Self {
            form: args.output,
            counts: args.count,
            limit,
            rows: 0,
            batches: Vec::new(),
            more: false,
        }
    }

    /// Takes rows; says whether there is room for more.
    fn take(&mut self, batch: RecordBatch) -> Result<bool, Failure> {
        let room = self.limit - self.rows;
        self.more = batch.num_rows() > room;
        let batch = batch.slice(0, batch.num_rows().min(room));
        let first = self.rows == 0;
        self.rows += batch.num_rows();
        if !self.counts {
            match self.form {
                Form::Table => self.batches.push(batch),
                Form::Json => print(&json_lines(&batch).map_err(unprintable)?)?,
                Form::Csv => print(&csv_lines(&batch, first).map_err(unprintable)?)?,
            }
        }
        // One row beyond the limit has to be seen to know that there is more.
        Ok(!self.more)
    }

    fn finish(self) -> Result<(), Failure> {
        if self.counts {
            return print(&format!("{}\n", self.rows));
        }
        if self.form != Form::Table {
            return Ok(());
        }
        if self.batches.is_empty() {
            return print("no rows\n");
        }
        let options = cells::options();
        let table =
            pretty_format_batches_with_options(&self.batches, &options).map_err(unprintable)?;
        let rest = match self.more {
            true => format!("the first {} rows; --limit 0 shows all\n", self.rows),
            false => String::new(),
        };
        print(&format!("{table}\n{rest}"))
    }
}

fn json_lines(batch: &RecordBatch) -> Result<String, ArrowError> {
    let line = |row| json_row(batch, row).map(|row| format!("{row}\n"));
    (0..batch.num_rows()).map(line).collect()
}

fn csv_lines(batch: &RecordBatch, with_names: bool) -> Result<String, ArrowError> {
    let texts = Texts::new(batch)?;
    let mut lines = String::new();
    if with_names {
        let schema = batch.schema();
        let names: Vec<_> =
            schema.fields().iter().map(|field| Some(field.name().clone())).collect();
        lines.push_str(&csv_line(&names));
    }
    for row in 0..batch.num_rows() {
        let cells = (0..batch.num_columns()).map(|column| texts.get(column, row));
        lines.push_str(&csv_line(&cells.collect::<Result<Vec<_>, _>>()?));
    }
    Ok(lines)
}
