"""What deploy/ gives to Prometheus and Grafana, checked by Prometheus's own promtool (Debian's package prometheus)."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.containers import composed, parsed
from tests.support.documents import ROOT

FOLDER = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"
MONITORING = ("prometheus", "grafana", "jaeger")


def promtool(*words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    found = shutil.which("promtool")
    assert found, "promtool is needed: Debian's package prometheus"
    return subprocess.run([found, *words], input=given, capture_output=True, text=True, check=False)


def test_the_configuration_and_its_rules_are_valid() -> None:
    """By promtool, lint included."""
    checked = promtool("check", "config", "--lint=all", "--lint-fatal", str(FOLDER / "prometheus.yml"))
    assert checked.returncode == 0, checked.stderr


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    """The unit tests of the rules, in Prometheus's own form."""
    tested = promtool("test", "rules", str(FOLDER / "rules_test.yml"))
    assert tested.returncode == 0, tested.stderr + tested.stdout


def test_each_alert_has_a_unit_test() -> None:
    """In which it fires."""
    (group,) = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    tests = yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
    fired = {one["alertname"] for test in tests for one in test.get("alert_rule_test", ()) if one["exp_alerts"]}
    assert fired == {rule["alert"] for rule in group["rules"]}


def test_a_rule_that_is_wrong_is_found(tmp_path: Path) -> None:
    """The unit tests can fail: a threshold that is never reached makes one of them fail."""
    for name in ("rules.yml", "rules_test.yml"):
        (tmp_path / name).write_text((FOLDER / name).read_text().replace("_age_seconds) > 15", "_age_seconds) > 1500"))
    tested = promtool("test", "rules", str(tmp_path / "rules_test.yml"))
    assert tested.returncode != 0
    assert "SluiceBacklogOld" in tested.stderr


def test_the_dashboard_s_queries_are_promql(tmp_path: Path) -> None:
    """Grafana's variables put in, promtool parses each as a rule."""
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    plain = [one.replace("$__rate_interval", "1m").replace("$model", ".*") for one in expressions]
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(plain)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = promtool("check", "rules", "--lint=none", str(path))
    assert checked.returncode == 0, checked.stderr


def panels() -> list[dict[str, Any]]:
    board: dict[str, Any] = json.loads((GRAFANA / "dashboards/sluice.json").read_text())
    return list(board["panels"])


def test_the_dashboard_s_panels_do_not_overlap_and_say_what_they_show() -> None:
    """All use the data source that is chosen on the dashboard, of the kind that is provisioned."""
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    variable = json.loads((GRAFANA / "dashboards/sluice.json").read_text())["templating"]["list"][0]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", source["type"])
    cells: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells, panel["title"]
        cells |= own
        assert panel["description"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    assert max(x for x, _ in cells) < 24


def test_compose_starts_them_with_the_profile_alone() -> None:
    """Confined as all other services, open to this machine only, with the files that they must read."""
    services = parsed()["services"]
    assert not set(MONITORING) & composed().keys()
    for name in MONITORING:
        service = services[name]
        assert service["profiles"] == ["monitoring"]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["user"] not in {"root", "0"}
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert "latest" not in service["image"]
        mounted = [volume.split(":") for volume in service.get("volumes", [])]
        assert all((ROOT / path[0]).is_dir() and path[2] == "ro" for path in mounted if path[0].startswith("."))
        assert all(path[0] in parsed()["volumes"] for path in mounted if not path[0].startswith("."))


@pytest.mark.parametrize(("job", "service"), [("sluice-ingest", "ingest"), ("sluice-consumer", "consumer")])
def test_prometheus_asks_the_services_where_they_listen(job: str, service: str) -> None:
    """By the service's name, on its port, through a network that both are in."""
    jobs = {one["job_name"]: one for one in yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]}
    text = json.dumps(jobs[job])
    port = composed()[service]["environment"].get("SLUICE_METRICS_PORT", 5000)
    assert re.search(rf'"{service}[":]', text)
    assert str(port) in text
    assert set(composed()[service]["networks"]) & set(parsed()["services"]["prometheus"]["networks"])
