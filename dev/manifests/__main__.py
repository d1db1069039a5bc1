"""Checks the Kubernetes manifests: they render, fit the schemas of two Kubernetes versions, and fit together.

Without a folder it checks the base, every overlay, and the base with each component and each pair of them. One line for
each, then one line per problem; exit 1 when there is one. Needs kubectl (or kustomize), the built captcha executable,
which is asked for the settings that it knows, and the packages that `make k8s-check` installs. The definitions of
custom resources are read from $CRDS, or from ../shared/k8s/crds beside the checkout, alerts are tested with what
`make promtool` builds, or $PROMTOOL, and the Helm chart with what `make helm` builds, or $HELM; where there are none it
says so, and fails in CI."""

import argparse
from pathlib import Path

from dev import supervise
from dev.command import run
from dev.testkit import packages


def arguments():
    parser = argparse.ArgumentParser(
        prog="python3 -m dev.manifests", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dir", type=Path, help="check this kustomization alone")
    parser.add_argument("--binary", type=Path, help="the captcha executable [default: the newest in target/]")
    parser.add_argument(
        "--self-test", action="store_true", help="only damage the documents and see that each rule complains"
    )
    parser.add_argument(
        "--scraped",
        action="store_true",
        help="only run captcha on the servers of `dev/stack.py with`, and hold the queries against its /metrics",
    )
    return parser.parse_args()


def main():
    options = arguments()
    program = packages.load("dev.manifests.executable", "make k8s-check").chosen(options.binary)
    if options.scraped:
        scraped = packages.load("dev.manifests.scraped", "make test")
        return supervise.to_the_end(lambda signals: scraped.carry_out(program, signals))
    return packages.load("dev.manifests.check", "make k8s-check").carry_out(options, program)


if __name__ == "__main__":
    run(main)
