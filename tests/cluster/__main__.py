"""Runs the checks of the cluster one after the other, and prints a table. Everything that it starts ends with it.

Needs what `make cluster` needs. After the checks, the installation is damaged in several ways, each of which must be
noticed. `--only NAME` runs one check after the installation, `--damage NAME` one damage."""

import argparse
import os
import time
from pathlib import Path

from dev.cluster import images, machine, programs
from dev.command import Failure, run, say
from dev.testkit import packages
from tests.cluster import damages, stage
from tests.cluster.checks import CHECKS, QUICK


def arguments():
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crds", type=Path, help="folder of the operators' definitions [default: as make k8s-check]")
    parser.add_argument("--image", type=Path, help="archive of make image [default: build the executable]")
    parser.add_argument("--program", type=Path, help="captcha for this machine [default: that of the image]")
    parser.add_argument("--only", action="append", choices=list(CHECKS), help="these checks alone, after install")
    parser.add_argument(
        "--damage", choices=list(damages.DAMAGES), help="damage the documents, and see that it is noticed"
    )
    parser.add_argument("--quick", action="store_true", help="some checks and damages of each kind, as CI does")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    return parser.parse_args()


def main():
    options = arguments()
    crds = packages.load("dev.manifests.crds", "make cluster-test")
    definitions = options.crds or crds.folder()
    reason = machine.impossible() or ("" if definitions else crds.ABSENT)
    if reason:
        say(f"cluster-test: nothing was checked: {reason}")
        return 1 if os.environ.get("CI") else 0
    built = programs.build()
    images.make(built)
    program = images.captcha(options.image)
    images.copy(program, "0.1.1")
    machine.end()
    machine.remove_data()
    machine.start()
    try:
        overlay = stage.copy_manifests() / "prod"
        scene = stage.Stage(overlay, definitions, options.program or program)
        return all_checks(scene, options)
    finally:
        if not options.keep:
            machine.end()


def all_checks(scene, options):
    wanted = options.only or ([] if options.damage else QUICK if options.quick else list(CHECKS))
    chosen = [name for name in CHECKS if name == "install" or name in wanted]
    rows, failed = [], []
    for name in chosen:
        say(f"== {name}: {first_sentence(CHECKS[name])}")
        scene.numbers = {}
        begin = time.monotonic()
        restore = scene.keep_manifests()
        try:
            CHECKS[name](scene)
            verdict = "ok"
        except Failure as failure:
            restore()
            verdict = f"FAILED: {failure}"
            failed.append(name)
            say(f"cluster-test: {name}: {failure}")
        rows.append((name, time.monotonic() - begin, verdict, dict(scene.numbers)))
        if verdict != "ok" and name == "install":
            break
    tried = damages.QUICK if options.quick else list(damages.DAMAGES)
    if options.only or options.damage:
        tried = [options.damage] if options.damage else []
    for name in tried if not failed else []:
        say(f"== damage {name}, which must be noticed")
        begin = time.monotonic()
        try:
            damages.try_damage(scene, damages.DAMAGES[name])
            verdict = "noticed"
        except Failure as failure:
            verdict = f"FAILED: {failure}"
            failed.append(name)
            say(f"cluster-test: damage {name}: {failure}")
        rows.append((f"damage {name}", time.monotonic() - begin, verdict, {}))
    for name, seconds, verdict, numbers in rows:
        parts = "  ".join(f"{key} {value}" for key, value in numbers.items())
        print(f"{name:<20} {seconds:5.0f} s  {verdict}  {parts}")
    print(f"cluster-test: {len(rows) - len(failed)} of {len(rows)} checks hold", flush=True)
    return 1 if failed else 0


def first_sentence(function):
    return " ".join(function.__doc__.split()).partition(". ")[0].rstrip(".")


if __name__ == "__main__":
    run(main)
