"""docs/operations.md lists every metric and every alert, and none that does not exist."""

import json
import re

import yaml

from tests.declared_metrics import declared
from tests.documents import ROOT, rows

DASHBOARD = ROOT / "deploy/grafana/dashboards/sluice.json"
RULES = ROOT / "deploy/prometheus/rules.yml"


def test_every_metric_is_in_the_docs_and_the_reverse() -> None:
    """With the process that shows it, its type and its help, word for word."""
    told = sorted(rows("docs/operations.md", "metric", "shown by", "type", "what it says"))
    there = [(name, who, *about) for who, metrics in declared().items() for name, about in metrics.items()]
    assert told == sorted(there)


def test_every_alert_is_in_the_docs_and_the_reverse() -> None:
    """With what it means and what to do."""
    told = rows("docs/operations.md", "alert", "what it means", "what you do")
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    assert [row[0] for row in told] == [rule["alert"] for rule in group["rules"]]
    assert all(means and do for _, means, do in told)


def test_rules_and_dashboard_ask_only_for_what_is_shown() -> None:
    """A misspelt metric gives an empty panel, and an alert that never fires."""
    known = {name for metrics in declared().values() for name in metrics}
    asked = set(re.findall(r"\bsluice_\w+", RULES.read_text())) | set(re.findall(r"\bsluice_\w+", _expressions()))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} <= known


def _expressions() -> str:
    board = json.loads(DASHBOARD.read_text())
    return "\n".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
