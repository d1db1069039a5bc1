//! Exceptions of ClickHouse for people: the code, the view in which it happened, and the table or database that is
//! missing.
//!
//! An insert into `events` also runs the views that others made on it, and their failures look like ours.

use super::settings;
use crate::clickhouse::error::Error;
use crate::clickhouse::error_codes::{
    self, Action, READONLY, SETTING_CONSTRAINT_VIOLATION, UNKNOWN_DATABASE, UNKNOWN_TABLE,
};
use crate::clickhouse::schema::declared::declared;
use crate::telemetry::login_refusals::{self, LoginServer};

/// The advice about a missing table or database that captcha never makes.
const NOT_OURS: &str = "make it again, or drop the view on events that needs it: it is not captcha's";

/// The error of a query that the server answered with an exception.
pub fn explain(address: &str, database: &str, code: i32, message: &str) -> Error {
    let meaning = error_codes::find(code);
    let advice = meaning.advice;
    let said = |advice: &str| {
        let what = match refused_setting(code, message) {
            Some(what) => what + ":",
            None => "answered".to_string(),
        };
        let (title, words) = (meaning.title(code), first_line(message));
        format!("clickhouse at {address} {what} {title}: {words}; {advice}")
    };
    // A failure inside a view that others made is neither a head that moved nor a table that captcha lost.
    let (action, message) = match (view(message), missing(code, message, database)) {
        (Some(view), _) => {
            let advice = format!("correct the view {view}, which is not captcha's, or drop it");
            (Action::Hold, said(&advice))
        }
        (None, Some(MissingObject::Foreign)) => (Action::Hold, said(NOT_OURS)),
        (None, Some(MissingObject::Table(table))) => (
            meaning.action,
            format!("clickhouse at {address} has not all tables in database {database}: {table} is missing; {advice}"),
        ),
        (None, Some(MissingObject::Database)) => (
            meaning.action,
            format!("clickhouse at {address} has no tables in database {database}; {advice}"),
        ),
        (None, None) => (meaning.action, said(advice)),
    };
    Error::Server { code, action, message }
}

/// The error of a login that the server answered with an exception.
pub fn login_refused(address: &str, user: &str, code: i32, message: &str) -> Error {
    if error_codes::is_login_refused(code) {
        login_refusals::record(LoginServer::ClickHouse);
    }
    let meaning = error_codes::find(code);
    let what = refused_setting(code, message);
    let what = what.unwrap_or_else(|| format!("refused the login of user {user}"));
    let message = format!(
        "clickhouse at {address} {what}: {}: {}; {}",
        meaning.title(code),
        first_line(message),
        meaning.advice
    );
    Error::Server {
        code,
        action: meaning.action,
        message,
    }
}

/// The refusal of a pinned setting, to follow the server's name.
fn refused_setting(code: i32, message: &str) -> Option<String> {
    let is_refusal = [READONLY, SETTING_CONSTRAINT_VIOLATION].contains(&code);
    let (name, value) = is_refusal.then(|| settings::find_pin(message)).flatten()?;
    Some(format!("does not let --clickhouse-user set {name} = '{value}'"))
}

/// The server's message without the exception's name, the full stop and the trace.
fn first_line(message: &str) -> &str {
    const CHARS_MAX: usize = 300;
    let line = message.lines().next().unwrap_or_default();
    let line = line.trim_start_matches("DB::Exception: ");
    let line = line.trim_end().trim_end_matches('.');
    line.char_indices().nth(CHARS_MAX).map_or(line, |(end, _)| &line[..end])
}

/// A table or a database that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingObject<'a> {
    Table(&'a str),
    Database,
    /// One that captcha does not make.
    Foreign,
}

/// The materialized view that was being fed, with its database; `None` if it was none.
pub fn view(message: &str) -> Option<&str> {
    let (_, rest) = message.rsplit_once("while pushing to view ")?;
    word(rest)
}

/// The object whose lack is the error; `None` for another code, or a message that is not understood. `database` is that
/// of captcha.
pub fn missing<'a>(code: i32, message: &'a str, database: &str) -> Option<MissingObject<'a>> {
    match code {
        UNKNOWN_TABLE => missing_table(message, database),
        UNKNOWN_DATABASE => {
            let name = word_after(message, "Database")?;
            Some(match name == database {
                true => MissingObject::Database,
                false => MissingObject::Foreign,
            })
        }
        _ => None,
    }
}

