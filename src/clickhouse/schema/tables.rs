//! The tables that exist, and how they differ from those that captcha makes: a name alone proves nothing.

use super::declared::{DeclaredColumn, DeclaredTable, declared};
use crate::clickhouse::replication::replicated_window;
use crate::clickhouse::{Connection, Error, Shard, quote, unexpected};

/// A table, a view, or anything else that has one of captcha's names.
#[derive(Debug, Clone, Default, PartialEq, Eq, klickhouse::Row)]
pub struct FoundTable {
    pub name: String,
    /// Without arguments.
    pub engine: String,
    /// The engine with arguments, keys and settings.
    engine_full: String,
    partition_key: String,
    sorting_key: String,
    /// The statement that would make it.
    definition: String,
    /// The query of a view.
    view_query: String,
    /// -1 if the engine does not know.
    row_count: i64,
    #[klickhouse(skip)]
    columns: Vec<FoundColumn>,
}

#[derive(Debug, Clone, PartialEq, Eq, klickhouse::Row)]
struct FoundColumn {
    table_name: String,
    name: String,
    data_type: String,
    default_value: String,
}

/// The tables of one server.
pub struct ReplicaTables {
    pub address: String,
    /// All that have one of captcha's names.
    pub tables: Vec<FoundTable>,
}

impl ReplicaTables {
    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&FoundTable> {
        self.tables.iter().find(|table| table.name == name)
    }
}

impl Shard {
    /// The tables of the server, or of each replica where a cluster is named; without replicas that are away.
    ///
    /// # Errors
    /// None of them answers, or one answers with an error.
    pub async fn tables(&self) -> Result<Vec<ReplicaTables>, Error> {
        let database = self.database().to_string();
        let mut all = Vec::new();
        let mut away = None;
        for address in &self.addresses {
            match self.connect_to_address(address).await {
                Ok(connection) => all.push(ReplicaTables {
                    address: address.clone(),
                    tables: connection.tables(&database).await?,
                }),
                Err(err) => away = Some(err),
            }
            if self.cluster.is_none() && !all.is_empty() {
                break;
            }
        }
        match away {
            Some(err) if all.is_empty() => Err(err),
            _ => Ok(all),
        }
    }
}

impl Connection {
    /// All tables of a database that have one of captcha's names.
    async fn tables(&self, database: &str) -> Result<Vec<FoundTable>, Error> {
        let names: Vec<_> = declared().iter().map(|known| known.name).collect();
        let mut tables = self.tables_named(database, &names).await?;
        let sql = format!(
            "SELECT table AS table_name, name, type AS data_type, \
             trimBoth(concat(if(default_kind = 'DEFAULT', '', default_kind), ' ', default_expression)) \
             AS default_value \
             FROM system.columns WHERE database = {} AND table IN ({})",
            quote(database),
            quoted(&names)
        );
        for column in self.query_rows::<FoundColumn>(&sql).await? {
            if let Some(table) = tables.iter_mut().find(|found| found.name == column.table_name) {
                table.columns.push(column);
            }
        }
        Ok(tables)
    }

    async fn tables_named(&self, database: &str, names: &[&str]) -> Result<Vec<FoundTable>, Error> {
        let sql = format!(
            "SELECT name, engine, engine_full, partition_key, sorting_key, create_table_query AS definition, \
             as_select AS view_query, ifNull(toInt64(total_rows), toInt64(-1)) AS row_count FROM system.tables \
             WHERE database = {} AND name IN ({})",
            quote(database),
            quoted(names)
        );
        self.query_rows(&sql).await
    }

    /// Whether the table `events` is replicated. An error if it lacks what counting once depends on.
    ///
    /// # Errors
    /// No answer, or [`Error::Schema`].
    pub async fn check_events_table(&self) -> Result<bool, Error> {
        let (address, database) = (self.address(), self.database());
        let tables = self.tables_named(database, &["events"]).await?;
        let wanted = declared().iter().find(|known| known.name == "events");
        let (Some(found), Some(wanted)) = (tables.first(), wanted) else {
            return Err(unexpected("the engine of events"));
        };
        match wanted.broken_promises(found).as_slice() {
            [] => Ok(found.is_replicated()),
            broken => Err(Error::Schema(format!(
                "clickhouse at {address} has in database {database} a table events that is not as captcha makes it: \
                 {}; change it back: nothing can be counted once in it",
                broken.join(", ")
            ))),
        }
    }
}

fn quoted(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| quote(name)).collect();
    quoted.join(", ")
}

impl FoundTable {
    /// How many rows it has; `None` if the engine does not know.
    pub fn rows(&self) -> Option<u64> {
        u64::try_from(self.row_count).ok()
    }

    /// Whether it is the same on several servers.
    pub fn is_replicated(&self) -> bool {
        self.engine.starts_with("Replicated")
    }

