//! The error codes of ClickHouse, and what captcha does about each: the one place that decides it.
//!
//! `docs/errors.md` is the same for people, and a test holds the two together. No code is ever the fault of a
//! record: whether a record is an event is decided before ClickHouse is asked.

/// The reaction of captcha to an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The guard of an insert found another head, because a rival was faster. Read the head again, after a short wait.
    HeadMoved,
    /// The database or a table does not exist: `captcha migrate` has not run. Hold.
    SchemaMissing,
    /// Anything else, unknown codes too: hold, and try again.
    Hold,
}

/// An error code, and what to do about it.
pub struct ErrorCode {
    /// ClickHouse's number for it, the same in all versions (src/Common/ErrorCodes.cpp).
    code: i32,
    /// ClickHouse's name for it.
    name: &'static str,
    pub action: Action,
    /// The advice to a person, for the end of a line.
    pub advice: &'static str,
}

/// A table does not exist, though its database does.
pub const UNKNOWN_TABLE: i32 = 60;

/// A setting may not be changed, because the profile has `readonly` or a constraint.
pub const READONLY: i32 = 164;
pub const SETTING_CONSTRAINT_VIOLATION: i32 = 452;

/// A grant is missing.
const ACCESS_DENIED: i32 = 497;

/// The database does not exist.
pub const UNKNOWN_DATABASE: i32 = 81;

/// The entry of a code, or [`UNKNOWN`].
pub fn find(code: i32) -> &'static ErrorCode {
    let known = KNOWN.iter().find(|known| known.code == code);
    known.unwrap_or(&UNKNOWN)
}

/// Whether an error may pass by itself: the server, or another one of its cluster, starts, stops or is overloaded.
pub fn is_transient(code: i32) -> bool {
    let advice = find(code).advice;
    [BUSY, SLOW, MEMORY, STOPPING, KEEPER, REPLICAS, NETWORK].contains(&advice)
}

/// Whether it refuses the login: the user, its password, or where it logs in from.
pub fn is_login_refused(code: i32) -> bool {
    find(code).advice == LOGIN
}

/// Whether it passes once somebody makes the user, or grants it what it lacks.
pub fn is_denied(code: i32) -> bool {
    is_login_refused(code) || code == ACCESS_DENIED
}

impl ErrorCode {
    /// The code as people look it up: its number, and its name if that is known.
    pub fn title(&self, code: i32) -> String {
        match self.name {
            "" => format!("error {code}"),
            name => format!("error {code} ({name})"),
        }
    }
}

static UNKNOWN: ErrorCode = hold(
    0,
    "",
    "look it up in clickhouse's own log, and see what the profile of --clickhouse-user sets",
);

const MIGRATE: &str = "run `captcha migrate`";
const OTHER_SCHEMA: &str =
    "the tables are not those of this captcha: run `captcha migrate`, or the captcha that made them";
const LOGIN: &str = "check --clickhouse-user and --clickhouse-password";
const BUSY: &str = "let clickhouse do less at once, or raise its max_concurrent_queries and max_connections";
const SLOW: &str = "see what else clickhouse does, and max_execution_time in the user's profile";
const MEMORY: &str = "give clickhouse more memory, or raise max_memory_usage in the user's profile";
const QUERY: &str = "raise its limits on queries in the profile of --clickhouse-user, such as max_query_size, \
     max_ast_elements and max_parser_depth";
const READ_ONLY: &str = "see the table's setting table_readonly, and whether its disk can be written";
const STOPPING: &str = "see whether clickhouse is being stopped, or who killed the query";
const FILES: &str = "see clickhouse's disk and its log";
const DAMAGE: &str = "see clickhouse's disk and its log; when that is repaired, run `captcha report audit`";
const KEEPER: &str = "see whether keeper runs and clickhouse reaches it";
const REPLICAS: &str = "see whether all replicas of the shard run and reach each other";
const NETWORK: &str = "see the network between captcha and clickhouse";

const fn hold(code: i32, name: &'static str, advice: &'static str) -> ErrorCode {
    ErrorCode {
        code,
        name,
        action: Action::Hold,
        advice,
    }
}

const fn missing(code: i32, name: &'static str) -> ErrorCode {
    ErrorCode {
        action: Action::SchemaMissing,
        ..hold(code, name, MIGRATE)
    }
}

