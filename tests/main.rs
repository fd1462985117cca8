//! Tests of the whole program that need nothing but itself.

mod command_line;
mod documentation;
mod recorded;
mod rules;
