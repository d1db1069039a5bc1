//! The one place for pinned settings: those that decide the content of an answer or an insert, and that a profile, a
//! role, a quota or a newer server may change.
//!
//! [`PINS`] are sent with every query, so they win over profiles and roles; a server that does not know one ignores it.
//! The settings that an insert needs to count once are in its text, where a server that does not know one refuses it. A
//! constraint that forbids a pin's value is named in the error ([`find_pin`]); one that agrees with it does no harm.
//!
//! Limits are not pinned: memory, time, rows, threads, priority and workload are the operator's. The reaction to a
//! limit is pinned: an error, never a part of the answer. `tests/settings/survey.py` tries every setting of a server,
//! and `found.tsv` has the results.

use super::server_version::Version;

/// Settings of every query, and why.
pub(crate) const PINS: &[(&str, &str)] = &[
    // At a limit the query fails. Otherwise it would end early and look whole.
    ("read_overflow_mode", "throw"),
    ("read_overflow_mode_leaf", "throw"),
    ("group_by_overflow_mode", "throw"),
    ("sort_overflow_mode", "throw"),
    ("result_overflow_mode", "throw"),
    ("distinct_overflow_mode", "throw"),
    ("set_overflow_mode", "throw"),
    ("join_overflow_mode", "throw"),
    ("transfer_overflow_mode", "throw"),
    ("timeout_overflow_mode", "throw"),
    ("timeout_overflow_mode_leaf", "throw"),
    // These leave out rows.
    ("limit", "0"),
    ("offset", "0"),
    ("additional_result_filter", ""),
    ("additional_table_filters", "{}"),
    ("discard_query_data", "0"),
    ("ignore_cold_parts_seconds", "0"),
    ("prefer_warmed_unmerged_parts_seconds", "0"),
    // Other replicas may lack what is confirmed, and an answer of before lacks what came since.
    ("enable_parallel_replicas", "0"),
    ("parallel_replicas_count", "0"),
    ("use_query_cache", "0"),
    // What the text of a query means.
    ("dialect", "clickhouse"),
    ("join_default_strictness", "ALL"),
    ("join_use_nulls", "0"),
    ("transform_null_in", "0"),
    ("aggregate_functions_null_for_empty", "0"),
    ("empty_result_for_aggregation_by_empty_set", "0"),
    ("prefer_column_name_to_alias", "0"),
    ("session_timezone", ""),
    ("implicit_table_at_top_level", ""),
    ("implicit_transaction", "0"),
    // What tests of ClickHouse itself do to queries.
    ("inject_random_order_for_select_without_order_by", "0"),
    ("ast_fuzzer_runs", "0"),
    // What the text of a migration means: columns, and who reads through a view.
    ("data_type_default_nullable", "0"),
    ("default_normal_view_sql_security", "INVOKER"),
    // What the driver reads and writes: LZ4 alone, types by their names, and no log lines of the server.
    ("network_compression_method", "LZ4"),
    ("output_format_native_encode_types_in_binary_format", "0"),
    ("input_format_native_decode_types_in_binary_format", "0"),
    ("send_logs_level", "none"),
    // The driver sets this itself when it connects, so a constraint on it is refused by name too.
    ("date_time_input_format", "best_effort"),
    // How often, in microseconds, the server looks for a cancellation while it works on a query: never. An insert's
    // block follows its query without waiting, and if the server meets it on such a look, while it still evaluates the
    // guard, it hangs up (error 99; 14 of 576 inserts, 24 at once, on ClickHouse 26.7; with this 0 of 2,752).
    ("interactive_delay", "3600000000"),
    // How much of a query others see in `system.processes`. They look for the token at its end, and a profile could cut
    // that off; this is ClickHouse's own default.
    ("log_queries_cut_to_length", "100000"),
    // For replicated tables; a table of one server does not mind them. An insert is on a majority of the replicas
    // before it is answered, one after the other, and waits 25 s for that and not 10 minutes, the default, when captcha
    // no longer waits for the answer; a replica refuses a query if it lacks the newest insert that was confirmed; a
    // statement that changes a table has changed all replicas.
    ("insert_quorum", "auto"),
    ("insert_quorum_parallel", "0"),
    ("insert_quorum_timeout", INSERT_QUORUM_TIMEOUT),
    ("select_sequential_consistency", "1"),
    ("alter_sync", "2"),
];

/// How long a server waits for a majority of the replicas, in milliseconds.
const INSERT_QUORUM_TIMEOUT: &str = "25000";

