//! Decoded Protobuf messages, written as JSON.

use chrono::NaiveDate;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, MapKey, MessageDescriptor, Value,
};

use super::text;

/// How a value is written.
#[derive(Debug)]
pub(super) enum Form {
    /// As its own kind says.
    Plain,
    Enum(EnumDescriptor),
    /// By index of the plan.
    Message(usize),
    /// One value in a message, so that it can be absent.
    Wrapper(FieldDescriptor, Box<Form>),
    Timestamp,
    Date,
    TimeOfDay,
    Decimal {
        scale: i32,
    },
    List(Box<Form>),
    Map {
        text_keys: bool,
        value: Box<Form>,
    },
}

/// What a message's object has.
#[derive(Debug)]
pub(super) enum Member {
    Field { opening: String, field: FieldDescriptor, form: Form },
    OneOf { opening: String, branches: Vec<(String, FieldDescriptor, Form)> },
}

/// The members of a message's object, in order.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) members: Vec<Member>,
}

/// How messages of one schema are written.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) messages: Vec<Message>,
    pub(super) root: usize,
    pub(super) descriptor: MessageDescriptor,
}

/// A name as a JSON member begins: `"id":`.
pub(super) fn opening(name: &str) -> String {
    let mut out = String::new();
    text::string(name, &mut out);
    out.push(':');
    out
}

type Outcome = Result<(), String>;

impl Plan {
    /// Appends a body's JSON.
    ///
    /// # Errors
    /// When the bytes are not of the message, or come to more than `text_max` bytes.
    pub(super) fn read(&self, body: &[u8], text_max: usize, out: &mut String) -> Outcome {
        let decoded = DynamicMessage::decode(self.descriptor.clone(), body);
        let message = decoded.map_err(|_| "is not of its schema: it is no such message")?;
        let writer = Writer { messages: &self.messages, text_max };
        writer.value(&Form::Message(self.root), &Value::Message(message), out)
    }
}

struct Writer<'a> {
    messages: &'a [Message],
    text_max: usize,
}

impl Writer<'_> {
    fn value(&self, form: &Form, value: &Value, out: &mut String) -> Outcome {
        if out.len() > self.text_max {
            return Err(format!("comes to more than {} bytes of JSON", self.text_max));
        }
        match (form, value) {
            (Form::Plain, value) => plain(value, out)?,
            (Form::Enum(of), Value::EnumNumber(number)) => match of.get_value(*number) {
                Some(value) => text::string(value.name(), out),
                // A symbol of a newer schema has no name here.
                None => text::string(&number.to_string(), out),
            },
            (Form::Message(index), Value::Message(message)) => {
                self.message(&self.messages[*index], message, out)?;
            }
            (Form::Wrapper(field, form), Value::Message(message)) => {
                self.value(form, &message.get_field(field), out)?;
            }
            (Form::List(form), Value::List(items)) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    self.value(form, item, out)?;
                }
                out.push(']');
            }
            (Form::Map { text_keys, value: form }, Value::Map(map)) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by(|one, other| one.0.cmp(other.0));
                self.entries(*text_keys, form, &entries, out)?;
            }
            (Form::Decimal { scale }, Value::Message(message)) => decimal(*scale, message, out)?,
            (Form::Timestamp | Form::Date | Form::TimeOfDay, Value::Message(message)) => {
                let count = match form {
                    Form::Timestamp => timestamp(message),
                    Form::Date => date(message),
                    _ => time(message),
                };
                text::integer(count.ok_or("holds a date or time that is none")?, out);
            }
            _ => return Err("is not of its schema".to_owned()),
        }
        Ok(())
    }

    fn message(&self, plan: &Message, message: &DynamicMessage, out: &mut String) -> Outcome {
        out.push('{');
        for (index, member) in plan.members.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            match member {
                Member::Field { opening, field, form } => {
                    out.push_str(opening);
                    self.field(field, form, message, out)?;
                }
                Member::OneOf { opening, branches } => {
                    out.push_str(opening);
                    if !branches.iter().any(|(_, field, _)| message.has_field(field)) {
                        out.push_str("null");
                        continue;
                    }
                    for (index, (opening, field, form)) in branches.iter().enumerate() {
                        out.push(if index == 0 { '{' } else { ',' });
                        out.push_str(opening);
                        self.field(field, form, message, out)?;
                    }
                    out.push('}');
                }
            }
        }
        out.push('}');
        Ok(())
    }

    fn field(
        &self,
        field: &FieldDescriptor,
        form: &Form,
        message: &DynamicMessage,
        out: &mut String,
    ) -> Outcome {
        if field.supports_presence() && !message.has_field(field) {
            out.push_str("null");
            return Ok(());
        }
        self.value(form, &message.get_field(field), out)
    }

    /// A map: an object where keys are strings, an array of pairs otherwise.
    fn entries(
        &self,
        text_keys: bool,
        form: &Form,
        entries: &[(&MapKey, &Value)],
        out: &mut String,
    ) -> Outcome {
        out.push(if text_keys { '{' } else { '[' });
        for (index, (key, value)) in entries.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            if !text_keys {
                out.push('[');
            }
            plain(&Value::from((*key).clone()), out)?;
            out.push(if text_keys { ':' } else { ',' });
            self.value(form, value, out)?;
            if !text_keys {
                out.push(']');
            }
        }
        out.push(if text_keys { '}' } else { ']' });
        Ok(())
    }
}

