//! Names and literals in the text of a query.

use std::fmt;
use std::str::FromStr;

use klickhouse::{FromSql, KlickhouseError, ToSql, Type, Value};

use crate::topic_partition::{LogName, Offset, Partition, TopicPartition};

/// A name that needs no quoting in SQL: letters, digits and `_`, not a digit first, at most 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifier(String);

impl FromStr for Identifier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fits = (1..=64).contains(&text.len()) && !text.starts_with(|c: char| c.is_ascii_digit());
        if fits && text.chars().all(plain) {
            Ok(Identifier(text.to_string()))
        } else {
            Err("expected 1 to 64 letters, digits or _, not a digit first".to_string())
        }
    }
}

impl Identifier {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromSql for Offset {
    fn from_sql(column: &Type, value: Value) -> Result<Offset, KlickhouseError> {
        i64::from_sql(column, value).map(Offset::new)
    }
}

impl FromSql for Partition {
    fn from_sql(column: &Type, value: Value) -> Result<Partition, KlickhouseError> {
        i32::from_sql(column, value).map(Partition::new)
    }
}

impl ToSql for Partition {
    fn to_sql(self, column: Option<&Type>) -> Result<Value, KlickhouseError> {
        self.get().to_sql(column)
    }
}

impl ToSql for Offset {
    fn to_sql(self, column: Option<&Type>) -> Result<Value, KlickhouseError> {
        self.get().to_sql(column)
    }
}

impl FromSql for LogName {
    fn from_sql(column: &Type, value: Value) -> Result<LogName, KlickhouseError> {
        String::from_sql(column, value).map(|name| LogName::new(&name))
    }
}

impl ToSql for LogName {
    fn to_sql(self, column: Option<&Type>) -> Result<Value, KlickhouseError> {
        self.as_str().to_string().to_sql(column)
    }
}

/// A string literal, with its quotes and backslashes escaped.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The condition that selects the rows of one partition.
pub(crate) fn partition_condition(topic_partition: &TopicPartition) -> String {
    format!(
        "topic = {} AND partition = {}",
        quote(topic_partition.log.as_str()),
        topic_partition.partition
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_need_no_quoting() {
        assert!("captcha_2".parse::<Identifier>().is_ok());
        for bad in ["", "2captcha", "a-b", "a b", "a`b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<Identifier>().is_err(), "{bad}");
        }
    }

    #[test]
    fn literals_keep_their_quotes_inside() {
        assert_eq!(quote(r"a'b\c"), r"'a\'b\\c'");
    }
}
