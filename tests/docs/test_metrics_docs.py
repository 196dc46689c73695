"""The docs list every metric and every alert, and none that does not exist."""

import json
import re

import yaml

from tests.docs.vocabulary import files
from tests.support.declared_metrics import declared
from tests.support.documents import ROOT, assert_same, rows, text

DASHBOARD = ROOT / "deploy/grafana/dashboards/sluice.json"
RULES = ROOT / "deploy/prometheus/rules.yml"


def test_every_metric_is_in_the_docs_and_the_reverse() -> None:
    """With the process that shows it, its type and its help, word for word."""
    documented = rows("docs/observability.md", "metric", "shown by", "type", "what it says")
    there = [(name, who, *about) for who, metrics in declared().items() for name, about in metrics.items()]
    assert_same("docs/observability.md", documented, there)


def test_metrics_are_declared_where_contributing_says() -> None:
    """Somebody who looks for one, or adds one, has these files to open and no other."""
    (paragraph,) = re.findall(r"^\*\*A metric\.\*\*.+?\n\n", text("CONTRIBUTING.md"), re.M | re.S)
    declaring = re.compile(r"^from prometheus_client.* import .*\b(Counter|Gauge|Histogram)(MetricFamily)?\b", re.M)
    packages = ("sluice", "export", "ingest", "stream", "consumers", "results")
    found = {name for name in files(packages) if declaring.search((ROOT / name).read_text())}
    assert found == set(re.findall(r"`([a-z/_]+\.py)`", paragraph))


def test_every_alert_has_its_entry_in_the_runbook_and_the_reverse() -> None:
    """It says what the alert means and what to do, and the alert points to it."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    alerts = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in group["rules"]}
    entries = re.findall(
        r"^### (Sluice\w+)\n\n\*\*Means:\*\* .+?\n\n\*\*Do:\*\* .+?$", text("docs/runbook.md"), re.M | re.S
    )
    assert entries == list(alerts)
    assert alerts == {name: f"{{{{ $externalLabels.docs_url }}}}/runbook.md#{name.lower()}" for name in entries}


def test_rules_and_dashboard_ask_only_for_what_is_shown() -> None:
    """A misspelt metric gives an empty panel, and an alert that never fires."""
    known = {name for metrics in declared().values() for name in metrics}
    asked = set(re.findall(r"\bsluice_\w+", RULES.read_text())) | set(re.findall(r"\bsluice_\w+", _expressions()))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} <= known


def _expressions() -> str:
    board = json.loads(DASHBOARD.read_text())
    return "\n".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
