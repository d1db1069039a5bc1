"""Runs captcha and its servers on one machine: all of it, the servers alone, or a command with servers of its own."""

import argparse
import datetime
import json
import os
import shlex
import shutil
import signal
import time
import uuid

from dev import background, build, disk, fetch, process, supervise, throwaway
from dev.command import ROOT, Failure, run, say, shown
from dev.testkit import captcha

SITE = "6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01"


def arguments():
    parser = argparse.ArgumentParser(prog="stack.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run_all = commands.add_parser("run", help="build captcha, start it with Kafka and ClickHouse, until Ctrl-C")
    up = commands.add_parser("up", help="start Kafka and ClickHouse in the background and print their addresses")
    commands.add_parser("down", help="stop what `up` started")
    commands.add_parser("clean-data", help="remove the data of `run` and `up`")
    around = commands.add_parser("with", help="run a command with servers on empty data that go when it ends")
    around.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND...")
    for options, names in ((run_all, background.USUAL_PORTS), (up, background.SERVER_PORTS)):
        for name in names:
            flag = f"--{name.lower().replace('_', '-')}"
            options.add_argument(flag, default=str(background.USUAL_PORTS[name]), help=f"{name} of make")
    run_all.add_argument("--profile", default=build.PROFILE, help="cargo's profile for captcha: dev or release")
    return with_ports(parser.parse_args())


def with_ports(options):
    """Makes numbers of the ports, and calls a wrong one by the name that make gave it."""
    options.ports = {}
    for name, value in list(vars(options).items()):
        if name.endswith("_port"):
            if not value.isdecimal() or not 1 <= int(value) <= 65535:
                raise Failure(f"{name.upper()}={value} is no port; choose one from 1 to 65535")
            setattr(options, name, int(value))
            options.ports[name.upper()] = int(value)
    return options


def run_all(options, signals):
    lock = background.claim_data("make run")
    supervise.need_free_ports("run", options.ports, background.USUAL_PORTS)
    program = prepare(options.profile)
    environ = environment(options)
    servers, processes = [], []
    try:
        supervise.start_servers(
            background.DATA, background.LOGS, lock, options.kafka_port, options.clickhouse_port, servers
        )
        migrate(program, environ)
        serve = start_captcha("serve", program, environ, options.admin_port, processes)
        consume = start_captcha("consume", program, environ, options.consume_admin_port, processes)
        wait_captcha(serve, options.admin_port)
        wait_captcha(consume, options.consume_admin_port)
        print(greeting(options, program), flush=True)
        watch(servers + processes)
    except supervise.Stopped:
        say("")
        return 0
    finally:
        supervise.stop([[child] for child in processes] + [servers], signals)


def prepare(profile):
    """Fetches and builds what is missing, at the same time. Only the first time has much to do, and says so before."""
    names = fetch.missing(fetch.SERVERS)
    program = build.program(profile)
    need = fetch.disk_bytes(names) + (0 if program.exists() else build.DISK_BYTES)
    if not program.exists():
        fetched = f"fetches {disk.size(fetch.download_bytes(names))} for {shown(fetch.TOOLS)}, " if names else ""
        say(
            f"the first run {fetched}gets crates for cargo, and compiles for {shown(program.parent)}: two to three"
            f" minutes on two cores, most of them the compiler's; {disk.size(need)} on disk"
        )
    elif names:
        say(f"fetches {disk.size(fetch.download_bytes(names))} for {shown(fetch.TOOLS)}, {disk.size(need)} on disk")
    disk.need(ROOT, need, "what is fetched and built")
    fetch.fetch(fetch.SERVERS, also=[build.Build(profile)])
    return program


def environment(options):
    return {
        **os.environ,
        "CAPTCHA_KAFKA_BROKERS": f"127.0.0.1:{options.kafka_port}",
        "CAPTCHA_CLICKHOUSE_ADDR": f"127.0.0.1:{options.clickhouse_port}",
        "CAPTCHA_LISTEN": f"127.0.0.1:{options.http_port}",
    }


def migrate(program, environ):
    log = background.LOGS / "migrate.log"
    child = supervise.launch("captcha migrate", [program, "migrate"], log, env=environ)
    try:
        code = child.popen.wait()
    except supervise.Stopped:
        child.send(signal.SIGKILL)
        raise
    if code != 0:
        supervise.need_room(child)
        supervise.show_log(child)
        raise Failure(
            f"captcha migrate failed ({child.how_it_ended()}); its last lines are above, its log is {shown(log)}"
        )
    say("captcha migrate: done")


def start_captcha(command, program, environ, admin_port, processes):
    child = supervise.launch(
        f"captcha {command}",
        [program, command],
        background.LOGS / f"{command}.log",
        env={**environ, "CAPTCHA_ADMIN_LISTEN": f"127.0.0.1:{admin_port}"},
    )
    processes.append(child)
    return child


def wait_captcha(child, admin_port):
    supervise.wait_ready(child, lambda: captcha.not_ready(admin_port))


def watch(children):
    """Returns never: ends with Stopped, or with Failure when a child ends by itself."""
    while True:
        supervise.need_alive(children)
        time.sleep(0.2)


def greeting(options, program):
    address = f"http://127.0.0.1:{options.http_port}"
    clickhouse = f"127.0.0.1:{options.clickhouse_port}"
    inherited = os.environ.get("CAPTCHA_CLICKHOUSE_ADDR", "127.0.0.1:9000")
    setting = "" if clickhouse == inherited else f"CAPTCHA_CLICKHOUSE_ADDR={clickhouse} "
    command = shlex.quote(shown(program))
    write, read, keys = keys_wanted(command)
    return f"""
captcha is up: {address}

  post events:     curl -sS {address}/v1/events{write} -H 'Content-Type: application/json' -d '{challenge()}'
  look at it:      {address}/v1/dashboard
  read the report: curl -sS {address}/v1/report{read}
                   {setting}{command} report
{keys}  logs:            {shown(background.LOGS)}/ serve.log, consume.log, kafka.log, clickhouse.log
  health:          http://127.0.0.1:{options.admin_port}/readyz and http://127.0.0.1:{options.consume_admin_port}/readyz
  stop:            Ctrl-C; the data in {shown(background.DATA)} is kept
"""


def challenge():
    """A challenge of a minute ago that was solved, as JSON: it is on the dashboard at once."""
    shown_at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
    same = {"site_id": SITE, "correlation_id": str(uuid.uuid4())}
    moments = {"serve": shown_at, "solve": shown_at + datetime.timedelta(seconds=4)}
    return json.dumps([{**same, "type": kind, "time": f"{time:%Y-%m-%dT%H:%M:%SZ}"} for kind, time in moments.items()])


def keys_wanted(command):
    """The headers with a key to write and one to read, and where the keys come from, if captcha asks for keys."""
    file = os.environ.get("CAPTCHA_KEYS_FILE")
    if not file:
        return "", "", ""
    header = " -H 'Authorization: Bearer {}_KEY'"
    new = f"{command} serve new-key --sites '*' --role"
    where = f"""  keys:            {file} holds only hashes; make keys for the curls above, which count at once.
                   A browser asks for any name, and for the read key as the password:
                   {new} write >> {shlex.quote(file)}
                   {new} read >> {shlex.quote(file)}
"""
    return header.format("WRITE"), header.format("READ"), where


def clean_data():
    background.command_lock()
    background.claim_data(None)
    if not background.DATA.exists():
        say(f"there is no data in {shown(background.DATA)}")
        return 0
    shutil.rmtree(background.DATA)
    say(f"removed {shown(background.DATA)}")
    return 0


def main():
    options = arguments()
    signals = supervise.Signals()
    try:
        if options.command in ("run", "with"):
            process.die_with_parent(os.getppid())
            signals.watch_parent()
        if options.command == "run":
            return run_all(options, signals)
        if options.command == "with":
            return throwaway.run_with(options.words, signals)
        if options.command == "up":
            return background.up(options, signals)
        return background.down(signals) if options.command == "down" else clean_data()
    except supervise.Stopped as stopped:
        say("stack.py: interrupted")
        return 128 + stopped.number
    finally:
        signals.leave_parent()


if __name__ == "__main__":
    run(main)
