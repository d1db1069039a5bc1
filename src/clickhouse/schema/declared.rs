//! The tables and views as `captcha migrate` makes them, read from the migration files, so that nothing is written
//! twice.

use super::files::{ADD_COMPATIBLE_SINCE, CREATE_MIGRATION_LOG, CREATE_MIGRATIONS, FILES};

/// A table or a view that `captcha migrate` makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredTable {
    pub name: &'static str,
    /// The migrations that make and change it, the one that makes it first; none for the two of `migrate` itself.
    pub versions: Vec<u32>,
    /// Its engine, with arguments; `View` for a view.
    pub engine: &'static str,
    /// Expressions of its keys; empty if it has none.
    pub partition_key: &'static str,
    pub sorting_key: &'static str,
    /// Its settings, each with the least that it may be.
    pub settings: Vec<(&'static str, u64)>,
    pub projections: Vec<DeclaredProjection>,
    pub columns: Vec<DeclaredColumn>,
    /// The query of a view.
    pub select: &'static str,
}

/// A projection of such a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeclaredProjection {
    pub name: &'static str,
    /// With its parentheses.
    pub query: &'static str,
    /// The migration that adds it.
    pub since: u32,
}

/// A column of such a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredColumn {
    pub name: &'static str,
    /// Its type, as ClickHouse writes it.
    pub data_type: &'static str,
    /// The expression of its default.
    pub default: Option<&'static str>,
    /// The migration that adds it; `None` if it is added to a table of `migrate` itself that an older captcha made.
    pub since: Option<u32>,
}

/// All of them, in the order in which they are made.
///
/// # Panics
/// Never: a test reads every file.
#[expect(clippy::expect_used, reason = "the files are built in, and a test reads them")]
pub fn declared() -> &'static [DeclaredTable] {
    static DECLARED: std::sync::LazyLock<Vec<DeclaredTable>> =
        std::sync::LazyLock::new(|| read_all().expect("statements of the form that is read here"));
    &DECLARED
}

fn read_all() -> Option<Vec<DeclaredTable>> {
    let mut all = Vec::new();
    read(&mut all, CREATE_MIGRATION_LOG, None)?;
    read(&mut all, CREATE_MIGRATIONS, None)?;
    read(&mut all, ADD_COMPATIBLE_SINCE, None)?;
    for (version, file) in (1..).zip(FILES) {
        read(&mut all, file.sql, Some(version))?;
    }
    Some(all)
}

/// Adds what one statement makes; `None` if it is of a form that is not understood.
fn read(all: &mut Vec<DeclaredTable>, sql: &str, version: Option<u32>) -> Option<()> {
    let text: &'static str = flat(sql).leak();
    if let Some(rest) = text.strip_prefix("CREATE TABLE IF NOT EXISTS ") {
        all.push(table(rest, version)?);
    } else if let Some(rest) = text.strip_prefix("CREATE VIEW IF NOT EXISTS ") {
        let (name, select) = rest.split_once(" AS ")?;
        all.push(DeclaredTable {
            versions: version.into_iter().collect(),
            select,
            ..empty(name, "View")
        });
    } else {
        let (name, clauses) = text.strip_prefix("ALTER TABLE ")?.split_once(' ')?;
        let altered = all.iter_mut().find(|declared| declared.name == name)?;
        altered.versions.extend(version);
        for clause in split(clauses) {
            alter(altered, clause, version)?;
        }
    }
    Some(())
}

fn empty(name: &'static str, engine: &'static str) -> DeclaredTable {
    DeclaredTable {
        name,
        versions: Vec::new(),
        engine,
        partition_key: "",
        sorting_key: "",
        settings: Vec::new(),
        projections: Vec::new(),
        columns: Vec::new(),
        select: "",
    }
}

fn table(rest: &'static str, version: Option<u32>) -> Option<DeclaredTable> {
    let (name, rest) = rest.split_once(" (")?;
    let end = find(rest, ")")?;
    let (items, rest) = (&rest[..end], rest[end..].strip_prefix(") ENGINE = ")?);
    let (rest, settings) = rest.split_once(" SETTINGS ").unwrap_or((rest, ""));
    let (rest, sorting_key) = rest.split_once(" ORDER BY ")?;
    let (engine, partition_key) = rest.split_once(" PARTITION BY ").unwrap_or((rest, ""));
    let mut declared = DeclaredTable {
        versions: version.into_iter().collect(),
        partition_key,
        sorting_key,
        settings: settings_of(settings)?,
        ..empty(name, engine)
    };
    for item in split(items) {
        match item.strip_prefix("PROJECTION ") {
            Some(item) => declared.projections.push(projection(item, version)?),
            // A table of migrate itself is made whole; what an older one may lack is added by a statement of its own.
            None => declared.columns.push(column(item, Some(version.unwrap_or(0)))?),
        }
    }
    Some(declared)
}

