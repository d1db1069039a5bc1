"""Measures what an event costs on ClickHouse's disk: bytes for each, by column, with and without the projections.

On servers of its own, which end with it: events (pairs of a serve and, within a minute, its solve; one day; 100 sites;
random correlation ids; times with microseconds) are sent through `captcha serve` and stored by `captcha consume`.
Measured twice: when ClickHouse has merged what it wants to, and merged into one part.

Arrival is smaller here than in production: these events arrive within minutes and not within a day.

With --filled, the rows are made inside ClickHouse (dev/bench/fill.py), which takes a tenth of the time: 30 days, from
100 million events on 365, 1,000 sites with a skew. One in five challenges is not solved, so more correlation ids are
stored for each event. Measured once, with each month in one part."""

from dev.bench import fill
from dev.bench import rig as rigs
from dev.command import run, say
from dev.testkit import processes

DATABASE = "bench_bytes"


def main():
    options = rigs.options(__doc__, {"filled": "make the rows inside ClickHouse"}, events=10_000_000)
    work = measure_filled if options.filled else measure
    return rigs.with_servers(options.program, lambda rig: work(rig, options.events))


def measure_filled(rig, events):
    rig.migrate(DATABASE)
    fill.fill(rig, DATABASE, events, fill.days_of(events))
    print("rows made inside clickhouse, not by captcha consume")
    print_bytes(rig, DATABASE, "as one part a month")
    print(processes.load_average())


def measure(rig, events):
    rig.migrate(DATABASE)
    child = rig.start("consume", DATABASE)
    rigs.preload(rig, DATABASE, events)
    rig.wait_rows(f"{DATABASE}.events", events, child)
    print(f"captcha consume had at most {processes.peak_bytes(child.pid) / 1e6:.0f} MB of memory (VmHWM)")
    rig.stop(child)
    rig.wait_merged(5)
    print_bytes(rig, DATABASE, "as merged by itself")
    say("merge into one part")
    rig.text(f"OPTIMIZE TABLE {DATABASE}.events FINAL SETTINGS optimize_throw_if_noop = 1, mutations_sync = 2")
    rig.wait_merged()
    print_bytes(rig, DATABASE, "as one part")
    print(processes.load_average())


def print_bytes(rig, database, state):
    """The columns from the largest, then what the parts and the projections need."""

    def select(what, rest=""):
        text = rig.text(f"SELECT {what} WHERE active AND database = '{database}' AND table = 'events' {rest}")
        return [line.split("\t") for line in text.splitlines()]

    sums = "count(), sum(rows), sum(data_compressed_bytes), sum(bytes_on_disk)"
    parts, rows, data, disk = map(int, select(f"{sums} FROM system.parts")[0])
    columns = "column, sum(column_data_compressed_bytes), sum(column_data_uncompressed_bytes)"
    table = select(f"{columns} FROM system.parts_columns", "GROUP BY column ORDER BY 2 DESC")
    print(f"\n{state}: {rows:,} rows in {parts} parts; bytes for each event")
    for column, packed, unpacked in table:
        print(f"  {column:20}{int(packed) / rows:8.2f}  of {int(unpacked) / rows:.2f}")
    projections = select("name, sum(bytes_on_disk) FROM system.projection_parts", "GROUP BY name ORDER BY name")
    for name, size in projections:
        print(f"  {name:20}{int(size) / rows:8.2f}  projection, files")
    print(f"  {'columns':20}{data / rows:8.2f}  without projections")
    share = sum(int(size) for _, size in projections) / rows
    print(f"  {'everything':20}{disk / rows:8.2f}  all files: columns, marks, indexes; {share:.2f} of it projections")


if __name__ == "__main__":
    run(main)