fn plain(value: &Value, out: &mut String) -> Outcome {
    match value {
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::I32(number) | Value::EnumNumber(number) => text::integer((*number).into(), out),
        Value::I64(number) => text::integer(*number, out),
        Value::U32(number) => text::integer((*number).into(), out),
        // Beyond 63 bits it is refused by the type, never wrapped.
        Value::U64(number) => out.push_str(&number.to_string()),
        Value::F32(number) => text::float(*number, out),
        Value::F64(number) => text::double(*number, out),
        Value::String(value) => text::string(value, out),
        Value::Bytes(value) => text::bytes(value, out),
        Value::Message(_) | Value::List(_) | Value::Map(_) => {
            return Err("is not of its schema".to_owned());
        }
    }
    Ok(())
}

fn number(message: &DynamicMessage, name: &str) -> Option<i64> {
    match message.get_field_by_name(name)?.as_ref() {
        Value::I32(number) => Some((*number).into()),
        Value::I64(number) => Some(*number),
        _ => None,
    }
}

/// Milliseconds since 1970.
fn timestamp(message: &DynamicMessage) -> Option<i64> {
    let seconds = number(message, "seconds")?;
    seconds.checked_mul(1_000)?.checked_add(number(message, "nanos")?.div_euclid(1_000_000))
}

/// Days since 1970.
fn date(message: &DynamicMessage) -> Option<i64> {
    let part = |name| u32::try_from(number(message, name)?).ok();
    let year = i32::try_from(number(message, "year")?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, part("month")?, part("day")?)?;
    Some(date.signed_duration_since(NaiveDate::default()).num_days())
}

/// Milliseconds of the day.
fn time(message: &DynamicMessage) -> Option<i64> {
    let part = |name, max| number(message, name).filter(|number| (0..=max).contains(number));
    let seconds = (part("hours", 24)? * 60 + part("minutes", 59)?) * 60 + part("seconds", 60)?;
    Some(seconds * 1_000 + part("nanos", 999_999_999)? / 1_000_000)
}

/// The unscaled value, which must be at the scale that the schema says.
fn decimal(scale: i32, message: &DynamicMessage, out: &mut String) -> Outcome {
    if number(message, "scale") != Some(scale.into()) {
        return Err(format!("holds a decimal that is not at its schema's scale of {scale}"));
    }
    match message.get_field_by_name("value").as_deref() {
        Some(Value::Bytes(value)) => text::bytes(value, out),
        _ => return Err("is not of its schema".to_owned()),
    }
    Ok(())
}