/// [`INSERT_QUORUM_TIMEOUT`] as a number.
pub(crate) const INSERT_QUORUM_TIMEOUT_MILLIS: u128 = match u128::from_str_radix(INSERT_QUORUM_TIMEOUT, 10) {
    Ok(millis) => millis,
    Err(_) => 0,
};

const _: () = assert!(INSERT_QUORUM_TIMEOUT_MILLIS > 0);

/// Settings of an insert of events: one insert must be one block and one part, answered when it is written, and
/// deduplicated by its token. `max_block_size` bounds what ARRAY JOIN makes of one row.
pub(crate) const INSERT: &str = "async_insert = 0, insert_deduplicate = 1, deduplicate_insert = 'enable', \
     deduplicate_insert_select = 'force_enable', use_strict_insert_block_limits = 0, \
     max_insert_block_size = 1048449, max_insert_block_size_bytes = 0, \
     max_insert_threads = 1, max_block_size = 1048449";

/// Of an insert of which at most one with a token takes place.
pub(crate) const INSERT_ONCE: &str = "async_insert = 0, insert_deduplicate = 1, deduplicate_insert = 'enable', \
     deduplicate_insert_select = 'force_enable'";

/// Of an insert whose rows are written each time, though they may be those of before. The settings after it override
/// the first one.
pub(crate) const INSERT_EACH: &str = "insert_deduplicate = 0, deduplicate_insert = 'disable', \
     deduplicate_insert_select = 'disable', async_insert = 0";

/// The versions that brought settings of [`INSERT`]. An older server would refuse them, and does without them what they
/// ask of a newer one.
const BROUGHT_BY: [(&str, Version); 4] = [
    ("deduplicate_insert_select", Version::new(25, 12)),
    ("max_insert_block_size_bytes", Version::new(26, 1)),
    ("deduplicate_insert", Version::new(26, 2)),
    ("use_strict_insert_block_limits", Version::new(26, 4)),
];

/// Those of an insert's settings that a server of this version knows.
pub(crate) fn supported(settings: &str, version: Version) -> String {
    let is_known = |setting: &&str| {
        let name = setting.split_once(" =").map_or(*setting, |(name, _)| name);
        let since = BROUGHT_BY.iter().find(|(brought, _)| *brought == name);
        since.is_none_or(|(_, since)| *since <= version)
    };
    let supported: Vec<&str> = settings.split(", ").filter(is_known).collect();
    supported.join(", ")
}

/// The first pin that a server's message names, and the value that captcha gives it.
pub(crate) fn find_pin(message: &str) -> Option<(&'static str, &'static str)> {
    let in_text = INSERT.split(',').filter_map(|pin| pin.split_once('='));
    let in_text = in_text.map(|(name, value)| (name.trim(), value.trim().trim_matches('\'')));
    let all: Vec<_> = PINS.iter().copied().chain(in_text).collect();
    let is_separator = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let mut words = message.split(is_separator);
    words.find_map(|word| all.iter().copied().find(|(name, _)| *name == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_gets_the_settings_that_it_knows() {
        let once = |major, minor| supported(INSERT_ONCE, Version::new(major, minor));
        assert_eq!(once(25, 8), "async_insert = 0, insert_deduplicate = 1");
        assert_eq!(
            once(26, 1),
            "async_insert = 0, insert_deduplicate = 1, deduplicate_insert_select = 'force_enable'"
        );
        assert_eq!(once(26, 2), INSERT_ONCE);
        let each = supported(INSERT_EACH, Version::new(25, 8));
        assert_eq!(each, "insert_deduplicate = 0, async_insert = 0");
        assert_eq!(supported(INSERT, Version::new(26, 4)), INSERT);
        for (name, _) in BROUGHT_BY {
            assert!(INSERT.contains(&format!("{name} = ")), "{name}");
        }
    }

    #[test]
    fn a_pin_is_known_by_its_whole_name() {
        let of = |name: &str| find_pin(&format!("Setting {name} should not be changed"));
        assert_eq!(of("limit"), Some(("limit", "0")));
        assert_eq!(
            of("'read_overflow_mode_leaf'"),
            Some(("read_overflow_mode_leaf", "throw"))
        );
        assert_eq!(of("deduplicate_insert"), Some(("deduplicate_insert", "enable")));
        assert_eq!(of("max_block_size"), Some(("max_block_size", "1048449")));
        assert_eq!(of("max_threads"), None);
    }
}
