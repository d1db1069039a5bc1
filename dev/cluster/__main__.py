"""A real Kubernetes of one node on this machine, with an overlay of k8s/ installed.

It is built from sources with Go the first time (6 to 10 minutes on two processors), and runs in namespaces of its own,
without a way out: `kubectl` and other commands enter it. Needs Linux and root."""

import argparse
import time
from pathlib import Path

from dev.cluster import images, install, layout, machine, programs
from dev.command import ROOT, Failure, run, say, shown, write
from dev.testkit import packages

OVERLAYS = ROOT / "k8s" / "overlays"


def arguments():
    parser = argparse.ArgumentParser(
        prog="python3 -m dev.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="build it, start it, install an overlay, and say how to look")
    up.add_argument("--overlay", default="local", choices=sorted(path.name for path in OVERLAYS.iterdir()))
    up.add_argument("--crds", type=Path, help="folder of the operators' definitions; overlays/local needs none")
    up.add_argument("--image", type=Path, help="archive of make image [default: build the executable]")
    down = commands.add_parser("down", help="end it; its data stays")
    down.add_argument("--remove-data", action="store_true", help="and forget its data; programs and images stay")
    commands.add_parser("build", help="build its programs, and nothing else")
    return parser.parse_args()


def main():
    options = arguments()
    if options.command == "build":
        say(f"Kubernetes {programs.version()} is in {shown(programs.build())}")
    elif options.command == "down":
        machine.end()
        if options.remove_data:
            machine.remove_data()
    else:
        up(options)
    return 0


def up(options):
    crds = packages.load("dev.manifests.crds", "make cluster")
    reason = machine.impossible()
    if reason:
        raise Failure(reason)
    begin = time.monotonic()
    built = programs.build()
    images.make(built)
    program = images.captcha(options.image)
    machine.start()
    say(f"Kubernetes {programs.version()} runs")
    install.install(OVERLAYS / options.overlay, options.crds or crds.folder(), program)
    for script, argv in ((layout.ENTER, machine.enter()), (layout.KUBECTL, install.kubectl.argv())):
        write(
            script,
            f'#!/bin/sh\n# {script.name} in the cluster of this checkout.\nexec {" ".join(map(str, argv))} "$@"\n',
        )
        script.chmod(0o755)
    address = install.kubectl.read("get", "service/captcha", "--namespace", install.SPACE)["spec"]["clusterIP"]
    print(f"""
overlays/{options.overlay} is installed, after {time.monotonic() - begin:.0f} s.
  look at it   {shown(layout.KUBECTL)} get pods --all-namespaces
  ask it       {shown(layout.ENTER)} curl -s http://{address}/v1/report
  API keys     {shown(install.KEYS) if install.api_keys()[0] else "none are needed"}
  end it       make cluster-down""")


if __name__ == "__main__":
    run(main)
