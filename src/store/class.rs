//! What ClickHouse's error codes mean, and what is to be done: the one place that decides it.
//!
//! `docs/errors.md` is the same for people, and a test holds the two together. No code is ever the fault of a
//! record: whether a record is an event is decided before ClickHouse is asked.

/// What captcha does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The guard of an insert found another head: somebody else was faster. Begin anew at once.
    HeadMoved,
    /// The database or a table is not there: `captcha migrate` has not run. Hold.
    SchemaMissing,
    /// Anything else, unknown codes too: hold, and try again.
    Hold,
}

/// What is known of an error.
pub struct Meaning {
    /// ClickHouse's number for it, the same in all versions (src/Common/ErrorCodes.cpp).
    code: i32,
    /// ClickHouse's name for it.
    name: &'static str,
    /// What captcha does.
    pub class: Class,
    /// What a person is to do, for the end of a line.
    pub advice: &'static str,
}

/// A table is not there, though its database is.
pub const UNKNOWN_TABLE: i32 = 60;

/// What a code means.
pub fn meaning(code: i32) -> &'static Meaning {
    let known = KNOWN.iter().find(|known| known.code == code);
    known.unwrap_or(&UNKNOWN)
}

impl Meaning {
    /// The code as people look it up: its number, and its name if that is known.
    pub fn title(&self, code: i32) -> String {
        match self.name {
            "" => format!("error {code}"),
            name => format!("error {code} ({name})"),
        }
    }
}

static UNKNOWN: Meaning = hold(0, "", "look it up in clickhouse's own log");

const MIGRATE: &str = "run `captcha migrate`";
const OTHER_SCHEMA: &str = "the tables are not those of this captcha: run `captcha migrate`, or the captcha that made them";
const LOGIN: &str = "check --clickhouse-user and --clickhouse-password";
const BUSY: &str =
    "let clickhouse do less at once, or raise its max_concurrent_queries and max_connections";
const SLOW: &str = "see what else clickhouse does, and max_execution_time in the user's profile";
const MEMORY: &str = "give clickhouse more memory, or raise max_memory_usage in the user's profile";
const READ_ONLY: &str =
    "see the table's setting table_readonly, and whether its disk can be written";
const STOPPING: &str = "see whether clickhouse is being stopped, or who killed the query";
const FILES: &str = "see clickhouse's disk and its log";
const DAMAGE: &str =
    "see clickhouse's disk and its log; when that is mended, run `captcha report audit`";
const KEEPER: &str = "see whether keeper runs and clickhouse reaches it";
const REPLICAS: &str = "see whether all replicas of the shard run and reach each other";
const NETWORK: &str = "see the network between captcha and clickhouse";

const fn hold(code: i32, name: &'static str, advice: &'static str) -> Meaning {
    Meaning {
        code,
        name,
        class: Class::Hold,
        advice,
    }
}

const fn missing(code: i32, name: &'static str) -> Meaning {
    Meaning {
        class: Class::SchemaMissing,
        ..hold(code, name, MIGRATE)
    }
}

