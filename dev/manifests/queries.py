"""What the queries of rules and dashboard ask of a scrape: the names, labels and values that it must have."""

import re
from typing import NamedTuple

import promql_parser as promql

# What Prometheus adds to all that it scrapes from a pod.
TARGET_LABELS = {"namespace", "pod"}
# What Prometheus makes itself: no scrape has it, and it is not looked for.
PROMETHEUS_OWN = {"ALERTS"}
# What stands for a range that Grafana chooses.
RANGES = {"$__rate_interval": "5m"}


class Query(NamedTuple):
    where: str
    expression: str
    labels: tuple = ()  # that a legend or an annotation names


def of_rules(groups):
    for rule in (rule for group in groups for rule in group["rules"]):
        named = re.findall(r"\$labels\.(\w+)", " ".join(rule.get("annotations", {}).values()))
        yield Query(rule.get("alert") or rule["record"], str(rule["expr"]), tuple(named))


def of_dashboard(board):
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            named = re.findall(r"{{\s*(\w+)\s*}}", target.get("legendFormat", ""))
            yield Query(f"panel '{panel['title']}'", plain(target.get("expr", "")), tuple(named))
    for variable in board["templating"]["list"]:
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("definition", ""))
        if asked:
            yield Query(f"variable '{variable['name']}'", plain(asked[1]), (asked[2],))
    for annotation in board["annotations"]["list"]:
        if "expr" in annotation:
            yield Query(f"annotation '{annotation['name']}'", plain(annotation["expr"]))


def plain(expression):
    """An expression of Grafana as Prometheus gets it, but for variables in texts."""
    for name, value in RANGES.items():
        expression = expression.replace(name, value)
    return expression


def parts(node):
    """Selectors and the names in clauses such as `by`, of an expression that is parsed."""
    selectors, labels = [], []
    if isinstance(node, promql.VectorSelector):
        return [node], []
    if isinstance(node, promql.MatrixSelector):
        return [node.vector_selector], []
    if isinstance(node, promql.AggregateExpr) and node.modifier:
        labels += node.modifier.labels
    if isinstance(node, promql.BinaryExpr) and node.modifier:
        matching = node.modifier.matching
        labels += (matching.labels if matching else []) + list(node.modifier.group_labels or [])
    inner = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "param")] + list(getattr(node, "args", []))
    for found in (parts(child) for child in inner if child is not None):
        selectors, labels = selectors + found[0], labels + found[1]
    return selectors, labels


def matches(matcher, value):
    is_equal, fits = value == matcher.value, re.fullmatch(matcher.value, value) is not None
    if matcher.op == promql.MatchOp.Equal:
        return is_equal
    if matcher.op == promql.MatchOp.NotEqual:
        return not is_equal
    return fits if matcher.op == promql.MatchOp.Re else not fits


def problems(query, series):
    """What of a query no series answers to."""
    try:
        selectors, clauses = parts(promql.parse(query.expression))
    except ValueError as e:
        yield f"{query.where}: cannot be parsed: {e}"
        return
    known, missing = set(TARGET_LABELS), False
    for selector in selectors:
        found = [labels for name, labels in series if name == selector.name]
        known |= {name for labels in found for name in labels}
        if selector.name in PROMETHEUS_OWN:
            continue
        if not found:
            missing = True
            yield f"{query.where}: no scrape has {selector.name}"
            continue
        wanted = [m for m in selector.matchers.matchers if m.name not in TARGET_LABELS]
        for matcher in wanted:
            if not any(matcher.name in labels for labels in found):
                yield f"{query.where}: {selector.name} has no label {matcher.name}"
        if not any(all(matches(m, labels.get(m.name, "")) for m in wanted) for labels in found):
            yield f"{query.where}: no series of {selector.name} has {selector.matchers}"
    for name in sorted({*clauses, *query.labels} - known) if not missing else ():
        yield f"{query.where}: nothing of it has the label {name}"
