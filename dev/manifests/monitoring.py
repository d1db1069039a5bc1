"""Checks what Prometheus and Grafana are given: alerts, their tests and what is written of them, and the dashboard."""

import copy
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import yaml

from dev import prometheus
from dev.command import ROOT, STATE
from dev.manifests import queries

FOLDER = ROOT / "k8s" / "components" / "monitoring"
SEVERITIES = {"page", "ticket"}
ANNOTATIONS = {"summary", "description", "runbook_url"}
GRID_WIDTH = 24
SCHEMA_VERSION = 42  # the last of this form of dashboards, Grafana 12's


class Monitoring(NamedTuple):
    groups: list  # of the PrometheusRule
    tests: dict  # for promtool
    runbooks: str  # docs/alerts.md
    board: dict


def read():
    return Monitoring(
        yaml.safe_load((FOLDER / "rules.yaml").read_text())["spec"]["groups"],
        yaml.safe_load((ROOT / "k8s" / "tests" / "alerts.yaml").read_text()),
        (ROOT / "docs" / "alerts.md").read_text(),
        json.loads((FOLDER / "dashboard.json").read_text()),
    )


def promtool():
    """Prometheus's own tool: $PROMTOOL, or what `make promtool` builds; None where there is none."""
    found = Path(os.environ.get("PROMTOOL") or STATE / "promtool" / f"promtool-{prometheus.version()}")
    return found if os.access(found, os.X_OK) else None


def alerts(groups):
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def problems(m, tool):
    """All that is wrong; without promtool, all but what it would say."""
    found = [*alert_problems(m), *dashboard_problems(m.board)]
    return found + (promtool_problems(m, tool) if tool else [])


def alert_problems(m):
    known = alerts(m.groups)
    if len(known) != sum("alert" in rule for group in m.groups for rule in group["rules"]):
        yield "two alerts have one name"
    for name, rule in known.items():
        if rule.get("labels", {}).get("severity") not in SEVERITIES:
            yield f"{name}: its severity is none of {', '.join(sorted(SEVERITIES))}"
        annotations = rule.get("annotations", {})
        if set(annotations) != ANNOTATIONS:
            yield f"{name}: its annotations are not {', '.join(sorted(ANNOTATIONS))}"
        if not annotations.get("runbook_url", "").endswith(f"/docs/alerts.md#{name.lower()}"):
            yield f"{name}: its runbook_url does not end in docs/alerts.md#{name.lower()}"
    written = re.findall(r"^### (\S+)$", m.runbooks, re.MULTILINE)
    yield from (f"{name}: docs/alerts.md has no heading ### {name}" for name in known if name not in written)
    yield from (f"docs/alerts.md: there is no alert {name}" for name in written if name not in known)
    cases = [case for test in m.tests["tests"] for case in test["alert_rule_test"]]
    for name, rule in known.items():
        own = [case.get("exp_alerts", []) for case in cases if case["alertname"] == name]
        if not any(own) or all(own):
            yield f"{name}: k8s/tests/alerts.yaml lacks a moment at which it fires, or one at which it does not"
        used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule.get("annotations", {}).values())))
        for alert in (alert for fired in own for alert in fired):
            for label in sorted(used - set(alert["exp_labels"])):
                yield f"{name}: its annotations name the label {label}, which it does not have when it fires"
    yield from (
        f"k8s/tests/alerts.yaml: there is no alert {n}" for n in {case["alertname"] for case in cases} - set(known)
    )


