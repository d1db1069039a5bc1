"""Measures two executables of captcha against each other, in turns: `captcha serve` with single events over 64
connections and with batches of 100, and `captcha consume` with a backlog.

On servers of its own, which end with it. The ratio is that of the two in each pair, `after` to `before`: above 1 is
faster. Shown are its median over all pairs, and the least and the most."""

import argparse
from pathlib import Path
from statistics import median

from dev.bench import consume, rig, serve
from dev.command import run, say
from dev.testkit import captcha

SCENARIOS = [serve.SCENARIOS[0], serve.SCENARIOS[2]]


def options():
    parser = argparse.ArgumentParser(
        prog="python3 -m dev.bench.pairs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="an executable of captcha")
    parser.add_argument("after", type=Path, help="another one")
    parser.add_argument("--pairs", type=int, default=7, help="default: 7")
    parser.add_argument("--seconds", type=int, default=4, help="of load in each turn of serve (default: 4)")
    parser.add_argument("--events", type=int, default=1_000_000, help="of the backlog (default: 1,000,000)")
    chosen = parser.parse_args()
    return chosen


def measure(stand, tools, programs, chosen):
    ratios = {scenario.name: [] for scenario in SCENARIOS} | {"draining a backlog": []}
    stand.migrate("bench_load")
    rig.preload(stand, "bench_load", chosen.events)
    for number in range(chosen.pairs):
        order = [0, 1] if number % 2 == 0 else [1, 0]
        for scenario in SCENARIOS:
            rates = {}
            for which in order:
                stand.program = programs[which]
                cost = serve.one_turn(stand, tools, "captcha", serve.captcha_serve, scenario, chosen.seconds)
                rates[which] = cost.rate
            ratios[scenario.name].append(rates[1] / rates[0])
            say(f"pair {number + 1}: {scenario.name}: {rates[0]:,.0f} and {rates[1]:,.0f} events/s")
        seconds = {}
        for which in order:
            stand.program = programs[which]
            seconds[which] = consume.consume(stand, f"bench_{number}_{which}", chosen.events).seconds
        ratios["draining a backlog"].append(seconds[0] / seconds[1])
        say(f"pair {number + 1}: draining a backlog: {seconds[0]:.2f} and {seconds[1]:.2f} s")
    for name, found in ratios.items():
        print(f"{name:32} ratio {median(found):.3f}   from {min(found):.3f} to {max(found):.3f}")


def main():
    chosen = options()
    programs = [captcha.prepare(program) for program in (chosen.before, chosen.after)]
    tools = serve.build()
    return rig.with_servers(chosen.after, lambda stand: measure(stand, tools, programs, chosen))


if __name__ == "__main__":
    run(main)
