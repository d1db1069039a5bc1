"""Which values of which settings are tried: both of a Bool, each of an enum, 0, 1 and the largest of a number, and by
hand what only does harm together with something else."""

import re

LARGEST = {
    "UInt64": 2**64 - 1,
    "NonZeroUInt64": 2**64 - 1,
    "UInt64Auto": 2**64 - 1,
    "MaxThreads": 2**64 - 1,
    "Int64": 2**63 - 1,
    "Int32": 2**31 - 1,
    "Seconds": 2**63 // 10**6,
    "Milliseconds": 2**63 // 10**3,
    "Float": 1e30,
    "Double": 1e300,
    "FloatAuto": 1e30,
}

# Errors that say that a value is none of the setting's.
NOT_A_VALUE = {6, 15, 25, 26, 27, 36, 38, 41, 43, 50, 53, 69, 70, 72, 190, 321, 349, 452, 467, 525, 691}

BREAK = {
    "read_overflow_mode": "break",
    "read_overflow_mode_leaf": "break",
    "group_by_overflow_mode": "any",
    "sort_overflow_mode": "break",
    "result_overflow_mode": "break",
    "timeout_overflow_mode": "break",
    "timeout_overflow_mode_leaf": "break",
    "set_overflow_mode": "break",
    "join_overflow_mode": "break",
    "transfer_overflow_mode": "break",
    "distinct_overflow_mode": "break",
}

# A cluster that the engine knows from its own configuration.
PARALLEL = {
    "enable_parallel_replicas": "1",
    "max_parallel_replicas": "3",
    "parallel_replicas_for_non_replicated_merge_tree": "1",
    "cluster_for_parallel_replicas": "default",
    "parallel_replicas_min_number_of_rows_per_replica": "0",
}

BY_HAND = [
    *({"network_compression_method": method} for method in ("NONE", "LZ4", "LZ4HC", "ZSTD", "T64")),
    *({"session_timezone": zone} for zone in ("America/New_York", "Asia/Kolkata", "Pacific/Kiritimati")),
    *({"compatibility": version} for version in ("18.1", "20.8", "22.1", "23.8", "24.8", "25.8", "26.2")),
    *({"limit": str(rows)} for rows in (2, 100)),
    *({"offset": str(rows)} for rows in (2, 100)),
    *(
        {"additional_table_filters": f"{{'{table}': '{condition}'}}"}
        for table in ("events", "topics", "claims", "migrations", "migration_log", "system.processes", "system.tables")
        for condition in ("0", "rand() % 2 = 0")
    ),
    *({"additional_result_filter": condition} for condition in ("0", "rand() % 2 = 0", "served > 3")),
    *({"implicit_table_at_top_level": table} for table in ("events", "system.one")),
    *({"max_execution_time": seconds, **BREAK} for seconds in ("0.000001", "0.001", "0.01")),
    *({"max_execution_time_leaf": seconds, **BREAK} for seconds in ("0.000001", "0.001")),
    {"max_execution_time": "0.000001"},
    {"max_rows_to_read": "100", "max_threads": "1"},
    {"min_execution_speed": "18446744073709551615", "timeout_before_checking_execution_speed": "0"},
    {"use_query_cache": "1", "query_cache_ttl": "3600"},
    {
        "use_query_cache": "1",
        "query_cache_ttl": "3600",
        "query_cache_system_table_handling": "save",
        "query_cache_nondeterministic_function_handling": "save",
    },
    {"use_query_condition_cache": "1", "query_condition_cache_store_conditions_as_plaintext": "1"},
    {"use_query_condition_cache": "0"},
    {"dialect": "kusto", "allow_experimental_kusto_dialect": "1"},
    {"dialect": "prql", "allow_experimental_prql_dialect": "1"},
    {"dialect": "promql", "allow_experimental_time_series_table": "1"},
    {"dialect": "polyglot", "allow_experimental_polyglot_dialect": "1", "polyglot_dialect": "mysql"},
    {"extremes": "1", "max_result_rows": "1", "result_overflow_mode": "break"},
    {"data_type_default_nullable": "1", "insert_null_as_default": "0"},
    {"join_use_nulls": "1", "transform_null_in": "1", "aggregate_functions_null_for_empty": "1"},
    {"force_optimize_projection": "1", "force_optimize_projection_name": "hourly"},
    {"optimize_use_projections": "0", "optimize_use_implicit_projections": "0"},
    {"preferred_optimize_projection_name": "heads"},
    {"force_primary_key": "1", "force_index_by_date": "1"},
    {"max_query_size": "100"},
    {"async_insert": "1", "wait_for_async_insert": "0"},
    {"async_insert": "1", "wait_for_async_insert": "0", "async_insert_deduplicate": "1"},
    {"insert_deduplicate": "0", "deduplicate_insert": "disable", "deduplicate_insert_select": "disable"},
    {"insert_deduplication_token": "same"},
    {"insert_deduplication_token": "same", "deduplicate_insert_select": "force_enable"},
    {"default_table_engine": "Memory", "flatten_nested": "0"},
    {"use_strict_insert_block_limits": "1", "max_insert_block_size": "10", "min_insert_block_size_rows": "10"},
    {"max_insert_threads": "4", "max_threads": "4", "max_block_size": "10", "parallel_view_processing": "1"},
    {"limit": "1", "interactive_delay": "1"},
    {"readonly": "1"},
    {"readonly": "2"},
    {"workload": "nowhere", "throw_on_unknown_workload": "1"},
    {"send_logs_level": "trace"},
    {"enable_analyzer": "0"},
    {"enable_analyzer": "0", "prefer_column_name_to_alias": "1"},
    {
        "prefer_column_name_to_alias": "1",
        "asterisk_include_alias_columns": "1",
        "asterisk_include_materialized_columns": "1",
    },
    PARALLEL,
    *(
        {**PARALLEL, "parallel_replicas_mode": mode}
        for mode in ("sampling_key", "custom_key_sampling", "custom_key_range")
    ),
    {
        **PARALLEL,
        "parallel_replicas_mode": "custom_key_sampling",
        "parallel_replicas_custom_key": "offset",
        "parallel_replicas_count": "2",
        "parallel_replica_offset": "1",
    },
    {"parallel_replicas_count": "2", "parallel_replica_offset": "1", "max_parallel_replicas": "2"},
]


