"""What each kind of fault does, as generators: begin, yield while it lasts, heal. One thread steps all of them."""

import signal
import time
from collections import Counter

from dev import ready
from dev.testkit import kafka
from tests.chaos import plan
from tests.chaos.world import TOPIC

MIGRATES = 3
ROLL_SECONDS = 90  # for one broker to stop, and for it to come back


class Faults:
    """Carries a plan out on a world, and counts what was done."""

    def __init__(self, world, faults, migrated, tell):
        self.world = world
        self.migrated = migrated
        self.coming = list(faults)
        self.tell = tell
        self.active = []
        self.done = Counter()  # (target, kind)
        self.skipped = 0  # the target was down already
        self.hurry = False
        self.begin = time.monotonic()
        self.migrates = []

    @property
    def over(self):
        return not self.coming and not self.active

    def step(self):
        """Begins what is due and goes on with what lasts."""
        now = time.monotonic() - self.begin
        while self.coming and self.coming[0].at <= now:
            fault = self.coming.pop(0)
            self.active.append(self.does(fault))
        self.active = [fault for fault in self.active if next(fault, "over") != "over"]
        self.reap_migrates()

    def heal(self):
        """Ends what lasts, at once."""
        self.coming.clear()
        self.hurry = True
        while self.active:
            self.step()
            time.sleep(0.02)

    def does(self, fault):
        target, kind = fault.target, fault.kind
        if target in self.world.link:
            doing = self.link(fault)
        elif (target, kind) == ("migrate", "kill"):
            doing = self.migrated.kill(fault, self.pause)
        elif target == "migrate":
            doing = self.migrate()
        elif target == "all brokers":
            doing = self.roll()
        elif target == "a leader":
            doing = self.kill(self.leader(), fault.seconds)
        else:
            ways = {"kill": self.kill, "lose": self.lose, "stop": self.freeze}
            doing = ways[kind](target, fault.seconds)
        happened = next(doing, "over") != "over"
        now = time.monotonic() - self.begin
        line = plan.shown(fault._replace(at=now))
        self.tell(line if happened else f"{line}  skipped: it is down")
        if happened:
            self.done[target, kind] += 1
            yield
            yield from doing
        else:
            self.skipped += 1

    def pause(self, seconds):
        end = time.monotonic() + seconds
        yield
        while time.monotonic() < end and not self.hurry:
            yield

    def kill(self, name, seconds):
        if (yield from self.lose(name, seconds)):
            self.world.start(name)

    def lose(self, name, seconds):
        """Kills it, for good unless the caller starts it again; whether it ran."""
        if name not in self.world.expected or not self.world.kill(name):
            return False
        yield from self.pause(seconds)
        return True

    def freeze(self, name, seconds):
        if not (name in self.world.expected and self.world.check(name)):
            return
        child = self.world.children[name]
        child.send(signal.SIGSTOP)
        yield from self.pause(seconds)
        child.send(signal.SIGCONT)  # a roll may have stopped it meanwhile; then nobody is there to hear it

    def link(self, fault):
        link = self.world.link[fault.target]
        hit = self.world.links.call(link.begin, fault.kind, fault.detail)
        yield from self.pause(fault.seconds)
        self.world.links.call(link.end, fault.kind, fault.detail, hit)

    def migrate(self):
        """Three at once. They may fail while the servers are away; in the end they must have ended, in order."""
        for number in range(1, MIGRATES + 1):
            name = f"migrate-{number}"
            previous = self.world.children.get(name)
            if previous is None or not previous.alive():
                child = self.world.launch(name, [self.world.program, "migrate"])
                self.world.children[name] = child
                self.migrates.append(child)
        yield

    def reap_migrates(self):
        for child in [child for child in self.migrates if not child.alive()]:
            self.migrates.remove(child)
            if child.popen.returncode not in (0, 1):
                self.world.ended.append(f"captcha migrate ({child.how_it_ended()})")

    def leader(self):
        """The broker that leads partition 0 now; None if nobody knows."""
        try:
            node = kafka.partitions(self.world.broker_ports(), TOPIC)[0][0]
        except (OSError, KeyError):
            return None
        return self.world.brokers[node - 1] if node > 0 else None

    def roll(self):
        """Each broker in turn: asked to stop, started again, waited for until its replicas are in sync."""
        begin = time.monotonic()
        for name in self.world.brokers:
            yield
            if not (name in self.world.expected and self.world.check(name)):
                continue
            self.world.expected.discard(name)
            child = self.world.children[name]
            child.send(signal.SIGTERM)
            yield from self.until(lambda: not child.alive())
            if child.alive():
                child.send(signal.SIGKILL)
                child.popen.wait()
            self.world.start(name)
            yield from self.until(lambda: ready.kafka(self.world.port[name]) is None)
            yield from self.until(lambda: self.world.out_of_sync() is None)
            now = time.monotonic()
            self.tell(f"{now - self.begin:7.2f} s  {name} has rolled, {now - begin:.1f} s after the first was stopped")

    def until(self, reached):
        """Waits, with a bound; asks only now and then, because asking takes time that the other faults need."""
        end = time.monotonic() + ROLL_SECONDS
        while time.monotonic() < end and not self.hurry and not reached():
            yield from self.pause(0.5)
