"""Tries every setting of ClickHouse as the profile of captcha's user, and writes what came of it to found.tsv.

Each value is the profile of a user of its own. `read`: that user asks for the report, the audit and the dead letters of
a database that is there. `write`: it migrates a database of its own and consumes into it what the same topic holds;
then somebody without any setting asks for the report and the audit. Many values are tried together, and fewer where
that changed something, each alone in the end.

same: as without the profile. refused: one line that says why and what to do. raw: the server's words with a code that
captcha does not know, and the advice to look at the profile. hang: nothing was said in time. WRONG and crash: faults.

Run with servers of its own: python3 dev/stack.py with -- python3 -m tests.settings.survey
What is done is kept in .dev/settings, so it goes on where it was stopped; --again PATTERN forgets some of it."""

import argparse
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dev.command import run, say
from dev.testkit import captcha, servers
from tests.settings.attempt import LOGS, SAME, Attempts
from tests.settings.profiles import Server
from tests.settings.trials import trials

FOUND = Path(__file__).with_name("found.tsv")

# How many values are tried together, first and then.
SIZES = {"read": (8, 1), "write": (24, 6, 1)}


class Log:
    """What is known, kept on disk line by line."""

    def __init__(self, path, again):
        self.path, self.lock, self.known = path, threading.Lock(), {}
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            part, trial, outcome, said = line.split("\t")
            if not (again and re.search(again, trial)):
                self.known[part, trial] = (outcome, said)
        path.write_text("".join(self.line(*key, *value) for key, value in self.known.items()))

    @staticmethod
    def line(part, trial, outcome, said):
        said = re.sub(r"127\.0\.0\.1:\d+|\bw\d+\b|\bt\d+\b", "_", re.sub(r"\s+", " ", said))
        return f"{part}\t{trial}\t{outcome}\t{said[:400]}\n"

    def add(self, part, trial, outcome, said):
        line = self.line(part, trial, outcome, said)
        with self.lock:
            self.known[part, trial] = (outcome, line.rstrip("\n").split("\t")[3])
            with open(self.path, "a") as file:
                file.write(line)


def run_part(log, part, profiles, options, given):
    """Tries what is not known in ever smaller groups, until a group changed nothing or has one trial alone."""
    for size in SIZES[part]:
        left = [name for name in profiles if (part, name) not in log.known]
        if size > 1:  # what changed something in another part would spoil its group
            left = [name for name in left if all(log.known.get((other, name), SAME) == SAME for other in SIZES)]
        groups = groups_of(left, profiles, size)
        if not groups:
            continue
        users = {f"t{number}": merged(profiles[name] for name in group) for number, group in enumerate(groups)}
        server = Server(given.logs.parent / "survey" / f"{part}{size}", users)
        attempts = Attempts(options.program, server, given, f"{part}{size}")
        attempts.prepare()
        begin, done = time.monotonic(), 0

        def one(item):
            nonlocal done
            number, group = item
            outcome = getattr(attempts, part)(f"t{number}", number)
            for name in group if size == 1 or outcome == SAME else ():
                log.add(part, name, *outcome)
            done += 1
            if done % 100 == 0 or done == len(groups):
                seconds = time.monotonic() - begin
                say(f"{part}, {size} at a time: {done} of {len(groups)} in {seconds:.0f} s")

        with ThreadPoolExecutor(options.workers) as pool:
            list(pool.map(one, enumerate(groups)))
        server.stop()


def merged(profiles):
    return {key: value for profile in profiles for key, value in profile.items()}


def groups_of(names, profiles, size):
    """Trials that are tried together: none that says otherwise of a setting than another."""

    def fits(one, other):
        return all(other.get(key, value) == value for key, value in one.items())

    groups = []
    for name in names:
        for group in groups[-40:]:
            if len(group) < size and all(fits(profiles[name], profiles[member]) for member in group):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def worst(outcomes):
    order = ["same", "refused", "raw", "hang", "crash", "server crash", "WRONG"]
    return max(outcomes, key=lambda outcome: order.index(outcome[0]))


def write_found(log, names, invalid, version):
    """One line for each setting and outcome: its values, and what was said of the first of them."""
    lines = {}
    for name in names:
        known = [log.known[key] for key in ((part, name) for part in SIZES) if key in log.known]
        outcome, said = worst(known) if known else ("untried", "")
        setting, _, value = name.partition("=")
        lines.setdefault((setting, outcome), []).append((value, said))
    for name in invalid:
        setting, _, value = name.partition("=")
        lines.setdefault((setting, "refused by the server"), []).append((value, ""))
    with open(FOUND, "w") as file:
        file.write(f"# {version}: made by survey.py\n# setting\toutcome\tvalues\twhat was said of the first\n")
        for (setting, outcome), values in sorted(lines.items()):
            file.write(f"{setting}\t{outcome}\t{'  '.join(value for value, _ in values)}\t{values[0][1]}\n")
    totals = {}
    for name in names:
        for key in SIZES:
            if (key, name) in log.known:
                outcome = (key, log.known[key, name][0])
                totals[outcome] = totals.get(outcome, 0) + 1
    for (key, outcome), count in sorted(totals.items()):
        print(f"{key}\t{outcome}\t{count}")


def main():
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.settings.survey",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    captcha.add_program(parser)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", metavar="PATTERN", help="only trials whose `setting=value` has this")
    parser.add_argument("--again", metavar="PATTERN", help="forget what is known of these trials first")
    parser.add_argument("--part", choices=["read", "write"], help="one half alone")
    options = parser.parse_args()
    given = servers.given("make settings")
    LOGS.mkdir(parents=True, exist_ok=True)
    log = Log(LOGS / "done.tsv", options.again)
    plain = Server(given.logs.parent / "survey" / "plain", {})
    profiles, invalid = trials(plain.ask)
    version = plain.ask("SELECT 'ClickHouse ' || version() || ', ' || count() || ' settings' FROM system.settings")[
        1
    ].strip()
    plain.stop()
    profiles = {name: profile for name, profile in profiles.items() if re.search(options.only, name)}
    say(f"{version}: {len(profiles)} trials, {len(invalid)} values that the server does not take")
    parts = [options.part] if options.part else list(SIZES)
    for part in parts:
        run_part(log, part, profiles, options, given)
    write_found(log, list(profiles), invalid, version)


if __name__ == "__main__":
    run(main)
