"""The plan of faults: a pure function of the seed, so that a run that found something can be run again."""

import random
from collections import namedtuple

# detail is a number or a word whose meaning depends on the kind; see shown_detail.
Fault = namedtuple("Fault", "at target kind seconds detail")
Target = namedtuple("Target", "name weight kinds rest")

PROCESS_KINDS = ("kill", "kill", "stop")  # kills are short, so they may be more
LINK_KINDS = ("cut", "half-close", "delay", "black-hole", "mute")
MEAN_GAP_SECONDS = 0.9
SERVES = ("serve-1", "serve-2")
CONSUMES = ("consume-1", "consume-2", "consume-3")


def brokers_named(count):
    return tuple(f"kafka-{number}" for number in range(1, count + 1))


def link_of(server):
    return f"{server} link"


def partitions(seed):
    """How many partitions the topic of this run has."""
    return random.Random(f"{seed} partitions").choice((2, 3, 4))


def targets(brokers):
    """What can be hit. `rest` is how long it is left alone afterwards: servers need it to come back at all."""
    found = [Target(name, 2, PROCESS_KINDS, 1) for name in SERVES]
    found += [Target(name, 3, PROCESS_KINDS, 1) for name in CONSUMES]
    found += [Target("clickhouse", 3, PROCESS_KINDS, 3), Target(link_of("clickhouse"), 3, LINK_KINDS, 2)]
    for name in brokers_named(brokers):
        found += [Target(name, 2 / brokers, PROCESS_KINDS, 8), Target(link_of(name), 3 / brokers, LINK_KINDS, 2)]
    found.append(Target("migrate", 2, ("3 at once", "kill", "kill"), 3))
    if brokers > 1:
        found += [Target("a leader", 1, ("kill",), 10), Target("all brokers", 0.4, ("roll",), 60)]
    return found


def plan(seed, count, brokers):
    """`count` faults in the order of their beginning; no target is hit again before it had its rest."""
    rng = random.Random(f"{seed} plan")
    choices = targets(brokers)
    free_at = {target.name: 0.0 for target in choices}
    now = 1.0
    faults = []
    while len(faults) < count:
        now += rng.expovariate(1 / MEAN_GAP_SECONDS)
        free = [target for target in choices if free_at[target.name] <= now]
        if not free:
            continue
        target = rng.choices(free, [choice.weight for choice in free])[0]
        kind = rng.choice(target.kinds)
        fault = Fault(round(now, 2), target.name, kind, *draw(rng, target.name, kind))
        faults.append(fault)
        free_at[target.name] = now + fault.seconds + target.rest
    return faults


def rolls():
    """What operators and bad days do to three brokers, one after the other: nothing else is hit."""
    return [
        Fault(3.0, "a leader", "kill", 3.0, None),
        Fault(20.0, "all brokers", "roll", 0.0, None),
        Fault(140.0, "kafka-2", "stop", 20.0, None),
        Fault(175.0, "kafka-3", "lose", 45.0, None),  # and the load goes on for so long
    ]


def draw(rng, target, kind):
    """Seconds and detail. Short ones are more likely, so that the system gets to work between them."""
    lasting = round(2 + 18 * rng.random() ** 3, 1)
    if (target, kind) == ("migrate", "kill"):
        # After so long; under load, all migrations together take about that.
        return round(rng.uniform(0, 1.5), 2), rng.choice(("new", "on"))
    if kind == "kill":
        return round(2 * rng.random() ** 2, 1), None
    if kind == "stop":
        return (round(rng.uniform(20, 60), 1) if rng.random() < 0.04 else lasting), None
    if kind == "cut":
        # After some more bytes: in the middle of a message, not between two.
        return 1.0, rng.choice((0, rng.randrange(1, 400), rng.randrange(1, 20_000)))
    if kind == "half-close":
        return lasting, rng.choice(("up", "down"))
    if kind == "delay":
        return lasting, rng.randrange(50, 2001)
    if kind in ("black-hole", "mute"):
        return lasting, rng.choice(("late", "reset"))
    return 0.0, None  # ends by itself


def shown_detail(fault):
    if fault.kind == "cut":
        return f"after {fault.detail} bytes"
    if fault.kind == "half-close":
        return "towards the server" if fault.detail == "up" else "towards captcha"
    if fault.kind == "delay":
        return f"{fault.detail} ms"
    if fault.detail in ("new", "on"):
        return "in a new database" if fault.detail == "new" else "in the same database"
    return {"late": "then delivered", "reset": "then reset", None: ""}[fault.detail]


def shown(fault):
    """One line: when, what, how, how long."""
    lasting = f"{fault.seconds:.1f} s" if fault.seconds else ""
    return f"{fault.at:7.2f} s  {fault.target:<16} {fault.kind:<13} {lasting:>7}  {shown_detail(fault)}".rstrip()
