"""What the benches share: servers of their own, events sent through `captcha serve`, what processes cost."""

import argparse
import datetime
import os
import random
import shutil
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dev import ports, supervise, throwaway
from dev.command import DEV, Failure, captcha_environment, say
from dev.testkit import captcha, clickhouse, events
from dev.testkit.http import HOST

PARTITIONS = 4
SENDERS = 4
EVENTS_EACH = 5_000
SITES = [str(uuid.UUID(int=random.Random(site).getrandbits(128), version=4)) for site in range(100)]
FIRST_DAY = datetime.datetime(2024, 1, 15)
DAY_MICROS = 86_400 * 10**6
SOLVE_MICROS = 8 * 10**6, 60 * 10**6  # from a serve to its solve: the mean, and the most
STALLED_SECONDS = 60


def options(doc, switches=(), **numbers):
    """The command line: --program, a number for each of `numbers`, and `switches` with their help."""
    name = f"python3 -m dev.bench.{Path(sys.argv[0]).stem}"
    parser = argparse.ArgumentParser(prog=name, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, help="a captcha that is built already (default: it is built)")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default:,}")
    for name, explained in dict(switches).items():
        parser.add_argument(f"--{name}", action="store_true", help=explained)
    chosen = parser.parse_args()
    for name in numbers:
        if getattr(chosen, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return chosen


def with_servers(program, bench, prepare=lambda: None, clickhouse_config=""):
    """Runs bench(rig) between start and stop of the servers; the first signal ends all of it in order.

    `prepare` runs before the servers do, for what is to be built. `clickhouse_config` is XML that ClickHouse's
    configuration gets besides."""
    if not os.path.exists("/proc/self/stat"):
        raise Failure("what processes cost is read from /proc; run this on Linux")

    def work(signals):
        executable = captcha.prepare(program)
        prepare()
        with started(executable, signals, clickhouse_config) as rig:
            bench(rig)
        return 0

    return supervise.to_the_end(work)


@contextmanager
def started(program, signals, clickhouse_config=""):
    """Both servers on empty data in a folder that is locked while it is used, and removed."""
    folder, lock = throwaway.new_folder()
    rig = Rig(program, folder)
    try:
        rig.kafka_port, rig.clickhouse_port = ports.pick(2)
        config = folder / "clickhouse-config.xml"
        text = (DEV / "clickhouse-config.xml").read_text()
        config.write_text(text.replace("</clickhouse>", f"  {clickhouse_config}\n</clickhouse>"))
        supervise.start_servers(
            folder, folder / "logs", lock, rig.kafka_port, rig.clickhouse_port, rig.servers, config=config
        )
        rig.kafka, rig.clickhouse = rig.servers
        rig.http_port = int((folder / "clickhouse" / "http.port").read_text())
        yield rig
    finally:
        supervise.stop([rig.programs, rig.servers], signals)
        shutil.rmtree(folder, ignore_errors=True)


class Rig:
    """Kafka, ClickHouse, and the captcha processes that were started beside them."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.servers, self.programs = [], []

    def text(self, sql, data=None):
        """What ClickHouse answers to a statement; `data` follows an INSERT."""
        return clickhouse.text(self.http_port, sql, data=data)

    def start(self, command, database, **settings):
        """Starts a captcha command with the servers' addresses, whatever the caller's own CAPTCHA_ variables say."""
        own = {
            "kafka_brokers": f"{HOST}:{self.kafka_port}",
            "clickhouse_addr": f"{HOST}:{self.clickhouse_port}",
            "clickhouse_database": database,
            "admin_listen": f"{HOST}:0",
        }
        environ = captcha_environment(**own | settings)
        log = self.folder / "logs" / f"{command}.log"
        child = supervise.launch(f"captcha {command}", [self.program, command], log, env=environ)
        self.programs.append(child)
        return child

    def migrate(self, database):
        child = self.start("migrate", database, partitions=PARTITIONS)
        if child.popen.wait() != 0:
            supervise.show_log(child)
            raise Failure(f"captcha migrate failed ({child.how_it_ended()}); its last lines are above")

    def stop(self, child):
        child.popen.terminate()
        child.popen.wait()
        self.programs.remove(child)

    def drop(self, database):
        """Drops the database and waits until ClickHouse has nothing left to merge."""
        self.text(f"DROP DATABASE {database} SYNC")
        self.wait_merged()

    def wait_merged(self, quiet_seconds=1.5):
        since = time.monotonic()
        while time.monotonic() - since < quiet_seconds:
            if int(self.text("SELECT count() FROM system.merges")):
                since = time.monotonic()
            time.sleep(0.1)

    def wait_rows(self, table, rows, child=None):
        """Waits for that many rows in the table; returns when which first ones were there, and the seconds to all."""
        begin = moved = time.monotonic()
        first, count = None, 0
        while count < rows:
            before, count = count, int(self.text(f"SELECT count() FROM {table}"))
            now = time.monotonic()
            if count > before:
                first, moved = first or (now - begin, count), now
            elif now - moved > STALLED_SECONDS:
                raise Failure(f"{table} has had {count:,} of {rows:,} rows for {STALLED_SECONDS} s")
            if child:
                supervise.need_alive([child])
            time.sleep(0.05)
        return first, time.monotonic() - begin


def preload(rig, database, count):
    """Sends `count` events through captcha serve, which runs for as long as that takes."""
    listen, admin = ports.pick(2)
    serve = rig.start("serve", database, listen=f"{HOST}:{listen}", admin_listen=f"{HOST}:{admin}")
    supervise.wait_ready(serve, lambda: captcha.not_ready(admin))

    def send(first):
        return events.send(listen, "[" + ",".join(backlog(first, min(EVENTS_EACH, count - first), count)) + "]")

    begin = time.monotonic()
    with ThreadPoolExecutor(SENDERS) as pool:
        refused = sum(pool.map(send, range(0, count, EVENTS_EACH)))
    seconds = time.monotonic() - begin
    say(f"sent {count:,} events through captcha serve in {seconds:.0f} s; {refused} requests had to be sent again")
    rig.stop(serve)


def backlog(first, count, total):
    """The JSON of `count` events in the order of time: pairs of a serve and, within a minute, its solve.

    All `total` events take one day, of sites drawn evenly; correlation ids are random, times have microseconds."""
    begin, end = (int(DAY_MICROS * place / total) for place in (first, first + count))
    made = []
    for _ in range((count + 1) // 2):
        serve = random.randrange(begin, end)
        solve = serve + min(int(random.expovariate(1 / SOLVE_MICROS[0])), SOLVE_MICROS[1])
        site = random.choice(SITES)
        correlation = uuid.uuid4()
        made.append((serve, "serve", site, correlation))
        made.append((solve, "solve", site, correlation))
    made.sort(key=lambda event: event[0])
    for micros, kind, site, correlation in made[:count]:
        when = (FIRST_DAY + datetime.timedelta(microseconds=micros)).isoformat()
        yield f'{{"site_id":"{site}","type":"{kind}","correlation_id":"{correlation}","time":"{when}"}}'
