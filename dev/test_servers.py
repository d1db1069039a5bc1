"""Runs the end-to-end tests that depend on a server against each version of Kafka and of ClickHouse that dev/fetch.py
knows, one axis at a time: each Kafka with the usual ClickHouse, each ClickHouse with the usual Kafka. Prints a line for
each pair; exit code 1 if a test failed. With --ends: two pairs alone, the oldest of both and the newest of both."""

import argparse
import os
import re
import subprocess
import sys
import time

from dev import fetch, supervise
from dev.command import DEV, STATE, Failure, run, say, shown, start

# Beginnings of the names of tests in tests/e2e. Those of HTTP alone are left out, those of replicas, which only the
# usual engine can be, and of each kind of trouble that a server may have all but a few.
TESTS = (
    "audit::",
    "challenges::each_event",
    "consume::",
    "errors::",
    "complete_through::",
    "consume_holds::a_missing_table",
    "consume_holds::a_topic_that_takes_only_small_batches",
    "consume_holds::not_enough_space_by_a_setting",
    "consume_holds::users_that_may_not",
    "kafka_logs::",
    "migrate::",
    "drop_months::killed",
    "drop_months::old_months",
    "newer_servers::",
    "outages::clickhouse_away",
    "outages::kafka_away",
    "dashboard::",
    "questions::",
    "secure_kafka::every_way_in",
    "serve::posted",
    "serve::records",
    "serve::the_same",
    "settings::",
)
# Tests whose cause a version does not have.
SKIPPED = {
    "25.8": (
        "newer_servers::",  # what calls itself newer is asked for settings that came later
        "settings::",  # profiles have settings that came later, and the server does not start with them
    ),
}
LOGS = STATE / "logs" / "test-servers"
SHOWN = 5  # tests that failed, in the line of a pair
SECONDS_MAX = 1800  # for one pair; the slowest took a fifth of it


def pairs(ends):
    """Versions of Kafka and ClickHouse that are run together."""
    kafkas, clickhouses = list(fetch.KAFKAS), list(fetch.CLICKHOUSES)
    if ends:
        return [(kafkas[0], clickhouses[0]), (kafkas[-1], clickhouses[-1])]
    with_clickhouse = [(fetch.KAFKA, clickhouse) for clickhouse in clickhouses]
    return with_clickhouse + [(kafka, fetch.CLICKHOUSE) for kafka in kafkas if kafka != fetch.KAFKA]


def refuse_unknown():
    """Fails if a beginning fits no test, which would be left out without a word."""
    command = ["cargo", "test", "--locked", "--test", "e2e", "--", "--list"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    skipped = [test for tests in SKIPPED.values() for test in tests]
    unknown = [test for test in (*TESTS, *skipped) if test not in listed]
    if unknown:
        raise Failure(f"no test of tests/e2e is called {', '.join(unknown)}; see TESTS in {shown(__file__)}")


def run_pair(kafka, clickhouse, log):
    """The line of this pair, and whether all went well."""
    begin = time.monotonic()
    command = [sys.executable, DEV / "stack.py", "with", "--", "cargo", "test", "--locked", "--test", "e2e", "--"]
    environ = {**os.environ, "DEV_KAFKA": kafka, "DEV_CLICKHOUSE": clickhouse}
    with open(log, "wb") as output:
        skipped = (word for test in SKIPPED.get(clickhouse, ()) for word in ("--skip", test))
        child = start([*command, *TESTS, *skipped], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ)
        try:
            code = child.wait(SECONDS_MAX)
        except BaseException as error:
            child.terminate()
            child.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            code = None
    text = log.read_text(errors="replace")
    counts = re.findall(r"^test result: \w+\. (\d+ passed; \d+ failed)", text, re.MULTILINE)
    failed = re.findall(r"^test (\S+) .*FAILED$", text, re.MULTILINE)
    said = counts[-1] if counts else f"no result in {SECONDS_MAX} s" if code is None else "no result"
    line = f"kafka {fetch.KAFKAS[kafka].version:8}clickhouse {fetch.CLICKHOUSES[clickhouse].version:8}"
    line += f"{'ok' if code == 0 else 'FAILED':8}{said:24}{time.monotonic() - begin:5.0f} s"
    if code != 0:
        more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
        line += f"   {', '.join(failed[:SHOWN])}{more}: see {shown(log)}"
    return line, code == 0


def test_servers(options):
    refuse_unknown()
    LOGS.mkdir(parents=True, exist_ok=True)
    lines, good = [], True
    for kafka, clickhouse in pairs(options.ends):
        say(f"kafka {kafka} with clickhouse {clickhouse}: {len(TESTS)} kinds of tests ...")
        line, is_good = run_pair(kafka, clickhouse, LOGS / f"kafka-{kafka}-clickhouse-{clickhouse}.log")
        say(line)
        lines.append(line)
        good = good and is_good
    print("\n".join(["", *lines]))
    return 0 if good else 1


def main():
    parser = argparse.ArgumentParser(prog="test_servers.py", description=__doc__)
    parser.add_argument("--ends", action="store_true", help="only the oldest of both, and the newest of both")
    options = parser.parse_args()
    return supervise.to_the_end(lambda _signals: test_servers(options))


if __name__ == "__main__":
    run(main)
