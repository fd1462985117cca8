//! MongoDB's rows: a document as text, under the record's key.

use std::sync::Arc;

use crate::change_event::{Field, Row, RowShape};
use crate::column::ColumnType;
use crate::json::Json;
use crate::value::Value;

/// Name of the column that holds the document.
const DOCUMENT: &str = "document";

/// The document that stands in the place of a row, if the source is one of documents.
pub(super) fn text(row: Option<Json<'_, '_>>, source: Json<'_, '_>) -> Option<String> {
    let text = row?.text()?;
    let of_documents = source.get("connector").is_some_and(|name| name.is_text("mongodb"));
    of_documents.then(|| text.into_owned())
}

/// Makes rows of documents. Keeps the shape of the last, so that rows of one table share it.
#[derive(Debug, Default)]
pub(super) struct Documents {
    shape: Option<Arc<RowShape>>,
}

impl Documents {
    /// The fields of the key, by which the row is found, and the document, Extended JSON.
    pub(super) fn row(&mut self, key: Option<&Row>, document: String) -> Row {
        let of_key = key.map_or(&[][..], |key| &key.shape.fields);
        let known = self.shape.as_ref().filter(|shape| {
            let fields = shape.fields.iter().zip(of_key);
            shape.fields.len() == of_key.len() + 1 && fields.into_iter().all(|(a, b)| a == b)
        });
        let shape = known.map(Arc::clone).unwrap_or_else(|| {
            let column_type = Some(ColumnType::Text);
            let mut fields = of_key.to_vec();
            fields.push(Field { name: DOCUMENT.to_owned(), column_type });
            Arc::new(RowShape { fields })
        });
        self.shape = Some(Arc::clone(&shape));
        let mut values = key.map(|key| key.values.clone()).unwrap_or_default();
        values.push(Value::Text(document));
        Row { shape, values }
    }
}
