"""What Prometheus and Grafana are given: rules, their tests, dashboards, and the secure overlay."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "ops/prometheus"
DASHBOARDS = sorted(ROOT.glob("ops/grafana/dashboards/*.json"))
RULES = [PROMETHEUS / "recording.yml", PROMETHEUS / "alerts.yml"]


def rules(path: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load(path.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not here; Debian has it in the package prometheus")
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus-secure.yml"])
def test_prometheus_takes_its_configuration(name: str) -> None:
    run = promtool("check", "config", "--syntax-only", PROMETHEUS / name)
    assert run.returncode == 0, run.stdout + run.stderr


def test_prometheus_takes_its_rules() -> None:
    run = promtool("check", "rules", *RULES)
    assert run.returncode == 0, run.stdout + run.stderr


def test_alerts_fire_when_they_should_and_are_silent_else() -> None:
    run = promtool("test", "rules", *PROMETHEUS.glob("tests/*.yml"))
    assert run.returncode == 0, run.stdout + run.stderr


def test_each_alert_is_tested() -> None:
    tested = "".join(path.read_text() for path in PROMETHEUS.glob("tests/*.yml"))
    for rule in rules(RULES[1]):
        assert re.search(rf"\b{rule['alert']}\b", tested), rule["alert"]


@pytest.mark.parametrize("rule", rules(RULES[1]), ids=lambda rule: rule["alert"])
def test_alert_says_what_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    told = rule["annotations"]
    assert told["summary"]
    assert told["description"]
    file, _, anchor = told["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / file).read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_secure_configuration_differs_in_tls_alone() -> None:
    plain, secure = (
        yaml.safe_load((PROMETHEUS / name).read_text())
        for name in ("prometheus.yml", "prometheus-secure.yml")
    )
    (job,) = secure["scrape_configs"]
    assert job.pop("scheme") == "https"
    assert job.pop("tls_config") == {"ca_file": "/run/secrets/tls.pem"}
    assert secure == plain


def test_prometheus_scrapes_every_node_of_the_compose_file() -> None:
    (job,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    nodes = [
        f"{service['hostname']}:15500"
        for service in services.values()
        if "/app/config.yml" in str(service["volumes"])
    ]
    assert job["static_configs"][0]["targets"] == nodes


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_is_sound(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"] == f"synap-{path.stem}"
    panels = dashboard["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    sources = yaml.safe_load(
        (ROOT / "ops/grafana/provisioning/datasources/prometheus.yml").read_text()
    )
    (source,) = sources["datasources"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": source["uid"]}
            assert target["expr"]


def test_provisioning_reads_where_compose_mounts_the_dashboards() -> None:
    (provider,) = yaml.safe_load(
        (ROOT / "ops/grafana/provisioning/dashboards/synap.yml").read_text()
    )["providers"]
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    assert f"./ops/grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
