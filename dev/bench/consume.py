"""Measures how fast a backlog is drained into ClickHouse: `captcha consume`, ClickHouse's Kafka engine, raw inserts.

On servers of its own, which end with it: events are sent through `captcha serve` into 4 partitions, then drained in
each way, the ways in turn, several rounds, each time from the beginning of the log into new tables.

  captcha consume       guard and repeats on, as `captcha migrate` makes the tables: 13 columns, 2 projections, fsync
  kafka engine          2 consumers, kafka_thread_per_consumer, flush 500 ms, blocks of 262,144; a view into a table
                        of the event's 4 columns; at least once, no offsets, no repeats, no fsync
  blocks, same table    rows that are ready in the Native format, 100,000 each, sent over HTTP by 2 connections into the
                        tables of captcha consume: no Kafka, no JSON, no guard; the most that ClickHouse takes so
  blocks, plain table   the same with the 4 columns into the table of the Kafka engine

rows/s is from the start of the process, or from the creation of the view, until count() has all rows; "best" is the
round that was disturbed least. "flowing" is from the first rows that were seen on: without the start, which for the
Kafka engine is seconds of joining its consumer group. Each ratio is to the Kafka engine. CPU is in seconds for a
million rows until the last row is there; merges that go on after that are not in it. "others" is what everything else
on this machine took meanwhile, in processors. Compare within one run, and where others took much, compare all-CPU."""

import os
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from threading import Thread

from dev.bench import rig as rigs
from dev.bench.rig import PARTITIONS
from dev.command import Failure, run, say
from dev.testkit import clickhouse, processes

BLOCK_ROWS = 100_000
INSERTERS = 2
PLAIN = "site_id UUID, type LowCardinality(String), correlation_id UUID, time DateTime64(6, 'UTC')"
PLAIN_COLUMNS = "site_id, type, correlation_id, time"

# When which first rows were seen; seconds to all; MB; CPU seconds of the started process and the servers; processors.
Cost = namedtuple("Cost", "first seconds peak own clickhouse kafka others")


def main():
    options = rigs.options(__doc__, events=2_000_000, rounds=3)
    return rigs.with_servers(options.program, lambda rig: measure(rig, options))


def measure(rig, options):
    load = processes.load_average()
    rig.migrate("bench_load")
    rigs.preload(rig, "bench_load", options.events)
    rows = prepare(rig, options.events)
    ways = [
        ("captcha consume", consume),
        ("kafka engine", kafka_engine),
        ("blocks, same table", same_table),
        ("blocks, plain table", plain_table),
    ]
    costs = {name: [] for name, _ in ways}
    for number in range(options.rounds):
        turn = number % len(ways)
        for name, way in ways[turn:] + ways[:turn]:
            cost = way(rig, f"bench_{number}", rows)
            costs[name].append(cost)
            when, seen = cost.first
            say(
                f"round {number + 1}: {name}: {cost.seconds:.1f} s, the first {seen:,} rows after {when:.1f} s;"
                f" others took {cost.others:.1f} processors"
            )
    print_table(costs, rows)
    print(f"{rows:,} rows, {options.rounds} rounds, {os.cpu_count()} processors")
    print(f"{load} before, {processes.load_average()} after")


def prepare(rig, events):
    """Drains once without a clock, and keeps the rows as blocks; returns how many there are."""
    rig.migrate("bench_warm")
    child = rig.start("consume", "bench_warm")
    rig.wait_rows("bench_warm.events", events, child)
    rig.wait_merged()
    rig.stop(child)
    (rig.folder / "blocks").mkdir()
    for partition in range(PARTITIONS):
        end = int(rig.text(f"SELECT max(offset) + 1 FROM bench_warm.events WHERE partition = {partition}"))
        for begin in range(0, end, BLOCK_ROWS):
            for kind, columns in (("same", "*"), ("plain", PLAIN_COLUMNS)):
                block = clickhouse.query(
                    rig.http_port,
                    f"SELECT {columns} FROM bench_warm.events WHERE partition = {partition}"
                    f" AND offset >= {begin} AND offset < {begin + BLOCK_ROWS} FORMAT Native",
                )
                (rig.folder / "blocks" / f"{kind}-{begin:09}-{partition}").write_bytes(block)
    rows = int(rig.text("SELECT count() FROM bench_warm.events"))
    rig.drop("bench_warm")
    return rows


def consume(rig, database, rows):
    rig.migrate(database)
    before = readings(rig)
    child = rig.start("consume", database)
    first, seconds = rig.wait_rows(f"{database}.events", rows, child)
    cost = spent(rig, before, first, seconds, child)
    rig.stop(child)
    wrong = rig.text(f"SELECT count() - {rows}, countIf(kind != 'event') FROM {database}.events")
    if wrong.split() != ["0", "0"]:
        say(f"captcha consume: rows too many, and rows that are no events: {wrong}")
    rig.drop(database)
    return cost