/// Servers say "Table a.b does not exist", "Unknown table expression identifier 'b' in scope ...", "Could not find
/// table: b", and "Target table 'a.b' of view ... doesn't exists".
fn missing_table<'a>(message: &'a str, database: &str) -> Option<MissingObject<'a>> {
    let name = word_after(message, "table")?;
    let table = match name.rsplit_once('.') {
        Some((within, _)) if unquote(within) != database => return Some(MissingObject::Foreign),
        Some((_, table)) => unquote(table),
        None => name,
    };
    Some(match declared().iter().any(|known| known.name == table) {
        true => MissingObject::Table(table),
        false => MissingObject::Foreign,
    })
}

fn word_after<'a>(message: &'a str, noun: &str) -> Option<&'a str> {
    let mut words = message.split_whitespace();
    words.find(|word| word.trim_end_matches(':').eq_ignore_ascii_case(noun))?;
    word(words.find(|word| !["expression", "identifier"].contains(word))?)
}

/// The first word, without quotes and punctuation around it.
fn word(text: &str) -> Option<&str> {
    let word = text.split_whitespace().next()?;
    let word = unquote(word.trim_end_matches([',', ';', ':', '.']));
    (!word.is_empty()).then_some(word)
}

fn unquote(word: &str) -> &str {
    word.trim_matches(['\'', '`', '"'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_found_in_what_the_server_says() {
        for (message, missing) in [
            (
                "Table captcha.events does not exist. Maybe you meant system.events?",
                Some(MissingObject::Table("events")),
            ),
            (
                "Table captcha.topics doesn't exist",
                Some(MissingObject::Table("topics")),
            ),
            (
                "Table `captcha`.`claims` does not exist",
                Some(MissingObject::Table("claims")),
            ),
            (
                "Unknown table expression identifier 'migrations' in scope SELECT version FROM migrations",
                Some(MissingObject::Table("migrations")),
            ),
            (
                "Unknown table expression identifier 'captcha.migration_log' in scope SELECT 1",
                Some(MissingObject::Table("migration_log")),
            ),
            ("Could not find table: events", Some(MissingObject::Table("events"))),
            (
                "Target table 'captcha.theirs' of view 'captcha.events' doesn't exists.",
                Some(MissingObject::Foreign),
            ),
            (
                "Target table 'elsewhere.events' of view 'captcha.events' doesn't exists.",
                Some(MissingObject::Foreign),
            ),
            (
                "Unknown table expression identifier 'captcha.other' in scope (SELECT x FROM captcha.other)",
                Some(MissingObject::Foreign),
            ),
            ("Table other.events does not exist", Some(MissingObject::Foreign)),
            ("Something else", None),
            ("Table", None),
        ] {
            let found = super::missing(UNKNOWN_TABLE, message, "captcha");
            assert_eq!(found, missing, "{message}");
        }
        for (message, missing) in [
            ("Database captcha does not exist", Some(MissingObject::Database)),
            (
                "Database captcha doesn't exist. Maybe you meant system?",
                Some(MissingObject::Database),
            ),
            ("Database elsewhere does not exist", Some(MissingObject::Foreign)),
            ("Something else", None),
        ] {
            let found = super::missing(UNKNOWN_DATABASE, message, "captcha");
            assert_eq!(found, missing, "{message}");
        }
        assert_eq!(super::missing(47, "Table captcha.events", "captcha"), None);
    }

    #[test]
    fn the_view_that_fails_is_found_in_what_the_server_says() {
        let message =
            "Cannot parse string 'x' as UInt8: while executing 'FUNCTION f': while pushing to view captcha.mv";
        assert_eq!(view(message), Some("captcha.mv"));
        let with_id = "mine: while pushing to view captcha.mv (4dfe1c09-b5bf-40f9-a544-3e8e4af910a8)";
        assert_eq!(view(with_id), Some("captcha.mv"));
        assert_eq!(view("Table captcha.events does not exist"), None);
    }
}
