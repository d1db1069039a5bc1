//! The server's version, from its greeting, and the codec that an older server cannot use.

/// A version of ClickHouse by year and month: two of the same month differ in fixes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The year, in two digits.
    pub major: u64,
    /// The month.
    pub minor: u64,
}

impl Version {
    /// A version by its two numbers.
    pub const fn new(major: u64, minor: u64) -> Version {
        Version { major, minor }
    }
}

/// An older server cannot compress with T64 what Delta has made (error 270, at each insert).
const T64_AFTER_DELTA: Version = Version::new(26, 1);

/// A statement of a migration for a server of this version. Without T64 an event takes 16 bytes in place of 14 (of ten
/// million events). A server that is upgraded later keeps such columns, and reads and writes them.
pub(crate) fn adapt_codecs(statement: &str, version: Version) -> String {
    match version < T64_AFTER_DELTA {
        true => statement.replace("Delta(8), T64('bit')", "Delta(8)"),
        false => statement.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::schema::files::FILES;

    #[test]
    fn no_older_server_is_given_t64_after_delta() {
        let statements = || FILES.iter().map(|file| file.sql);
        let after_delta = |version| {
            let has = |sql: &&str| adapt_codecs(sql, version).contains("Delta(8), T64");
            statements().filter(has).count()
        };
        assert_eq!(after_delta(Version::new(25, 8)), 0);
        assert_eq!(after_delta(T64_AFTER_DELTA), 1);
    }
}