    /// The value of a setting of its own.
    fn setting(&self, name: &str) -> Option<&str> {
        let (_, settings) = self.engine_full.rsplit_once(" SETTINGS ")?;
        let mut pairs = settings.split(", ").filter_map(|pair| pair.split_once(" = "));
        pairs.find_map(|(known, value)| (known == name).then_some(value))
    }
}

impl DeclaredTable {
    /// How a table differs from what the migrations up to a version make. More columns and indices, other codecs and
    /// comments are no difference.
    pub fn differences(&self, found: &FoundTable, database: &str, version: u32) -> Vec<String> {
        if let Some(engine) = self.engine_difference(found) {
            // Other differences follow from that one.
            return vec![engine];
        }
        let mut differences = self.broken_promises(found);
        let mut compare = |what: &str, is: &str, must: &str| {
            let own = format!("{database}.");
            if plain(is).replace(&own, "") != plain(must) {
                differences.push(format!("{what} is {} and must be {must}", or_none(is)));
            }
        };
        compare("its sorting key", &found.sorting_key, self.sorting_key);
        compare("its query", &found.view_query, self.select);
        let version = version.max(self.versions.first().copied().unwrap_or(0));
        for column in &self.columns {
            let is_needed = column.since.is_some_and(|since| since <= version);
            let same = found.columns.iter().find(|known| known.name == column.name);
            differences.extend(match same {
                Some(same) => column.difference(same),
                None => is_needed.then(|| format!("column {} is missing", column.name)),
            });
        }
        let definition = plain(&found.definition);
        for projection in &self.projections {
            let name = projection.name;
            let is_there = definition.contains(&plain(&format!("PROJECTION {name} (")));
            let is_same = definition.contains(&plain(&format!("PROJECTION {name} {}", projection.query)));
            if is_there != is_same || (projection.since <= version && !is_there) {
                differences.push(format!("projection {name} is missing or another one"));
            }
        }
        differences
    }

    /// The differences on which counting once depends: that a row stays, that a token is remembered, and that an older
    /// part is on disk before a newer one.
    fn broken_promises(&self, found: &FoundTable) -> Vec<String> {
        let mut broken: Vec<String> = self.engine_difference(found).into_iter().collect();
        if plain(&found.partition_key) != plain(self.partition_key) {
            let (is, must) = (or_none(&found.partition_key), self.partition_key);
            broken.push(format!("its partition key is {is} and must be {must}"));
        }
        if without_strings(&found.definition).contains(" TTL ") {
            broken.push("it has a TTL and must keep every row".to_string());
        }
        for (name, least) in self.settings_for(found) {
            let value = found.setting(name);
            if value
                .and_then(|value| value.parse::<u64>().ok())
                .is_none_or(|value| value < least)
            {
                let is = value.map_or("not set".to_string(), ToString::to_string);
                broken.push(format!("setting {name} is {is} and must be at least {least}"));
            }
        }
        broken
    }

    fn engine_difference(&self, found: &FoundTable) -> Option<String> {
        let arguments_at = self.engine.find('(').unwrap_or(self.engine.len());
        let (name, arguments) = self.engine.split_at(arguments_at);
        let made = found.engine_full.split(" PARTITION BY ").next();
        let made = made.and_then(|made| made.split(" ORDER BY ").next());
        let is_same = found.engine.trim_start_matches("Replicated") == name
            && plain(made.unwrap_or_default()).ends_with(&plain(arguments));
        (!is_same).then(|| format!("its engine is {} and must be {}", found.engine, self.engine))
    }

    fn settings_for(&self, found: &FoundTable) -> Vec<(&'static str, u64)> {
        let mut settings = Vec::new();
        for (name, least) in &self.settings {
            match *name == "non_replicated_deduplication_window" && found.is_replicated() {
                true => settings.extend(replicated_window()),
                false => settings.push((*name, *least)),
            }
        }
        settings
    }
}

impl DeclaredColumn {
    fn difference(&self, found: &FoundColumn) -> Option<String> {
        let default = self.default.unwrap_or_default();
        let name = self.name;
        if found.data_type != self.data_type {
            let (is, must) = (&found.data_type, self.data_type);
            return Some(format!("column {name} is {is} and must be {must}"));
        }
        (plain(&found.default_value) != plain(default)).then(|| {
            let (is, must) = (or_none(&found.default_value), or_none(default));
            format!("the default of column {name} is {is} and must be {must}")
        })
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

/// A text without what servers of different versions write differently: blanks, quotes of names, and parentheses.
fn plain(text: &str) -> String {
    let differs = |c: char| c.is_whitespace() || "`()".contains(c);
    text.chars().filter(|c| !differs(*c)).collect()
}

fn without_strings(text: &str) -> String {
    text.split('\'').step_by(2).collect::<Vec<_>>().join(" ")
}