static KNOWN: &[Meaning] = &[
    Meaning {
        class: Class::HeadMoved,
        ..hold(
            395,
            "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
            "nothing: another consumer was faster",
        )
    },
    missing(UNKNOWN_TABLE, "UNKNOWN_TABLE"),
    missing(81, "UNKNOWN_DATABASE"),
    hold(16, "NO_SUCH_COLUMN_IN_TABLE", OTHER_SCHEMA),
    hold(47, "UNKNOWN_IDENTIFIER", OTHER_SCHEMA),
    hold(516, "AUTHENTICATION_FAILED", LOGIN),
    hold(192, "UNKNOWN_USER", LOGIN),
    hold(193, "WRONG_PASSWORD", LOGIN),
    hold(194, "REQUIRED_PASSWORD", LOGIN),
    hold(497, "ACCESS_DENIED", "grant it to --clickhouse-user"),
    hold(
        164,
        "READONLY",
        "the profile of --clickhouse-user has the setting readonly: set it to 0, or to 2 for `captcha report` alone",
    ),
    hold(
        452,
        "SETTING_CONSTRAINT_VIOLATION",
        "captcha must set it to count once: let the profile of --clickhouse-user change it",
    ),
    hold(
        115,
        "UNKNOWN_SETTING",
        "captcha needs it to count once: use a newer clickhouse",
    ),
    hold(
        201,
        "QUOTA_EXCEEDED",
        "raise the quota of --clickhouse-user",
    ),
    hold(202, "TOO_MANY_SIMULTANEOUS_QUERIES", BUSY),
    hold(203, "NO_FREE_CONNECTION", BUSY),
    hold(745, "SERVER_OVERLOADED", BUSY),
    hold(159, "TIMEOUT_EXCEEDED", SLOW),
    hold(160, "TOO_SLOW", SLOW),
    hold(241, "MEMORY_LIMIT_EXCEEDED", MEMORY),
    hold(173, "CANNOT_ALLOCATE_MEMORY", MEMORY),
    hold(
        252,
        "TOO_MANY_PARTS",
        "wait until clickhouse has merged them; if it comes again, raise --insert-interval-ms",
    ),
    hold(243, "NOT_ENOUGH_SPACE", "make room on clickhouse's disk"),
    hold(774, "TABLE_IS_PERMANENTLY_READ_ONLY", READ_ONLY),
    hold(242, "TABLE_IS_READ_ONLY", KEEPER),
    hold(999, "KEEPER_EXCEPTION", KEEPER),
    hold(225, "NO_ZOOKEEPER", KEEPER),
    hold(
        253,
        "REPLICA_ALREADY_EXISTS",
        "if this replica lost its disk, run SYSTEM DROP REPLICA on another one first",
    ),
    hold(285, "TOO_FEW_LIVE_REPLICAS", REPLICAS),
    hold(286, "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", REPLICAS),
    hold(319, "UNKNOWN_STATUS_OF_INSERT", REPLICAS),
    hold(
        289,
        "REPLICA_IS_NOT_IN_QUORUM",
        "wait until this replica has fetched what it lacks",
    ),
    hold(394, "QUERY_WAS_CANCELLED", STOPPING),
    hold(735, "QUERY_WAS_CANCELLED_BY_CLIENT", STOPPING),
    hold(236, "ABORTED", STOPPING),
    hold(74, "CANNOT_READ_FROM_FILE_DESCRIPTOR", FILES),
    hold(75, "CANNOT_WRITE_TO_FILE_DESCRIPTOR", FILES),
    hold(76, "CANNOT_OPEN_FILE", FILES),
    hold(204, "CANNOT_FSYNC", FILES),
    hold(246, "CORRUPTED_DATA", DAMAGE),
    hold(33, "CANNOT_READ_ALL_DATA", DAMAGE),
    hold(40, "CHECKSUM_DOESNT_MATCH", DAMAGE),
    hold(425, "SYSTEM_ERROR", FILES),
    hold(209, "SOCKET_TIMEOUT", NETWORK),
    hold(210, "NETWORK_ERROR", NETWORK),
    hold(32, "ATTEMPT_TO_READ_AFTER_EOF", NETWORK),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the table in the documentation, each cut into its columns.
    fn documented() -> Vec<[&'static str; 6]> {
        let page = include_str!("../../docs/errors.md");
        let section = page
            .split("\n## ")
            .find(|part| part.starts_with("ClickHouse"));
        let rows = section.expect("the section of ClickHouse").lines();
        rows.filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
            .map(|line| {
                let cells = line.trim_matches('|').split(" | ").map(str::trim);
                let cells: Vec<_> = cells.collect();
                cells.try_into().expect("six columns")
            })
            .collect()
    }

    #[test]
    fn the_documentation_has_each_code_and_no_other() {
        let does = |class| match class {
            Class::HeadMoved => "begins anew",
            Class::SchemaMissing => "holds, schema missing",
            Class::Hold => "holds",
        };
        let known: Vec<_> = KNOWN
            .iter()
            .map(|known| {
                (
                    known.code.to_string(),
                    known.name,
                    does(known.class),
                    known.advice,
                )
            })
            .collect();
        let documented: Vec<_> = documented()
            .into_iter()
            .map(|[code, name, does, advice, ..]| (code.to_string(), name, does, advice))
            .collect();
        assert_eq!(known, documented);
    }

    #[test]
    fn each_code_is_known_once() {
        for known in KNOWN {
            let same = KNOWN.iter().filter(|other| other.code == known.code);
            assert_eq!(same.count(), 1, "{}", known.code);
            assert!(std::ptr::eq(meaning(known.code), known), "{}", known.code);
        }
    }

    #[test]
    fn an_unknown_code_holds() {
        for code in [-1, 0, 1, 9_999] {
            let meaning = meaning(code);
            assert_eq!(meaning.class, Class::Hold);
            assert_eq!(meaning.title(code), format!("error {code}"));
        }
    }
}
