"""Measures `POST /v1/events`: `captcha serve` against FastAPI with aiokafka, and against the same gateway on
librdkafka.

On servers of its own, which end with it. Each gateway answers 2xx once Kafka has every event of the request with
acks=all, in a topic of 4 partitions, keyed by correlation_id. The gateways take turns, several rounds in one run; each
time a gateway starts on a new topic, warmed up, and measured for some seconds.

  captcha     captcha serve with its defaults
  fastapi     fastapi/app.py: pydantic, aiokafka with linger_ms 0 (the best of 0, 1, 5); one worker of uvicorn with
              uvloop and httptools, no access log
  librdkafka  gateway/src/gateway.rs: hyper, serde, FutureProducer with the settings in it, once with 1 ms of linger,
              the best at 64 connections, and once with 5 ms, which saves requests at 512

The load is gateway/src/load.rs: a closed loop, each connection with one request in flight, every event new.
After each turn the records in the topic are counted: fewer than were acknowledged is said loudly, and is the end.

Figures are medians over the rounds. ratio: events/s of captcha to this gateway's, the median of the ratios in each
round. p50 and p99 in ms. CPU in microseconds of processor time for an event, of the gateway's process, of Kafka, of the
load. MB: the most memory that the gateway ever had (VmHWM). others: what everything else on this machine took, in
processors; where that is much, only ratios and CPU count. All share the machine, so a gateway's events/s depends on
what it makes Kafka do, too."""

import json
import os
import subprocess
import sys
from collections import namedtuple
from functools import partial
from pathlib import Path
from statistics import median

from dev import ports, supervise
from dev.bench import rig as rigs
from dev.command import ROOT, STATE, Failure, run, say, start, step
from dev.testkit import captcha, http, packages, processes

BENCH = Path(__file__).resolve().parent
WARM_UP_SECONDS = 3

# Connections, and events in a request; 0 is one event that is no array.
Scenario = namedtuple("Scenario", "name connections batch")
SCENARIOS = [
    Scenario("single events, 64 connections", 64, 0),
    Scenario("single events, 512 connections", 512, 0),
    Scenario("batches of 100, 64 connections", 64, 100),
]

Tools = namedtuple("Tools", "gateway load")

# Events/s; ms; processor microseconds for an event; MB; processors.
Cost = namedtuple("Cost", "rate p50 p99 own kafka load peak others")


def main():
    options = rigs.options(__doc__, rounds=3, seconds=8)
    tools = []
    return rigs.with_servers(
        options.program, lambda rig: measure(rig, *tools, options), lambda: tools.append(prepare())
    )


def prepare():
    """Builds; uvicorn and FastAPI are in the Python that runs this."""
    packages.load("uvicorn", "make bench-serve")
    return build()


def build():
    """Builds the crate in dev/bench/gateway."""
    log = STATE / "logs" / "bench-serve-build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    target = ROOT / "target" / "bench-gateway"
    cargo = ["cargo", "build", "--release", "--locked", "--target-dir", target]
    step("build the gateway on librdkafka and the load (2 minutes, once)", cargo, log, cwd=BENCH / "gateway")
    release = target / "release"
    return Tools(release / "librdkafka-gateway", release / "load")


def measure(rig, tools, options):
    load = processes.load_average()
    gateways = {
        "captcha": captcha_serve,
        "fastapi": fastapi,
        "librdkafka, 1 ms": partial(librdkafka, 1),
        "librdkafka, 5 ms": partial(librdkafka, 5),
    }
    costs = {(scenario, name): [] for scenario in SCENARIOS for name in gateways}
    names = list(gateways)
    for number in range(options.rounds):
        turn = number % len(names)
        for scenario in SCENARIOS:
            for name in names[turn:] + names[:turn]:
                cost = one_turn(rig, tools, name, gateways[name], scenario, options.seconds)
                costs[scenario, name].append(cost)
                say(
                    f"round {number + 1}: {scenario.name}: {name}: {cost.rate:,.0f} events/s, p99 {cost.p99:.1f} ms,"
                    f" {cost.own:.1f} us of CPU; others took {cost.others:.2f} processors"
                )
    print_table(costs, names)
    print(
        f"{options.rounds} rounds of {options.seconds} s after {WARM_UP_SECONDS} s, {os.cpu_count()} processors,"
        f" every acknowledged event counted in kafka; {load} before, {processes.load_average()} after"
    )


def captcha_serve(rig, tools, topic, port):
    admin = ports.pick()[0]
    addresses = {"listen": f"{http.HOST}:{port}", "admin_listen": f"{http.HOST}:{admin}"}
    child = rig.start("serve", "unused", kafka_topic=topic, **addresses)
    return child, lambda: captcha.not_ready(admin)


