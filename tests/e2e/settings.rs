//! Servers that somebody else configured: profiles that would make an answer of a part look like the whole, that the driver
//! cannot read, or that refuse. `tests/settings/survey.py` tries every setting; here are those that matter.

use std::fmt::Write as _;

use crate::client::{SITE, event};
use crate::process::{Server, shared};
use crate::world::World;

const KAFKA: &str = "CAPTCHA_TEST_KAFKA";

/// What would change an answer, or make it unreadable: each is the profile of a user of its own. Where it has a limit too, the
/// limit is the operator's, and refused by its error is an answer as well.
const ANOTHER_ANSWER: [(&str, &str, Option<&str>); 27] = [
    (
        "read_break",
        "<read_overflow_mode>break</read_overflow_mode><max_rows_to_read>100</max_rows_to_read>",
        Some("error 158 (TOO_MANY_ROWS)"),
    ),
    (
        "read_leaf_break",
        "<read_overflow_mode_leaf>break</read_overflow_mode_leaf><max_rows_to_read_leaf>100</max_rows_to_read_leaf>",
        Some("error 158 (TOO_MANY_ROWS)"),
    ),
    (
        "bytes_break",
        "<read_overflow_mode>break</read_overflow_mode><max_bytes_to_read>1000</max_bytes_to_read>",
        Some("error 307 (TOO_MANY_BYTES)"),
    ),
    (
        "group_any",
        "<group_by_overflow_mode>any</group_by_overflow_mode><max_rows_to_group_by>2</max_rows_to_group_by>",
        Some("error 158 (TOO_MANY_ROWS)"),
    ),
    (
        "sort_break",
        "<sort_overflow_mode>break</sort_overflow_mode><max_rows_to_sort>20</max_rows_to_sort>",
        Some("error 396 (TOO_MANY_ROWS_OR_BYTES)"),
    ),
    (
        "result_break",
        "<result_overflow_mode>break</result_overflow_mode><max_result_rows>8</max_result_rows>",
        Some("error 396 (TOO_MANY_ROWS_OR_BYTES)"),
    ),
    (
        "time_break",
        "<timeout_overflow_mode>break</timeout_overflow_mode><max_execution_time>0.0001</max_execution_time>",
        Some("error 159 (TIMEOUT_EXCEEDED)"),
    ),
    (
        "packets",
        "<extremes>1</extremes><max_block_size>100000000</max_block_size>\
         <low_cardinality_max_dictionary_size>1</low_cardinality_max_dictionary_size>\
         <low_cardinality_use_single_dictionary_for_part>1</low_cardinality_use_single_dictionary_for_part>",
        None,
    ),
    (
        "packets_plain",
        "<low_cardinality_allow_in_native_format>0</low_cardinality_allow_in_native_format>",
        None,
    ),
    ("limit", "<limit>20</limit>", None),
    ("offset", "<offset>1</offset>", None),
    (
        "table_filter",
        "<additional_table_filters>{'events': 'offset &lt; 100'}</additional_table_filters>",
        None,
    ),
    (
        "claims_filter",
        "<additional_table_filters>{'claims': '0'}</additional_table_filters>",
        None,
    ),
    (
        "result_filter",
        "<additional_result_filter>0</additional_result_filter>",
        None,
    ),
    (
        "join_any",
        "<join_default_strictness>ANY</join_default_strictness>",
        None,
    ),
    (
        "nulls",
        "<aggregate_functions_null_for_empty>1</aggregate_functions_null_for_empty><join_use_nulls>1</join_use_nulls>",
        None,
    ),
    (
        "aliases",
        "<prefer_column_name_to_alias>1</prefer_column_name_to_alias>",
        None,
    ),
    ("discarded", "<discard_query_data>1</discard_query_data>", None),
    (
        "implicit_table",
        "<implicit_table_at_top_level>other</implicit_table_at_top_level>",
        None,
    ),
    ("transactions", "<implicit_transaction>1</implicit_transaction>", None),
    (
        "dialect",
        "<dialect>kusto</dialect><allow_experimental_kusto_dialect>1</allow_experimental_kusto_dialect>",
        None,
    ),
    ("zone", "<session_timezone>America/New_York</session_timezone>", None),
    (
        "zstd",
        "<network_compression_method>ZSTD</network_compression_method>",
        None,
    ),
    (
        "no_compression",
        "<network_compression_method>NONE</network_compression_method>",
        None,
    ),
    (
        "binary_types",
        "<output_format_native_encode_types_in_binary_format>1</output_format_native_encode_types_in_binary_format>",
        None,
    ),
    ("log_lines", "<send_logs_level>trace</send_logs_level>", None),
    (
        "agreed",
        "<limit>0</limit><constraints><limit><const/></limit></constraints>",
        None,
    ),
];