def promtool_problems(m, tool):
    """What promtool says of the rules, their tests, and the dashboard's queries, which it takes for rules."""
    asked = [
        {"record": f"dashboard:query{i}", "expr": q.expression} for i, q in enumerate(queries.of_dashboard(m.board))
    ]
    with tempfile.TemporaryDirectory() as folder:
        rules, dashboard = Path(folder) / "rules.yaml", Path(folder) / "dashboard.yaml"
        rules.write_text(json.dumps({"groups": m.groups}))
        dashboard.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": asked}]}))
        check = [tool, "check", "rules", "--lint=all", "--lint-fatal", rules, dashboard]
        done = subprocess.run(check, check=False, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode or said.count("SUCCESS") != 2:
        return [
            f"promtool check: {line.strip()}" for line in said.splitlines() if line.strip() and "SUCCESS" not in line
        ]
    return [f"promtool test: {line}" for line in failed_tests(m, tool)]


def failed_tests(m, tool):
    """The moments at which an alert did not do what its test says, one line each."""
    groups = copy.deepcopy(m.groups)
    for rule in alerts(groups).values():
        rule.pop("annotations", None)  # or each test would have to repeat them
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rules.yaml").write_text(json.dumps({"groups": groups}))
        tests = Path(folder) / "tests.yaml"
        tests.write_text(json.dumps(m.tests | {"rule_files": ["rules.yaml"]}))
        done = subprocess.run([tool, "test", "rules", tests], check=False, capture_output=True, text=True)
    said = done.stdout + done.stderr
    failed = [f"{name} at {at}" for name, at in re.findall(r"alertname: (\w+), time: (\w+)", said)]
    if done.returncode and not failed:
        return [line.strip() for line in said.splitlines() if line.strip()]
    return failed if done.returncode or "SUCCESS" in said else [f"it cannot be understood: {said}"]


def unnoticed(m, tool):
    """The alerts whose tests would not notice if they never fired, or always."""
    for what, expression in (("never", "vector(0) > 1"), ("always", "vector(1)")):
        groups = copy.deepcopy(m.groups)
        for rule in alerts(groups).values():
            rule["expr"] = expression
            rule.pop("for", None)
        failed = {line.partition(" at ")[0] for line in failed_tests(m._replace(groups=groups), tool)}
        yield from (
            f"{name}: its tests do not notice if it fires {what}" for name in alerts(m.groups) if name not in failed
        )


def dashboard_problems(board):
    if board.get("schemaVersion") != SCHEMA_VERSION:
        yield f"dashboard: schemaVersion is not {SCHEMA_VERSION}"
    variables = [variable["name"] for variable in board["templating"]["list"]]
    if variables != ["datasource", "namespace", "pod"]:
        yield f"dashboard: its variables are {variables}"
    numbers = [panel.get("id") for panel in board["panels"]]
    if len(set(numbers)) != len(numbers) or None in numbers:
        yield "dashboard: the ids of its panels are not unique"
    taken = {}
    for panel in board["panels"]:
        at = f"panel '{panel.get('title')}'"
        for x, y in cells(panel["gridPos"]):
            if x >= GRID_WIDTH:
                yield f"{at}: it stands outside of the grid"
            if taken.setdefault((x, y), panel) is not panel:
                yield f"{at}: it covers panel '{taken[x, y].get('title')}'"
                break
        if not panel.get("title"):
            yield f"{at}: it has no title"
        if panel["type"] != "row":
            yield from panel_problems(panel, at, variables)


def panel_problems(panel, at, variables):
    if not panel.get("description"):
        yield f"{at}: it has no description"
    if not panel.get("fieldConfig", {}).get("defaults", {}).get("unit"):
        yield f"{at}: it has no unit"
    targets = panel.get("targets", [])
    if not targets or not all(target.get("expr") for target in targets):
        yield f"{at}: it asks nothing"
    references = [target.get("refId") for target in targets]
    if len(set(references)) != len(references):
        yield f"{at}: two of its queries have one refId"
    for of in [panel, *targets]:
        if of.get("datasource", {}).get("uid") != "${datasource}":
            yield f"{at}: it does not ask the chosen data source"
    for target in targets:
        used = set(re.findall(r"\$(\w+)", target.get("expr", "")))
        if unknown := used - set(variables) - {name.removeprefix("$") for name in queries.RANGES}:
            yield f"{at}: it uses variables that are not there: {', '.join(sorted(unknown))}"


def cells(at):
    """The places of the grid that a panel takes."""
    for x in range(at["x"], at["x"] + at["w"]):
        for y in range(at["y"], at["y"] + at["h"]):
            yield x, y