def fastapi(rig, tools, topic, port):
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning", "--workers", "1"]
    argv = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", BENCH / "fastapi", "--port", port, *options]
    environ = {**os.environ, "BENCH_BROKERS": f"{http.HOST}:{rig.kafka_port}", "BENCH_TOPIC": topic}
    return launch(rig, "fastapi", argv, environ), lambda: listens(port)


def librdkafka(linger_ms, rig, tools, topic, port):
    linger = f"queue.buffering.max.ms={linger_ms}"
    argv = [tools.gateway, f"{http.HOST}:{port}", f"{http.HOST}:{rig.kafka_port}", topic, linger]
    return launch(rig, "librdkafka", argv, os.environ), lambda: listens(port)


def launch(rig, name, argv, environ):
    child = supervise.launch(name, argv, rig.folder / "logs" / f"{name}.log", env=environ)
    rig.programs.append(child)
    return child


def listens(port):
    answer = http.get(port, "/")
    return None if answer.status else answer.text


def one_turn(rig, tools, name, gateway, scenario, seconds):
    """Starts the gateway on a new topic, sends for the warm-up and `seconds`, counts what is in the topic, stops it."""
    brokers, topic = f"{http.HOST}:{rig.kafka_port}", f"bench-{os.urandom(4).hex()}"
    tell(tools, "create", brokers, topic, rigs.PARTITIONS)
    port = ports.pick()[0]
    child, asked = gateway(rig, tools, topic, port)
    supervise.wait_ready(child, asked)
    found, spent, seconds = send(rig, tools, child, port, scenario, seconds)
    peak = processes.peak_bytes(child.pid) / 1e6
    rig.stop(child)
    records = int(tell(tools, "count", brokers, topic))
    tell(tools, "delete", brokers, topic)
    check(name, scenario, found, records)
    own, kafka, load, machine = spent
    per_event = 1e6 / max(found["events"], 1)
    return Cost(
        found["events"] / found["seconds"],
        found["p50_ms"],
        found["p99_ms"],
        own * per_event,
        kafka * per_event,
        load * per_event,
        peak,
        max(machine - own - kafka - load, 0) / seconds,
    )


def send(rig, tools, child, port, scenario, seconds):
    """What the load tells; the processor seconds of gateway, Kafka, load and machine while it measured; how long."""
    argv = [tools.load, "run", f"{http.HOST}:{port}", scenario.connections, scenario.batch, WARM_UP_SECONDS, seconds]
    popen = start(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True)
    load = supervise.Child("load", rig.folder / "logs" / "load.log", popen)
    rig.programs.append(load)
    pids = child.pid, rig.kafka.pid, load.pid
    readings = []
    for line in popen.stdout:
        if line.strip() not in ("begin", "end"):
            found = json.loads(line)
            break
        readings.append([*map(processes.tree_cpu_seconds, pids), processes.machine_cpu_seconds()])
    else:
        raise Failure(f"the load ended without a result ({load.how_it_ended()})")
    popen.wait()
    rig.programs.remove(load)
    supervise.need_alive([child])
    return found, [after - before for before, after in zip(*readings, strict=True)], seconds


def tell(tools, *words):
    """Runs a short command of the load program, and returns what it prints."""
    child = start(
        [tools.load, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    answer, trouble = child.communicate()
    if child.returncode != 0:
        raise Failure(f"load {words[0]} failed: {trouble.strip()[:300]}")
    return answer


def check(name, scenario, found, records):
    if found["errors"]:
        say(f"{name}: {scenario.name}: {found['errors']} requests failed, the first: {found['first_error']}")
    if records < found["acknowledged"]:
        lost = found["acknowledged"] - records
        raise Failure(
            f"{name}: {scenario.name}: {lost:,} of {found['acknowledged']:,} acknowledged events are not in kafka"
        )
    if not found["events"]:
        raise Failure(f"{name}: {scenario.name}: not one request was answered 2xx")


def print_table(costs, names):
    """One line for each scenario and gateway."""
    heads = ["events/s", "ratio", "p50-ms", "p99-ms", "CPU-us", "kafka-us", "load-us", "MB", "others"]
    for scenario in SCENARIOS:
        print(f"{scenario.name:32}" + "".join(f"{head:>10}" for head in heads))
        ours = [cost.rate for cost in costs[scenario, "captcha"]]
        for name in names:
            found = costs[scenario, name]
            ratio = median(our / cost.rate for our, cost in zip(ours, found, strict=True))
            middle = Cost(*(median(figures) for figures in zip(*found, strict=True)))
            cells = [f"{middle.rate:,.0f}", f"{ratio:.2f}", f"{middle.p50:.1f}", f"{middle.p99:.1f}"]
            cells += [f"{value:.1f}" for value in (middle.own, middle.kafka, middle.load)]
            cells += [f"{max(cost.peak for cost in found):.0f}", f"{middle.others:.2f}"]
            print(f"  {name:30}" + "".join(f"{cell:>10}" for cell in cells))


if __name__ == "__main__":
    run(main)