fn alter(declared: &mut DeclaredTable, clause: &'static str, version: Option<u32>) -> Option<()> {
    if let Some(added) = clause.strip_prefix("ADD COLUMN IF NOT EXISTS ") {
        let column = column(added, version)?;
        declared.columns.retain(|known| known.name != column.name);
        declared.columns.push(column);
        return Some(());
    }
    if let Some(added) = clause.strip_prefix("ADD PROJECTION IF NOT EXISTS ") {
        declared.projections.push(projection(added, version)?);
        return Some(());
    }
    // A codec alone changes how parts are written, and nothing that is compared.
    let (_, what) = clause.strip_prefix("MODIFY COLUMN ")?.split_once(' ')?;
    what.starts_with("CODEC(").then_some(())
}

/// `name (query)`.
fn projection(item: &'static str, version: Option<u32>) -> Option<DeclaredProjection> {
    let (name, query) = item.split_once(' ')?;
    Some(DeclaredProjection {
        name,
        query,
        since: version?,
    })
}

/// `name Type [DEFAULT expression] [CODEC(...)] [AFTER column]`.
fn column(item: &'static str, since: Option<u32>) -> Option<DeclaredColumn> {
    let (name, rest) = item.split_once(' ')?;
    let before = |text: &'static str, word| find(text, word).map_or(text, |at| &text[..at]);
    let rest = before(before(rest, " AFTER "), " CODEC(");
    let (data_type, default) = match find(rest, " DEFAULT ") {
        Some(at) => (&rest[..at], Some(rest[at..].strip_prefix(" DEFAULT ")?)),
        None => (rest, None),
    };
    Some(DeclaredColumn {
        name,
        data_type,
        default,
        since,
    })
}

/// `name = number, ...`.
pub(crate) fn settings_of(text: &str) -> Option<Vec<(&str, u64)>> {
    let pairs = text.split(", ").filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once(" = ")?;
            Some((name, value.parse().ok()?))
        })
        .collect()
}

/// A statement on one line, without comments.
fn flat(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split("--").next());
    let words = lines.flatten().flat_map(str::split_whitespace);
    let flat = words.collect::<Vec<_>>().join(" ");
    flat.replace("( ", "(").replace(" )", ")")
}

/// The position of a text outside of parentheses and strings.
fn find(text: &str, wanted: &str) -> Option<usize> {
    let (mut depth, mut quoted) = (0, false);
    for (at, c) in text.char_indices() {
        if depth == 0 && !quoted && text[at..].starts_with(wanted) {
            return Some(at);
        }
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The parts of a text between commas, outside of parentheses and strings.
fn split(text: &'static str) -> Vec<&'static str> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(at) = find(rest, ", ") {
        parts.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> &'static DeclaredTable {
        let mut all = declared().iter();
        all.find(|declared| declared.name == name).unwrap()
    }

    #[test]
    fn every_file_is_read() {
        let names: Vec<_> = declared().iter().map(|declared| declared.name).collect();
        assert_eq!(
            names,
            [
                "migration_log",
                "migrations",
                "events",
                "dead_letters",
                "topics",
                "claims"
            ]
        );
        let versions = declared().iter().flat_map(|declared| &declared.versions);
        let mut versions: Vec<_> = versions.copied().collect();
        versions.sort_unstable();
        assert_eq!(versions, (1..=FILES.len() as u32).collect::<Vec<_>>());
    }

    #[test]
    fn a_table_is_read_with_all_that_it_has() {
        let events = named("events");
        assert_eq!((&events.versions[..2], events.engine), (&[1, 4][..], "MergeTree"));
        assert_eq!(
            (events.partition_key, events.sorting_key),
            ("toYYYYMM(arrival)", "(site_id, time)")
        );
        assert_eq!(
            events.settings,
            [
                ("non_replicated_deduplication_window", 100_000),
                ("fsync_after_insert", 1),
                ("fsync_part_directory", 1)
            ]
        );
        let projections = events.projections.iter().map(|known| (known.name, known.since));
        assert_eq!(
            projections.collect::<Vec<_>>(),
            [
                ("heads", 1),
                ("hourly", 1),
                ("days", 9),
                ("quarter_hours", 9),
                ("solve_times", 9)
            ]
        );
        assert!(events.projections[0].query.starts_with("(SELECT topic, "));
        let since_the_first = events.columns.iter().filter(|column| column.since == Some(1));
        assert_eq!(since_the_first.count(), 13);
        assert_eq!(events.columns[3].data_type, "DateTime64(3, 'UTC')");
        assert_eq!(named("claims").engine, "ReplacingMergeTree(through)");
        assert!(named("dead_letters").select.ends_with("FROM events WHERE kind = 'bad'"));
    }

    #[test]
    fn columns_are_known_since_the_migration_that_adds_them() {
        let since = |table: &str, name: &str| {
            let column = named(table).columns.iter().find(|column| column.name == name);
            let column = column.unwrap();
            (column.data_type, column.default, column.since)
        };
        assert_eq!(since("topics", "revision"), ("UInt32", None, Some(3)));
        assert_eq!(since("topics", "log"), ("String", Some("topic"), Some(6)));
        assert_eq!(since("topics", "shards"), ("Int32", Some("1"), Some(7)));
        assert_eq!(since("migrations", "checksum"), ("String", None, Some(0)));
        assert_eq!(
            since("migrations", "compatible_since"),
            ("UInt32", Some("version"), None)
        );
        assert_eq!(
            since("migration_log", "at"),
            ("DateTime64(6, 'UTC')", Some("now64(6)"), Some(0))
        );
    }
}
