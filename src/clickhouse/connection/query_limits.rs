//! The limits of one question, as settings that travel with it: those of them that the user may set.
//!
//! Memory and time belong to the operator. So a limit of a profile that is lower stays, and one that a constraint
//! forbids is left out: the question works as before, within the profile's.

use std::time::Duration;

use klickhouse::IndexMap;

use super::connect::Connection;
use crate::clickhouse::error::Error;

/// For a query whose answer is small.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(6);

/// How often the server looks whether the client is gone, in microseconds: ClickHouse's own default. All connections
/// turn it off, which only inserts need (`settings.rs`).
const CANCEL_CHECK_MICROS: u64 = 100_000;

/// The time and memory that one question may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    pub seconds: u64,
    /// On each server; `None` leaves it to the profile.
    pub memory_bytes: Option<u64>,
}

impl Default for QueryLimits {
    fn default() -> QueryLimits {
        QueryLimits {
            seconds: QUERY_TIMEOUT.as_secs(),
            memory_bytes: None,
        }
    }
}

/// The settings of a question, by name, that a user may set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GrantedSettings(IndexMap<String, String>);

impl GrantedSettings {
    /// The same, and room for this many bytes of SQL: a server's own limit is 256 KiB.
    pub fn with_sql_bytes(&self, bytes: usize) -> GrantedSettings {
        let mut settings = self.clone();
        settings.0.insert("max_query_size".to_string(), (bytes + 1).to_string());
        settings
    }

    pub(super) fn to_map(&self) -> IndexMap<String, String> {
        self.0.clone()
    }
}

/// A setting as the user has it.
#[derive(Debug, klickhouse::Row)]
struct OwnSetting {
    name: String,
    value: String,
    /// Of a constraint; empty without one.
    max: String,
    min: String,
    /// 1 if the user may not change it.
    readonly: u8,
}

impl OwnSetting {
    /// The value to send for one that is wanted, if any.
    fn grant(&self, wanted: u64) -> Option<u64> {
        let number = |text: &str| text.parse::<f64>().ok();
        let max = number(&self.max).filter(|max| *max > 0.0);
        let value = max.map_or(wanted, |max| wanted.min(max as u64));
        // 0 means without a limit.
        let is_lower = number(&self.value).is_some_and(|own| own > 0.0 && own <= value as f64);
        let is_below = number(&self.min).is_some_and(|min| (value as f64) < min);
        (self.readonly == 0 && !is_lower && !is_below).then_some(value)
    }
}

impl Connection {
    /// Which settings of a question this user may send.
    ///
    /// # Errors
    /// No answer.
    pub(crate) async fn granted_settings(&self, limits: &QueryLimits) -> Result<GrantedSettings, Error> {
        let wanted = [
            ("max_execution_time", Some(limits.seconds)),
            ("max_memory_usage", limits.memory_bytes),
        ];
        let sql = "SELECT name, value, ifNull(max, '') AS max, ifNull(min, '') AS min, readonly FROM system.settings \
             WHERE name IN ('max_execution_time', 'max_memory_usage', 'interactive_delay')";
        let mut granted = GrantedSettings::default();
        for own in self.query_rows::<OwnSetting>(sql).await? {
            let value = match wanted.iter().find(|(name, _)| *name == own.name) {
                Some((_, wanted)) => wanted.and_then(|wanted| own.grant(wanted)),
                // The connection's own value is higher, and the profile's does not matter.
                None => (own.readonly == 0).then_some(CANCEL_CHECK_MICROS),
            };
            granted.0.extend(value.map(|value| (own.name, value.to_string())));
        }
        Ok(granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_limit_stays_and_a_forbidden_one_is_left_out() {
        let own = |value: &str, min: &str, max: &str, readonly| OwnSetting {
            name: String::new(),
            value: value.to_string(),
            max: max.to_string(),
            min: min.to_string(),
            readonly,
        };
        for (own, granted) in [
            (own("0", "", "", 0), Some(1_000)),
            (own("2000", "", "", 0), Some(1_000)),
            (own("1000", "", "", 0), None),
            (own("0.5", "", "", 0), None),
            (own("0", "", "", 1), None),
            (own("0", "", "800", 0), Some(800)),
            (own("800", "", "800", 0), None),
            (own("0", "2000", "", 0), None),
            (own("5000", "500", "9000", 0), Some(1_000)),
        ] {
            assert_eq!(own.grant(1_000), granted, "{own:?}");
        }
    }
}