/// What would change tables, or what is stored.
const OTHER_ROWS: [(&str, &str); 6] = [
    (
        "columns",
        "<data_type_default_nullable>1</data_type_default_nullable>\
         <default_normal_view_sql_security>DEFINER</default_normal_view_sql_security>\
         <empty_result_for_aggregation_by_empty_set>1</empty_result_for_aggregation_by_empty_set>",
    ),
    (
        "inserts",
        "<async_insert>1</async_insert><wait_for_async_insert>0</wait_for_async_insert>\
         <insert_deduplicate>0</insert_deduplicate><deduplicate_insert>disable</deduplicate_insert>\
         <insert_deduplication_token>same</insert_deduplication_token><max_insert_threads>4</max_insert_threads>\
         <use_strict_insert_block_limits>1</use_strict_insert_block_limits><max_insert_block_size>10</max_insert_block_size>",
    ),
    (
        "never_again",
        "<insert_deduplication_token>same</insert_deduplication_token>\
         <deduplicate_insert_select>force_enable</deduplicate_insert_select>",
    ),
    (
        "cached",
        "<use_query_cache>1</use_query_cache><query_cache_ttl>3600</query_cache_ttl>\
         <query_cache_system_table_handling>save</query_cache_system_table_handling>\
         <query_cache_nondeterministic_function_handling>save</query_cache_nondeterministic_function_handling>",
    ),
    (
        "unreadable",
        "<network_compression_method>ZSTD</network_compression_method><send_logs_level>trace</send_logs_level>\
         <input_format_native_decode_types_in_binary_format>1</input_format_native_decode_types_in_binary_format>",
    ),
    (
        "filtered",
        "<limit>1</limit><additional_result_filter>0</additional_result_filter>\
         <additional_table_filters>{'events': '0'}</additional_table_filters>",
    ),
];