def trials(ask):
    """By name: the profiles to be tried; and the names of values that the server does not take."""
    status, text = ask("SELECT name, type, default FROM system.settings WHERE NOT is_obsolete ORDER BY name FORMAT TSV")
    assert status == 200, text
    candidates, known = {}, set()
    for line in text.splitlines():
        name, kind, default = line.split("\t")
        known.add(name)
        for value in values(ask, name, kind):
            if value != default:
                candidates[f"{name}={value}"] = {name: value}
        is_limit = kind in ("UInt64", "Int64", "NonZeroUInt64") and ("max" in name or "limit" in name)
        for value in ("1", "100", "4096") if is_limit else ():
            candidates[f"{name}={value} and every overflow mode another"] = {**BREAK, name: value}
    for profile in BY_HAND:
        if not profile.keys() <= known:  # of another version
            continue
        name = " and ".join(f"{key}={value}" for key, value in profile.items() if profile[key] != BREAK.get(key))
        more = " and every overflow mode another" if "read_overflow_mode" in profile else ""
        candidates[name + more] = profile
    good, bad = {}, []
    for name, profile in candidates.items():
        if is_taken(ask, profile):
            good[name] = profile
        else:
            bad.append(name)
    return good, bad


def values(ask, name, kind):
    if kind in ("Bool", "BoolAuto"):
        return ["0", "1"]
    if kind in LARGEST:
        return ["0", "1", str(LARGEST[kind])]
    _, said = ask("SELECT 1", **{name: "zzz"})
    listed = re.search(r"Must be one of \[(.*?)\]", said)
    if listed:
        return re.findall(r"'([^']*)'", listed[1])
    return ["", "x", "1"]


def is_taken(ask, profile):
    status, said = ask("SELECT 1", **profile)
    code = re.search(r"Code: (\d+)", said)
    return status == 200 or not code or int(code[1]) not in NOT_A_VALUE
