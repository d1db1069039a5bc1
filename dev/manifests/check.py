"""All checks of the manifests, one after the other."""

import os
import sys
import tomllib

import kubernetes_validate

from dev.command import ROOT, Failure
from dev.manifests import chart, crds, executable, monitoring, rules, scanners, selftest
from dev.manifests.documents import World
from dev.manifests.render import applied_first, first_line, render, render_base_with, targets

KUBERNETES = ("1.32", "1.37")  # the oldest that the manifests are meant for, and a new one
SELF_TESTED = ROOT / "k8s" / "overlays" / "prod-ha"  # it has everything that operators make
WITH_SERVERS = ROOT / "k8s" / "overlays" / "local"  # it has servers as plain workloads


class Checker:
    """What documents are checked against, and what has been found."""

    def __init__(self, program):
        self.version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
        self.known = executable.known_settings(program)
        self.custom = definitions()
        self.watched, self.promtool, self.helm = monitoring.read(), promtool(), helm()
        self.problems, self.checks = [], 0

    def add(self, what, problems, checks):
        self.problems += problems
        self.checks += checks
        print(what)

    def world(self, docs):
        return World([*applied_first(), *docs], self.version, self.known, KUBERNETES[0])

    def schemas(self, docs):
        found = [problem for version in KUBERNETES for problem in schema_problems(docs, version)]
        return found + list(crds.problems(docs, self.custom) if self.custom else [])

    def check_documents(self, label, docs, without=()):
        problems, checks = list(self.schemas(docs)), len(docs) * len(KUBERNETES)
        for group, facts in rules.facts(self.world(docs)).items():
            problems += [f"{group}: {fact.complaint()}" for fact in facts if not fact.ok and fact.rule not in without]
            checks += len(facts)
        line = f"{label:45} {len(docs)} documents, {checks} checks"
        self.add(line, [f"{label}: {problem}" for problem in problems], checks)

    def check_the_rest(self):
        self.add("Dockerfile: hadolint, digests", scanners.dockerfile_problems((ROOT / "Dockerfile").read_text()), 3)
        line = f"{SELF_TESTED.relative_to(ROOT)}: checkov"
        self.add(line, scanners.checkov_problems(render(SELF_TESTED)), 2)
        secrets = ", ".join(f"{name} (keys {', '.join(sorted(keys))})" for name, keys in rules.OUT_OF_BAND.items())
        print(f"secrets to be made by hand: {secrets}")
        alerts, panels = len(monitoring.alerts(self.watched.groups)), len(self.watched.board["panels"])
        problems = monitoring.problems(self.watched, self.promtool)
        self.add(f"monitoring: {alerts} alerts, {panels} panels and rows", problems, 1)

    def check_chart(self, kustomized):
        """The Helm chart renders what the kustomizations render; and what only the chart can render is right too."""
        problems, checks, compared = list(chart.own_problems(self.helm, self.version)), 1, 0
        for label, docs in dict(kustomized).items():  # some pairs need the same components
            if (values := chart.values_of(label)) is not None:
                charted = chart.render(self.helm, values)
                problems += [f"differs from {label}: {line}" for line in chart.differences(docs, charted)]
                compared, checks = compared + 1, checks + len(charted)
        problems += chart.refusals(self.helm)
        line = f"k8s/chart: equal to {compared} kustomizations, {len(chart.REFUSED)} wrong values refused"
        self.add(line, [f"k8s/chart: {problem}" for problem in problems], checks + len(chart.REFUSED))
        variants = [(*variant, chart.STAND_INS) for variant in chart.VARIANTS]
        variants += [(f"as {folder}", values, (), ()) for folder, values in chart.FOLDERS.items()]
        for label, values, without, stand_ins in variants:
            for version in KUBERNETES:
                docs = chart.for_the_rules(chart.render(self.helm, values, version), stand_ins)
                self.check_documents(f"k8s/chart {label}, on {version}", docs, without)

    def self_test(self):
        worlds = [self.world(render(folder)) for folder in (SELF_TESTED, WITH_SERVERS)]
        worlds.append(self.world(render_base_with(["daily-report"])))
        lines, damages = selftest.run(*worlds, self.schemas, self.custom is not None)
        more_lines, more_damages = selftest.run_monitoring(self.watched, self.promtool)
        lines, damages = lines + more_lines, damages + more_damages
        if self.helm:
            charted = chart.render(self.helm, chart.FOLDERS["overlays/prod-ha"])
            more_lines, more_damages = selftest.run_chart(render(SELF_TESTED), charted, self.helm)
            lines, damages = lines + more_lines, damages + more_damages
        self.add(f"self-test: {damages} damages to the documents, {len(lines)} unnoticed", lines, damages)


def carry_out(options, program):
    checker = Checker(program)
    if not options.self_test:
        kustomized = [(str(options.dir), render(options.dir))] if options.dir else list(targets())
        for label, docs in kustomized:
            checker.check_documents(label, docs)
        if checker.helm and not options.dir:
            checker.check_chart(kustomized)
        checker.check_the_rest()
    if not checker.problems:
        checker.self_test()
    sys.stdout.flush()
    for problem in checker.problems:
        print(f"k8s-check: {problem}", file=sys.stderr)
    sys.stderr.flush()
    print(f"k8s-check: {checker.checks} checks, {len(checker.problems)} problems")
    return 1 if checker.problems else 0


def schema_problems(docs, version):
    """What the strict schemas of one Kubernetes version say, a kind that they do not know included."""
    for doc in docs:
        if crds.is_custom(doc):
            continue
        at = f"{doc.get('kind')}/{doc.get('metadata', {}).get('name')}"
        try:
            used = kubernetes_validate.validate(doc, version, strict=True)
            if used != version:
                yield f"schema {version}: not known to kubernetes-validate, which would use {used}"
        except kubernetes_validate.ValidationError as error:
            yield f"schema {version}: {at}: {'.'.join(map(str, error.path))}: {first_line(error.message)}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"schema {version}: {at}: Kubernetes {version} has no {doc.get('kind')} in {doc.get('apiVersion')}"


def definitions():
    """The schemas of custom resources; None where there are none, which is a failure in CI."""
    folder = crds.folder()
    if folder:
        return crds.load(folder)
    missing("custom resources are not checked", crds.ABSENT)
    return None


def promtool():
    """Prometheus's own tool; None where there is none, which is a failure in CI."""
    found = monitoring.promtool()
    if found is None:
        missing(
            "alerts are not tested",
            "there is no promtool; run `make promtool` (which takes Go), or name it in PROMTOOL",
        )
    return found


def helm():
    """Helm; None where there is none, which is a failure in CI."""
    found = chart.program()
    if found is None:
        missing("the chart is not checked", "there is no helm; run `make helm` (which takes Go), or name it in HELM")
    return found


def missing(what, reason):
    if os.environ.get("CI"):
        raise Failure(reason)
    print(f"{what}: {reason}")
