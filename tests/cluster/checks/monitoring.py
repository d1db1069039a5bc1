"""Prometheus on the pods, as its operator configures it: what it scrapes, and what alerts and dashboard make of it."""

import json
import math
import re
import time

from dev.cluster import install, kubectl, prometheus
from dev.command import Failure
from dev.manifests import queries
from tests.cluster.stage import SPACE

TARGETS_SECONDS = 90  # until every target was scraped twice: pods may be new, and a scrape comes every 15 s
LOADED_SCRAPES = 4  # of each target, the last two of them under load
QUIET_SECONDS = 120  # of load without an alert
# Alerts that may be pending without a fault, and must not fire: this machine is slow. A report that takes too long is
# answered 503, and a partition is not ready while an insert takes over 5 s.
BUSY = {
    "CaptchaServeSlow",
    "CaptchaProduceSlow",
    "CaptchaInsertSlow",
    "CaptchaReportErrors",
    "CaptchaConsumeNotReady",
}
# What Grafana puts into a query of all pods. The range is its least for a scrape every 15 s: four times as long.
VALUES = {"$namespace": SPACE, "$pod": ".*"}
RATE_INTERVAL = "1m"
# Panels without data where all is well, and the event that they need.
NEED_EVENTS = {"Stream messages by status": "a client of the WebSocket"}
# Panels that show a number where their metric is missing too: none is a good number of failing checks.
NOTHING_IS_FINE = {"Checks that fail"}


def scraped(scene):
    """Prometheus scrapes every pod of serve and consume; all queries have data, and no alert fires under load."""
    api = start(scene)
    wait_quiet(api)
    begin = time.time()
    try:
        with scene.load():
            time.sleep(QUIET_SECONDS)
            rules, panels = need_answers(api)
            scene.record("alerts", rules)
            scene.record("panels", panels)
    finally:
        seen = api.alerts_since(begin)
        scene.record("raised", words(seen))
    unwanted = unexpected(seen)
    if unwanted:
        raise Failure(f"{QUIET_SECONDS} s of load without a fault raise {words(unwanted)}")
    scene.settle()


def answers(scene):
    """All queries have data, after a moment of load."""
    api = start(scene)
    with scene.load(failures_max=None):
        kubectl.wait_until("scrapes", lambda: min_scrapes(api) > LOADED_SCRAPES, TARGETS_SECONDS)
        need_answers(api)


def min_scrapes(api):
    (counts,) = api.query("min(count_over_time(up[10m]))")
    return counts[0][1] if counts else 0


def documents(scene):
    """The overlay as Prometheus's operator sees it."""
    return install.parse(install.render(install.kustomization(scene.overlay)))


def start(scene):
    """Starts Prometheus without any series of before, and waits until it has scraped all pods twice."""
    prometheus.install(documents(scene))
    return need_targets(scene)


def wait_quiet(api):
    """Waits until no alert is left of the start: until the first scrape, all pods are absent."""
    kubectl.wait_until("no alert", lambda: as_wanted(lambda: map(str, unexpected(api.alerts()))), TARGETS_SECONDS)


def need_targets(scene):
    """Waits until every pod is a target and was scraped twice, which rates need."""
    api = prometheus.Api()
    kubectl.wait_until(
        "the targets of Prometheus", lambda: as_wanted(lambda: target_problems(scene, api)), TARGETS_SECONDS
    )
    scene.record("targets", len(api.targets()))
    return api


class Wanting:
    """What is not as it should be, for a wait that ends with it."""

    def __init__(self, text):
        self.text = text

    def __bool__(self):
        return False

    def __repr__(self):
        return self.text


def as_wanted(problems):
    """For a wait: whether `problems()` finds nothing. Just after its start, Prometheus may be out of reach."""
    try:
        found = list(problems())
    except Failure as failure:
        found = [str(failure)]
    return Wanting("; ".join(found)) if found else True


def target_problems(scene, api):
    pods = {pod["metadata"]["name"]: component for component in ("serve", "consume") for pod in scene.pods(component)}
    targets = {target["labels"]["pod"]: target for target in api.targets()}
    yield from (f"pod {name} is no target" for name in pods if name not in targets)
    yield from (f"{name} is a target and no pod of serve or consume" for name in targets if name not in pods)
    for name, target in targets.items():
        if target["health"] != "up":
            yield f"target {name} is {target['health']}: {target['lastError']}"
        found = target["labels"].get("namespace"), target["labels"].get("app_kubernetes_io_component")
        if name in pods and found != (SPACE, pods[name]):
            yield f"target {name} has the namespace and component {found}, not {SPACE} and {pods[name]}"
    (counts,) = api.query("count_over_time(up[10m])")
    few = [labels["pod"] for labels, count in counts if count < 2]
    if few:
        yield f"{', '.join(few)} was scraped once"


def need_answers(api):
    """Holds every expression of alerts and dashboard against the series that are there; how many of both."""
    rules = {rule["name"]: rule for group in api.one("rules")["groups"] for rule in group["rules"]}
    problems = [f"{name}: {rule['lastError']}" for name, rule in rules.items() if rule["health"] != "ok"]
    shown = list(dashboard_queries())
    problems += unanswered(api, shown)
    # Nothing answers to other names, so the panels would notice one that changed.
    renamed = [(panel, re.sub(r"\b(captcha|process)_", r"\1_renamed_", query)) for panel, query in shown]
    silent = {line.partition(":")[0] for line in unanswered(api, renamed)}
    blind = {panel for panel, _ in shown} - silent - set(NEED_EVENTS) - NOTHING_IS_FINE
    problems += [f"{panel}: it has data of metrics that are not there" for panel in sorted(blind)]
    if problems:
        raise Failure(f"{len(problems)} queries are not answered: {'; '.join(problems[:8])}")
    return len(rules), len({panel for panel, _ in shown})


def unanswered(api, asked):
    """The queries of panels that have no data."""
    for (panel, query), found in zip(asked, api.query(*(query for _, query in asked)), strict=True):
        if isinstance(found, Failure):
            yield f"{panel}: {found}: {query}"
        elif panel not in NEED_EVENTS and not any(math.isfinite(number) for _, number in found):
            yield f"{panel}: no data: {query}"


def dashboard_queries():
    """The queries of each panel as Grafana sends them: (title, query)."""
    board = json.loads(kubectl.read("get", "configmap/captcha-dashboard", "--namespace", SPACE)["data"]["captcha.json"])
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for name, value in {**VALUES, **dict.fromkeys(queries.RANGES, RATE_INTERVAL)}.items():
                query = query.replace(name, value)
            yield panel["title"], query


def unexpected(seen, expected=frozenset()):
    """The alerts that were seen and have no reason."""
    return {
        name: state for name, state in seen.items() if name not in expected and (name not in BUSY or state == "firing")
    }


def words(states):
    return ", ".join(f"{name} ({state})" for name, state in sorted(states.items())) or "nothing"