/// What refuses to work with captcha: a profile, the command that meets it, and how that is said.
const REFUSALS: [(&str, &str, &[&str], &[&str]); 20] = [
    (
        "rows",
        "<max_rows_to_read>1</max_rows_to_read>",
        &["report"],
        &["error 158 (TOO_MANY_ROWS)", "such as max_rows_to_read"],
    ),
    (
        "bytes",
        "<max_bytes_to_read>1</max_bytes_to_read>",
        &["report"],
        &["error 307 (TOO_MANY_BYTES)", "such as max_bytes_to_read"],
    ),
    (
        "results",
        "<max_result_rows>1</max_result_rows>",
        &["report"],
        &["error 396 (TOO_MANY_ROWS_OR_BYTES)", "such as max_result_rows"],
    ),
    (
        "sets",
        "<max_rows_in_set>1</max_rows_in_set>",
        &[
            "report",
            "--site-id",
            SITE,
            "--site-id",
            "00000000-0000-0000-0000-000000000000",
        ],
        &["error 191 (SET_SIZE_LIMIT_EXCEEDED)", "such as max_rows_in_set"],
    ),
    (
        "query",
        "<max_query_size>100</max_query_size>",
        &["report"],
        &["error 62 (SYNTAX_ERROR)", "such as max_query_size"],
    ),
    (
        "columns",
        "<max_columns_to_read>1</max_columns_to_read>",
        &["report"],
        &["error 161 (TOO_MANY_COLUMNS)", "in the profile of --clickhouse-user"],
    ),
    (
        "depth",
        "<max_ast_depth>1</max_ast_depth>",
        &["report"],
        &["error 167 (TOO_DEEP_AST)", "in the profile of --clickhouse-user"],
    ),
    (
        "size",
        "<max_ast_elements>1</max_ast_elements>",
        &["report"],
        &["error 168 (TOO_BIG_AST)", "in the profile of --clickhouse-user"],
    ),
    (
        "recursion",
        "<max_parser_depth>1</max_parser_depth>",
        &["report"],
        &["error 306 (TOO_DEEP_RECURSION)", "in the profile of --clickhouse-user"],
    ),
    (
        "parsing",
        "<max_parser_backtracks>1</max_parser_backtracks>",
        &["report"],
        &["error 718 (TOO_SLOW_PARSING)", "in the profile of --clickhouse-user"],
    ),
    (
        "subqueries",
        "<max_subquery_depth>1</max_subquery_depth>",
        &["report", "audit"],
        &["error 162 (TOO_DEEP_SUBQUERIES)", "in the profile of --clickhouse-user"],
    ),
    (
        "temporary",
        "<max_temporary_columns>1</max_temporary_columns>",
        &["report"],
        &[
            "error 165 (TOO_MANY_TEMPORARY_COLUMNS)",
            "in the profile of --clickhouse-user",
        ],
    ),
    (
        "non_const",
        "<max_temporary_non_const_columns>1</max_temporary_non_const_columns>",
        &["report"],
        &[
            "error 166 (TOO_MANY_TEMPORARY_NON_CONST_COLUMNS)",
            "in the profile of --clickhouse-user",
        ],
    ),
    (
        "key",
        "<force_primary_key>1</force_primary_key>",
        &["report"],
        &["error 277 (INDEX_NOT_USED)", "set force_primary_key"],
    ),
    (
        "projection",
        "<force_optimize_projection>1</force_optimize_projection>",
        &["report"],
        &["error 584 (PROJECTION_NOT_USED)", "set force_optimize_projection to 0"],
    ),
    (
        "no_ddl",
        "<allow_ddl>0</allow_ddl>",
        &["migrate"],
        &["error 392 (QUERY_IS_PROHIBITED)", "see allow_ddl"],
    ),
    (
        "other",
        "<join_algorithm>direct</join_algorithm>",
        &["report", "audit"],
        &["error 48: ", "see what the profile of --clickhouse-user sets"],
    ),
    (
        "constant",
        "<limit>5</limit><constraints><limit><const/></limit></constraints>",
        &["report"],
        &[
            "does not let --clickhouse-user set limit = '0': error 452 (SETTING_CONSTRAINT_VIOLATION)",
            "let the profile of --clickhouse-user have this value, or change it",
        ],
    ),
    (
        "duplicates",
        "<insert_deduplicate>0</insert_deduplicate><constraints><insert_deduplicate><readonly/></insert_deduplicate></constraints>",
        &["migrate"],
        &["does not let --clickhouse-user set insert_deduplicate = '1': error 452 (SETTING_CONSTRAINT_VIOLATION)"],
    ),
    (
        "frozen",
        "<readonly>1</readonly>",
        &["report"],
        &[
            "does not let --clickhouse-user set ",
            "error 164 (READONLY)",
            "has the setting readonly",
        ],
    ),
];

/// A file of users: `default`, and one for each profile.
fn users(profiles: impl Iterator<Item = (&'static str, &'static str)>) -> String {
    let (mut all, mut entries) = (String::new(), String::new());
    for (name, settings) in profiles.chain([("default", "")]) {
        let _ = write!(all, "<{name}>{settings}</{name}>");
        let password = if name == "default" { "" } else { "pw" };
        let _ = write!(
            entries,
            "<{name}><password>{password}</password><profile>{name}</profile><quota>default</quota>\
             <networks><ip>::/0</ip></networks></{name}>"
        );
    }
    format!("<profiles>{all}</profiles><quotas><default/></quotas><users>{entries}</users>")
}

async fn clickhouse_with(profiles: impl Iterator<Item = (&'static str, &'static str)>) -> Server {
    let mut server = Server::new("clickhouse");
    server.set_users(&users(profiles));
    server.start_and_listen().await;
    server
}

fn login(user: &str) -> [&str; 4] {
    ["--clickhouse-user", user, "--clickhouse-password", "pw"]
}

