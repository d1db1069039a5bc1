"""What the benches share: servers of their own, events sent through `captcha serve`, what processes cost."""

import argparse
import datetime
import http.client
import os
import random
import shutil
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from dev import fetch, ports, process, ready, stack, supervise, throwaway
from dev.command import Failure, captcha_environment, say

PARTITIONS = 4
SENDERS = 4
EVENTS_EACH = 5_000
SITES = [str(uuid.UUID(int=random.Random(site).getrandbits(128), version=4)) for site in range(100)]
FIRST_DAY = datetime.datetime(2024, 1, 15)
DAY_MICROS = 86_400 * 10**6
SOLVE_MICROS = 8 * 10**6, 60 * 10**6  # from a serve to its solve: the mean, and the most
STALLED_SECONDS = 60
TICKS = os.sysconf("SC_CLK_TCK")


def options(doc, **numbers):
    """The command line: --program, and a number for each of `numbers`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, help="a captcha that is built already (default: it is built)")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default:,}")
    chosen = parser.parse_args()
    for name in numbers:
        if getattr(chosen, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if chosen.program and not os.access(chosen.program, os.X_OK):
        raise Failure(f"--program {chosen.program} is no executable")
    return chosen


def with_servers(program, bench, prepare=lambda: None):
    """Runs bench(rig) between start and stop of the servers; the first signal ends all of it in order.

    `prepare` runs before the servers do, for what is to be built."""
    if not os.path.exists("/proc/self/stat"):
        raise Failure("what processes cost is read from /proc; run this on Linux")
    signals = supervise.Signals()
    try:
        process.die_with_parent(os.getppid())
        fetch.fetch()
        program = program.resolve() if program else stack.build()
        prepare()
        with started(program, signals) as rig:
            bench(rig)
        return 0
    except supervise.Stopped as stopped:
        say("interrupted")
        return 128 + stopped.number


@contextmanager
def started(program, signals):
    """Both servers on empty data in a folder that is locked while it is used, and removed."""
    folder, lock = throwaway.new_folder()
    rig = Rig(program, folder)
    try:
        rig.kafka_port, rig.clickhouse_port = ports.pick(2)
        supervise.start_servers(folder, folder / "logs", lock, rig.kafka_port, rig.clickhouse_port, rig.servers)
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

    def ask(self, sql, body=None, client=None):
        """What ClickHouse answers to the statement: text, or bytes in its Native format."""
        own = client or self.http()
        try:
            own.request("POST", f"/?query={quote(sql)}", body)
            answer = own.getresponse()
            content = answer.read()
        finally:
            if client is None:
                own.close()
        if answer.status != 200:
            reason = content.decode(errors="replace").strip()
            raise Failure(f"clickhouse: {reason[:500]} (to: {sql[:90]} ...)")
        return content if "FORMAT Native" in sql else content.decode().strip()

    def http(self):
        return http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=600)

    def start(self, command, database, **settings):
        """Starts a captcha command with the servers' addresses, whatever the caller's own CAPTCHA_ variables say."""
        own = {
            "kafka_brokers": f"127.0.0.1:{self.kafka_port}",
            "clickhouse_addr": f"127.0.0.1:{self.clickhouse_port}",
            "clickhouse_database": database,
            "admin_listen": "127.0.0.1:0",
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
        self.ask(f"DROP DATABASE {database} SYNC")
        self.wait_merged()

    def wait_merged(self, quiet_seconds=1.5):
        since = time.monotonic()
        while time.monotonic() - since < quiet_seconds:
            if int(self.ask("SELECT count() FROM system.merges")):
                since = time.monotonic()
            time.sleep(0.1)

    def wait_rows(self, table, rows, child=None):
        """Waits for that many rows in the table; returns when which first ones were there, and the seconds to all."""
        begin = moved = time.monotonic()
        first, count = None, 0
        while count < rows:
            before, count = count, int(self.ask(f"SELECT count() FROM {table}"))
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
    serve = rig.start("serve", database, listen=f"127.0.0.1:{listen}", admin_listen=f"127.0.0.1:{admin}")
    supervise.wait_ready(serve, lambda: None if ready.get(admin, "/readyz")[0] == 200 else "not ready")
    begin = time.monotonic()
    again = in_parallel(SENDERS, range(0, count, EVENTS_EACH), lambda first: send(listen, first, count))
    seconds = time.monotonic() - begin
    say(f"sent {count:,} events through captcha serve in {seconds:.0f} s; {sum(again)} requests had to be sent again")
    rig.stop(serve)


def send(port, first, count):
    """Sends one request until it is accepted; returns how often it was not."""
    body = "[" + ",".join(events(first, min(EVENTS_EACH, count - first), count)) + "]"
    for again in range(100):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        client.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
        answer = client.getresponse()
        text = answer.read()
        client.close()
        if answer.status == 200:
            return again
        if answer.status != 503:
            break
        time.sleep(float(answer.headers.get("Retry-After", 1)))
    raise Failure(f"captcha serve answered {answer.status}: {text.decode(errors='replace')[:300]}")


def events(first, count, total):
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


def in_parallel(threads, items, work):
    """work(item) for each item, in order but by several threads; the results, or the first trouble."""
    todo, results, trouble = iter(list(items)), [], []
    lock = threading.Lock()

    def loop():
        while not trouble:
            with lock:
                item = next(todo, None)
            if item is None:
                return
            try:
                results.append(work(item))
            except (OSError, http.client.HTTPException, Failure) as error:
                trouble.append(error)

    workers = [threading.Thread(target=loop, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if trouble:
        raise trouble[0] if isinstance(trouble[0], Failure) else Failure(f"cannot send: {trouble[0]}")
    return results


def cpu_seconds(pid):
    """Processor time of a living process and its threads."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def machine_cpu_seconds():
    """Processor time of everything on this machine, and what its host took away (steal)."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, interrupts, soft, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + interrupts + soft + steal) / TICKS


def peak_mb(pid):
    """The most memory that a living process ever had, in MB (VmHWM)."""
    with open(f"/proc/{pid}/status") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def load():
    """The load averages, as uptime has them."""
    return "load average " + ", ".join(f"{value:.1f}" for value in os.getloadavg())