static KNOWN: &[ErrorCode] = &[
    ErrorCode {
        action: Action::HeadMoved,
        ..hold(
            395,
            "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
            "nothing: another consumer was faster",
        )
    },
    missing(UNKNOWN_TABLE, "UNKNOWN_TABLE"),
    missing(UNKNOWN_DATABASE, "UNKNOWN_DATABASE"),
    hold(16, "NO_SUCH_COLUMN_IN_TABLE", OTHER_SCHEMA),
    hold(47, "UNKNOWN_IDENTIFIER", OTHER_SCHEMA),
    hold(516, "AUTHENTICATION_FAILED", LOGIN),
    hold(192, "UNKNOWN_USER", LOGIN),
    hold(193, "WRONG_PASSWORD", LOGIN),
    hold(194, "REQUIRED_PASSWORD", LOGIN),
    hold(ACCESS_DENIED, "ACCESS_DENIED", "grant it to --clickhouse-user"),
    hold(
        READONLY,
        "READONLY",
        "the profile of --clickhouse-user has the setting readonly: set it to 0, or to 2 for `captcha report` alone",
    ),
    hold(
        SETTING_CONSTRAINT_VIOLATION,
        "SETTING_CONSTRAINT_VIOLATION",
        "captcha must set it to count right: let the profile of --clickhouse-user have this value, or change it",
    ),
    hold(
        115,
        "UNKNOWN_SETTING",
        "captcha needs it to count once: use a newer clickhouse",
    ),
    hold(201, "QUOTA_EXCEEDED", "raise the quota of --clickhouse-user"),
    hold(202, "TOO_MANY_SIMULTANEOUS_QUERIES", BUSY),
    hold(203, "NO_FREE_CONNECTION", BUSY),
    hold(745, "SERVER_OVERLOADED", BUSY),
    hold(159, "TIMEOUT_EXCEEDED", SLOW),
    hold(160, "TOO_SLOW", SLOW),
    hold(
        158,
        "TOO_MANY_ROWS",
        "raise its limits on rows in the profile of --clickhouse-user, such as max_rows_to_read",
    ),
    hold(
        307,
        "TOO_MANY_BYTES",
        "raise its limits on bytes in the profile of --clickhouse-user, such as max_bytes_to_read",
    ),
    hold(
        396,
        "TOO_MANY_ROWS_OR_BYTES",
        "raise its limits on results in the profile of --clickhouse-user, such as max_result_rows and max_rows_to_sort",
    ),
    hold(
        191,
        "SET_SIZE_LIMIT_EXCEEDED",
        "raise its limits on sets and joins in the profile of --clickhouse-user, such as \
         max_rows_in_set and max_rows_in_join",
    ),
    hold(
        161,
        "TOO_MANY_COLUMNS",
        "raise max_columns_to_read in the profile of --clickhouse-user",
    ),
    hold(62, "SYNTAX_ERROR", QUERY),
    hold(167, "TOO_DEEP_AST", QUERY),
    hold(168, "TOO_BIG_AST", QUERY),
    hold(306, "TOO_DEEP_RECURSION", QUERY),
    hold(718, "TOO_SLOW_PARSING", QUERY),
    hold(162, "TOO_DEEP_SUBQUERIES", QUERY),
    hold(165, "TOO_MANY_TEMPORARY_COLUMNS", QUERY),
    hold(166, "TOO_MANY_TEMPORARY_NON_CONST_COLUMNS", QUERY),
    hold(
        277,
        "INDEX_NOT_USED",
        "set force_primary_key, force_index_by_date and force_data_skipping_indices to nothing \
         in the profile of --clickhouse-user",
    ),
    hold(
        584,
        "PROJECTION_NOT_USED",
        "set force_optimize_projection to 0 in the profile of --clickhouse-user",
    ),
    hold(
        392,
        "QUERY_IS_PROHIBITED",
        "let --clickhouse-user do it: see allow_ddl in its profile",
    ),
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
        let section = page.split("\n## ").find(|part| part.starts_with("ClickHouse"));
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
        let does = |action| match action {
            Action::HeadMoved => "starts again",
            Action::SchemaMissing => "holds, schema missing",
            Action::Hold => "holds",
        };
        let known: Vec<_> = KNOWN
            .iter()
            .map(|known| (known.code.to_string(), known.name, does(known.action), known.advice))
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
            assert!(std::ptr::eq(find(known.code), known), "{}", known.code);
        }
    }

    #[test]
    fn what_needs_a_person_does_not_pass() {
        assert!([202, 241, 236, 999, 285, 210].into_iter().all(is_transient));
        assert!(![60, 81, 497, 516, 164, 452, 47, 1].into_iter().any(is_transient));
    }

    #[test]
    fn a_user_and_a_grant_can_be_made_later() {
        assert!([516, 192, 193, 194].into_iter().all(is_login_refused));
        assert!([516, 192, 193, 194, 497].into_iter().all(is_denied));
        assert!(!is_login_refused(497));
        assert!(![60, 81, 164, 202, 241, 452, 47, 1].into_iter().any(is_denied));
    }

    #[test]
    fn an_unknown_code_holds() {
        for code in [-1, 0, 1, 9_999] {
            let meaning = find(code);
            assert_eq!(meaning.action, Action::Hold);
            assert_eq!(meaning.title(code), format!("error {code}"));
        }
    }
}