/// 50 events of 5 days and one site each time, and a record that is no event.
async fn produce_some(world: &World) {
    let time = |day: usize| format!("2024-02-0{}T12:00:00", 1 + day % 5);
    let kind = |number: usize| ["serve", "solve"][number % 2];
    let events: Vec<String> = (0..50)
        .map(|number| event(SITE, kind(number), &time(number)).to_string())
        .collect();
    let mut records: Vec<Option<&[u8]>> = events.iter().map(|event| Some(event.as_bytes())).collect();
    records.push(Some(b"garbage"));
    world.produce(0, &records).await;
}

/// What somebody is answered who asks for everything.
async fn answers(world: &World, user: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for words in [
        &["report", "--format", "json"][..],
        &["report", "audit"],
        &["report", "dead-letters"],
    ] {
        let output = world.run(&[words, user].concat()).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8_lossy(&output.stdout);
        all.push(format!("{words:?}: {:?} {stdout}{stderr}", output.status.code()));
    }
    all
}

#[tokio::test]
async fn no_profile_changes_an_answer() {
    let profiles = ANOTHER_ANSWER.map(|(user, settings, _)| (user, settings));
    let server = clickhouse_with(profiles.into_iter()).await;
    let world = World::on("profiles_read", &shared(KAFKA), &server.address());
    world.migrate(&["--partitions", "1"]).await;
    world.sql("SYSTEM STOP MERGES events").await;
    let mut consume = world.consume(&[]).await;
    for rounds in 1..=6 {
        produce_some(&world).await;
        world.await_log(rounds * 51).await;
    }
    consume.await_ready(200, "watermarks: ok").await;
    consume.terminate().await;
    let expected = answers(&world, &[]).await;
    assert_eq!(world.counted().await, Ok(300), "{expected:?}");
    let mut others = Vec::new();
    for (user, _, refusal) in ANOTHER_ANSWER {
        for (answer, expected) in answers(&world, &login(user)).await.iter().zip(&expected) {
            let is_refused = refusal.is_some_and(|refusal| answer.contains(refusal));
            if answer != expected && !is_refused {
                others.push(format!("{user}: {answer}"));
            }
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

#[tokio::test]
async fn no_profile_changes_what_is_stored() {
    let server = clickhouse_with(OTHER_ROWS.into_iter()).await;
    // The tables, and what migrate says in its log that it did.
    let tables = async |world: &World| {
        let sql = "SELECT replaceAll(create_table_query, database, '') FROM system.tables \
             WHERE database = currentDatabase() UNION ALL \
             SELECT concat(step, ' ', name) FROM migration_log WHERE step != 'alive'";
        let mut rows = world.sql(sql).await;
        rows.sort();
        rows
    };
    let usual = World::on("profiles_usual", &shared(KAFKA), &server.address());
    usual.migrate(&["--partitions", "1"]).await;
    let expected = tables(&usual).await;
    for (user, _) in OTHER_ROWS {
        let world = World::on(user, &shared(KAFKA), &server.address());
        world
            .migrate(&[&["--partitions", "1"], &login(user)[..]].concat())
            .await;
        assert_eq!(tables(&world).await, expected, "{user}");
        let _consume = world.consume(&login(user)).await;
        for rounds in 1..=3 {
            produce_some(&world).await;
            world.await_log(rounds * 51).await;
            world.await_counted(rounds as u64 * 50).await;
        }
        world.ok(&["report", "audit"]).await;
    }
}

#[tokio::test]
async fn a_profile_that_refuses_is_named() {
    let profiles = REFUSALS.map(|(user, settings, ..)| (user, settings));
    let server = clickhouse_with(profiles.into_iter()).await;
    let world = World::on("profiles_refuse", &shared(KAFKA), &server.address());
    world.migrate(&["--partitions", "1"]).await;
    let _consume = world.consume(&[]).await;
    produce_some(&world).await;
    world.await_log(51).await;
    let mut others = Vec::new();
    for (user, _, words, parts) in REFUSALS {
        // A migration has something to do in a database of its own.
        let database = format!("{}_{user}", world.name);
        let database = ["--clickhouse-database", &database];
        let database = if words == ["migrate"] { &database[..] } else { &[] };
        let output = world.run(&[words, &login(user), database].concat()).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        let is_said = parts.iter().all(|part| stderr.contains(part));
        if output.status.code() != Some(1) || stderr.lines().count() != 1 || !is_said {
            others.push(format!("{user}: {:?} {stderr}", output.status.code()));
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}
