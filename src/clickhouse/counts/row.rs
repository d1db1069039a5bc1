//! One row of counts.

use klickhouse::{FromSql as _, KlickhouseError, Row, Type, Value};
use uuid::Uuid;

use super::sql::Column;

/// Solve times of one row: how many there are in each bucket, in the order of the buckets.
pub type SolveTimeCounts = Vec<(u16, u64)>;

/// The counts of one bucket of one site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountedRow {
    /// An instant of the bucket, in microseconds since 1970.
    pub bucket: i64,
    /// The nil UUID where sites are not told apart.
    pub site_id: Uuid,
    /// By [`Column`]; 0 where it was not asked for.
    pub counts: [i64; Column::NUMBERS],
    pub solve_times: SolveTimeCounts,
}

impl Row for CountedRow {
    const COLUMN_COUNT: Option<usize> = None;

    fn column_names() -> Option<Vec<std::borrow::Cow<'static, str>>> {
        None
    }

    fn deserialize_row(columns: Vec<(&str, &Type, Value)>) -> klickhouse::Result<Self> {
        let mut row = CountedRow::default();
        for (name, data_type, value) in columns {
            match name {
                "bucket" => row.bucket = i64::from_sql(data_type, value)?,
                "site" => row.site_id = Uuid::from_sql(data_type, value)?,
                "solve_times" => row.solve_times = parse_solve_times(&String::from_sql(data_type, value)?)?,
                _ => {
                    let column = Column::ALL.iter().position(|column| column.name() == name);
                    let count = column.and_then(|column| row.counts.get_mut(column));
                    let count =
                        count.ok_or_else(|| KlickhouseError::DeserializeError(format!("unexpected column {name}")))?;
                    *count = i64::from_sql(data_type, value)?;
                }
            }
        }
        Ok(row)
    }

    fn serialize_row(
        self,
        _: &klickhouse::IndexMap<String, Type>,
    ) -> klickhouse::Result<Vec<(std::borrow::Cow<'static, str>, Value)>> {
        Err(KlickhouseError::SerializeError("counts are only read".to_string()))
    }
}

impl CountedRow {
    pub fn count(&self, column: Column) -> u64 {
        let index = Column::ALL.iter().position(|other| *other == column);
        let count = index.and_then(|index| self.counts.get(index)).copied().unwrap_or(0);
        u64::try_from(count).unwrap_or(0)
    }
}

/// Reads `{65:3,70:1}`: as text a map takes a hundredth of the memory that the driver's values take.
fn parse_solve_times(text: &str) -> klickhouse::Result<SolveTimeCounts> {
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let pair = |pair: &str| {
        let (bucket, count) = pair.split_once(':')?;
        Some((bucket.trim().parse().ok()?, count.trim().parse().ok()?))
    };
    let pairs = inner.map(|inner| inner.split(',').filter(|pair| !pair.is_empty()).map(pair));
    let mut all: SolveTimeCounts = pairs
        .and_then(Iterator::collect)
        .ok_or_else(|| KlickhouseError::DeserializeError("solve times are not a map of numbers".to_string()))?;
    all.sort_unstable();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solve_times_are_read_from_text() {
        assert_eq!(parse_solve_times("{}").unwrap(), []);
        assert_eq!(parse_solve_times("{70:1,65:30}").unwrap(), [(65, 30), (70, 1)]);
        for text in ["", "{70}", "{70:x}", "{70:1,}x", "{-1:1}"] {
            assert!(parse_solve_times(text).is_err(), "{text}");
        }
    }

    #[test]
    fn columns_are_read_by_name() {
        let row = CountedRow::deserialize_row(vec![
            ("bucket", &Type::Int64, Value::Int64(7)),
            ("site", &Type::Uuid, Value::Uuid(Uuid::max())),
            ("pairs", &Type::Int64, Value::Int64(3)),
            ("solve_times", &Type::String, Value::String(b"{1:2}".to_vec())),
        ]);
        let row = row.unwrap();
        assert_eq!((row.bucket, row.site_id), (7, Uuid::max()));
        assert_eq!((row.count(Column::Pairs), row.count(Column::Served)), (3, 0));
        assert_eq!(row.solve_times, [(1, 2)]);
        let other = CountedRow::deserialize_row(vec![("sum", &Type::Int64, Value::Int64(7))]);
        assert_eq!(
            other.unwrap_err().to_string(),
            "deserialize error: unexpected column sum"
        );
    }
}