def kafka_engine(rig, database, rows):
    make_plain_table(rig, database)
    rig.text(
        f"CREATE TABLE {database}.queue ({PLAIN}) ENGINE = Kafka SETTINGS"
        f" kafka_broker_list = '127.0.0.1:{rig.kafka_port}', kafka_topic_list = 'captcha',"
        f" kafka_group_name = '{database}', kafka_format = 'JSONEachRow', kafka_num_consumers = 2,"
        " kafka_thread_per_consumer = 1, kafka_flush_interval_ms = 500, kafka_max_block_size = 262144,"
        " date_time_input_format = 'best_effort'"
    )
    before = readings(rig)
    rig.text(f"CREATE MATERIALIZED VIEW {database}.view TO {database}.events AS SELECT * FROM {database}.queue")
    first, seconds = rig.wait_rows(f"{database}.events", rows)
    cost = spent(rig, before, first, seconds)
    rig.text(f"DROP TABLE {database}.view SYNC")
    rig.drop(database)
    return cost


def same_table(rig, database, rows):
    rig.migrate(database)
    return insert_blocks(rig, database, rows, "same", "*")


def plain_table(rig, database, rows):
    make_plain_table(rig, database)
    return insert_blocks(rig, database, rows, "plain", PLAIN_COLUMNS)


def make_plain_table(rig, database):
    rig.text(f"CREATE DATABASE {database}")
    rig.text(
        f"CREATE TABLE {database}.events ({PLAIN}) ENGINE = MergeTree"
        " PARTITION BY toYYYYMM(time) ORDER BY (site_id, time)"
    )


def insert_blocks(rig, database, rows, kind, columns):
    sql = f"INSERT INTO {database}.events ({columns}) FORMAT Native"

    def insert(path):
        rig.text(sql, path.read_bytes())

    before = readings(rig)
    waited = []
    table = f"{database}.events"
    waiter = Thread(target=lambda: waited.extend(rig.wait_rows(table, rows)), daemon=True)
    waiter.start()
    with ThreadPoolExecutor(INSERTERS) as pool:
        list(pool.map(insert, sorted((rig.folder / "blocks").glob(f"{kind}-*"))))
    waiter.join()
    if not waited:
        raise Failure(f"{table} did not get the {rows:,} rows that were inserted")
    cost = spent(rig, before, *waited)
    rig.drop(database)
    return cost


def readings(rig):
    servers = [processes.cpu_seconds(server.pid) for server in (rig.clickhouse, rig.kafka)]
    return [*servers, processes.cpu_seconds("self"), processes.machine_cpu_seconds()]


def spent(rig, before, first, seconds, child=None):
    """The cost since the readings before; `child` was started after them and still lives."""
    clickhouse, kafka, bench, machine = (now - then for now, then in zip(readings(rig), before, strict=True))
    own = processes.cpu_seconds(child.pid) if child else 0.0
    peak = processes.peak_bytes(child.pid) / 1e6 if child else None
    others = max(machine - clickhouse - kafka - bench - own, 0.0) / seconds
    return Cost(first, seconds, peak, own, clickhouse, kafka, others)


def print_table(costs, rows):
    """One line for each way: medians over the rounds, and the best round; a ratio is that of the figure before it."""
    heads = [
        "rows/s",
        "ratio",
        "best",
        "ratio",
        "flowing",
        "ratio",
        "peak-MB",
        "own-CPU",
        "clickhouse",
        "kafka",
        "all-CPU",
        "others",
    ]
    print(f"{'':20}" + "".join(f"{head:>11}" for head in heads))
    figures = {name: speeds(found, rows) for name, found in costs.items()}
    for name, found in costs.items():
        cells = []
        for figure, base in zip(figures[name], figures["kafka engine"], strict=True):
            cells += [f"{figure:,.0f}", f"{figure / base:.2f}"]
        peaks = [cost.peak for cost in found if cost.peak is not None]
        keys = ("own", "clickhouse", "kafka")
        own, *servers = (median(getattr(cost, key) for cost in found) / rows * 1e6 for key in keys)
        cells += [f"{max(peaks):.0f}", f"{own:.2f}"] if peaks else ["", ""]
        cells += [f"{value:.2f}" for value in (*servers, own + sum(servers), median(cost.others for cost in found))]
        print(f"{name:20}" + "".join(f"{cell:>11}" for cell in cells))


def speeds(found, rows):
    """Rows/s: the median, the best, and the median from the first rows that were seen on."""
    whole = [rows / cost.seconds for cost in found]
    return median(whole), max(whole), median(flowing(cost, rows) for cost in found)


def flowing(cost, rows):
    """Rows/s from the first rows that were seen to the last; of all of them where they were seen at once."""
    seconds, seen = cost.first
    return (rows - seen) / (cost.seconds - seconds) if seen < rows else rows / cost.seconds


if __name__ == "__main__":
    run(main)
