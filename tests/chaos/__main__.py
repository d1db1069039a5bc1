"""Breaks captcha on purpose: kills, freezes and cuts off its processes and servers under load, then counts.

Every event that a client was promised must be counted once, every other at most once. The faults follow from the seed,
their effect does not: a run with the same seed does the same to the system, at nearly the same moments."""

import argparse
import random
import shutil
import sys
import time
from pathlib import Path

from dev import supervise, throwaway
from dev.command import STATE, Failure, run, say, say_over, shown
from dev.testkit import captcha
from tests.chaos import plan
from tests.chaos.faults import Faults
from tests.chaos.load import Load
from tests.chaos.migrated import Migrated
from tests.chaos.verdict import Verdict
from tests.chaos.witness import Witness
from tests.chaos.world import World

KEPT = STATE / "chaos"
TICK_SECONDS = 0.02
FINISH_SECONDS = 60  # for clients and migrates, once nothing is broken any more


def arguments():
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=whole, default=100, metavar="COUNT", help="how many faults [default: 100]")
    parser.add_argument("--seed", type=whole, help="the same number gives the same faults [default: a random one]")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1, help="Kafka brokers [default: 1]")
    parser.add_argument(
        "--rolls",
        action="store_true",
        help="hit three brokers alone: kill a leader, roll all, freeze one, leave one down; serve must answer in time",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the faults and do nothing")
    parser.add_argument("--program", type=Path, help="captcha to break [default: this checkout's, built for release]")
    options = parser.parse_args()
    if options.rolls:
        options.brokers, options.faults = 3, len(plan.rolls())
    if options.seed is None:
        options.seed = random.randrange(1_000_000)
    return options


def whole(text):
    """int() alone would take -1 and 1_000 too."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def title(options):
    partitions = plan.partitions(options.seed)
    what = "rolls: " if options.rolls else f"chaos: FAULTS={options.faults} "
    return f"{what}SEED={options.seed} BROKERS={options.brokers}, {partitions} partitions"


def planned(options):
    return plan.rolls() if options.rolls else plan.plan(options.seed, options.faults, options.brokers)


class Run:
    """One run, from empty folders to the verdict."""

    def __init__(self, options, world, clients, faults):
        self.title = title(options)
        self.world = world
        self.clients = clients
        self.faults = faults
        self.witness = Witness(world, clients)
        self.verdict = Verdict(world, clients, self.witness, faults.migrated)

    def step(self):
        self.faults.step()
        self.world.check_all()

    def carry_out(self):
        self.world.begin()
        self.clients.start()
        self.witness.start()
        self.faults.begin = time.monotonic()
        try:
            while not self.faults.over:
                self.step()
                say_over(self.progress())
                time.sleep(TICK_SECONDS)
            say_over("")
            self.faults.heal()
            self.wait_clients()
            self.wait_migrates()
            self.verdict.wait_caught_up(self.step)
            self.witness.finish(self.step)
            self.faults.migrated.finish()
            self.verdict.check()
        except (Failure, OSError) as trouble:  # the table says what is known all the same
            self.verdict.wrong.append(f"could not look at everything: {trouble}")
        self.verdict.note_events()
        if self.clients.patient:
            self.verdict.note_times()

    def progress(self):
        clients = self.clients
        quiet = time.monotonic() - clients.last
        what = f"{sum(self.faults.done.values())} faults, {len(clients.accepted)} events accepted"
        return f"{what}, the last {quiet:.0f} s ago" if quiet >= 1 else what

    def wait_clients(self):
        """Each client may finish what it is trying to send; nothing is in its way any more."""
        self.clients.ending = True
        begin = time.monotonic()
        while any(thread.is_alive() for thread in self.clients.threads):
            self.step()
            if time.monotonic() - begin > FINISH_SECONDS:
                self.verdict.wrong.append(f"events are not accepted {FINISH_SECONDS} s after everything was healed")
                break
            time.sleep(TICK_SECONDS)
        else:
            return
        self.clients.note_gap()

    def wait_migrates(self):
        begin = time.monotonic()
        while self.faults.migrates:
            self.step()
            if time.monotonic() - begin > FINISH_SECONDS:
                self.verdict.wrong.append(
                    f"captcha migrate has not ended {FINISH_SECONDS} s after everything was healed: "
                    + ", ".join(f"{child.name} (pid {child.pid})" for child in self.faults.migrates)
                )
                return
            time.sleep(TICK_SECONDS)
        self.world.wait_servers()  # one may have been killed last of all
        self.world.migrate_once()


def carry_out(options, signals):
    program = captcha.prepare(options.program)
    say(title(options))
    folder, lock = throwaway.new_folder()
    world = None
    keep = False
    try:
        world = World(folder, lock, program, options.brokers, plan.partitions(options.seed))
        (folder / "logs").mkdir(exist_ok=True)
        with open(folder / "logs" / "faults.log", "w", buffering=1) as log:
            chaos = Run(
                options,
                world,
                Load(options.seed, [world.port[name] for name in plan.SERVES], options.rolls),
                Faults(
                    world,
                    planned(options),
                    Migrated(world),
                    lambda line: tell(line, log),
                ),
            )
            keep = True
            chaos.carry_out()
            table = chaos.verdict.table(chaos.title, chaos.faults)
            print(table, flush=True)
            log.write(f"\n{table}\n")
        keep = bool(chaos.verdict.wrong)
        return 1 if keep else 0
    except supervise.Stopped:
        keep = False
        raise
    finally:
        signals.ignore_first()
        say_over("")
        if world:
            world.end()
        put_away(folder, options.seed, keep)


def tell(line, log):
    log.write(line + "\n")
    if sys.stdout.isatty():
        say_over("")
        print(line, flush=True)


def put_away(folder, seed, keep):
    """Removes the folder, or moves it to where the next command does not take it for a leftover."""
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
        return
    target = KEPT / f"seed-{seed}"
    shutil.rmtree(target, ignore_errors=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, target)
    say(f"data and logs are kept in {shown(target)}")


def main():
    options = arguments()
    if options.dry_run:
        print(title(options))
        for fault in planned(options):
            print(plan.shown(fault))
        return 0
    return supervise.to_the_end(lambda signals: carry_out(options, signals))


if __name__ == "__main__":
    run(main)
