# SPDX-License-Identifier: MIT
"""What a monitoring has of the service: rules for Prometheus and a dashboard for Grafana. Judge: promtool.

Grafana itself is not in Debian: of the dashboard the shape is checked, and each of its queries as Prometheus reads it.
"""
import json
import os
import pathlib
import re
import subprocess

import pytest
import yaml
from lib.message import text_message
from lib.relay import submit

TOP = pathlib.Path(__file__).parents[2]
RULES = TOP / "packaging" / "prometheus" / "posthaste.rules.yml"
TESTS = TOP / "packaging" / "prometheus" / "posthaste.rules_test.yml"
DASHBOARD = TOP / "packaging" / "grafana" / "posthaste.json"
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
PANELS = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


@pytest.fixture(scope="session")
def promtool():
    found = subprocess.run([TOP / "tools" / "promtool", "--path"], capture_output=True, text=True)
    if found.returncode:
        pytest.skip("promtool is not there: tools/promtool")

    def run(*arguments, **options):
        # It flushes what it makes up for each test of a rule: in memory that costs nothing.
        env = {**os.environ, "TMPDIR": "/dev/shm"} if os.access("/dev/shm", os.W_OK) else None
        return subprocess.run([found.stdout.strip(), *map(str, arguments)], capture_output=True, text=True, timeout=300, env=env, **options)
    return run


def queries():
    """(where, expression) of each rule and panel; Grafana's variables have values."""
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")


@pytest.fixture
def metrics(relay_, make_receiver, dns, pair):
    """/metrics of a service that has sent a message over TLS, after it was put off once."""
    receiver = make_receiver(tls=pair.server_context())
    dns.domain("example.org", receiver)
    receiver.script("rcpt", "451 4.7.1 later", times=1)
    with relay_.client(login="alice") as client:
        ident = submit(client, "alice@client.test", "bob@example.org", text_message("alice@client.test", "bob@example.org"))
    relay_.wait_state(ident, "delivered", seconds=30)
    return relay_.http("/metrics")[1]


def test_every_name_exists(metrics):
    """Names and labels in rules and panels are those of the service."""
    assert "\nposthaste_connections_tls_total 1\n" in metrics
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", metrics, re.M))
    labels = {}
    for name, inside in re.findall(r"^(posthaste_\w+)\{(.*)\} ", metrics, re.M):
        labels.setdefault(name, set()).update(re.findall(r'(\w+)="', inside))
    for where, query in queries():
        names = re.findall(r"\b(posthaste_\w+)(?:\{([^}]*)\})?", query)
        assert names or where == "PosthasteDown", where
        for name, selector in names:
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            assert name in types or types.get(family) == "histogram", f"{where}: {name}"
            used = set(re.findall(r"(\w+)=~?\"", selector)) - {"instance", "job"}
            assert used <= labels.get(name, set()), f"{where}: {name}{{{selector}}}"
            counted = re.search(rf"(rate|increase)\({name}", query)
            assert not counted or types.get(name, "histogram" if family != name else "") in ("counter", "histogram"), f"{where}: {name}"


    own = re.findall(r'^posthaste_alert\{alert="(\w+)"\}', metrics, re.M)
    assert own and set(own) <= headings(), own


def test_j_metrics_are_well_formed(promtool, metrics):
    said = promtool("check", "metrics", input=metrics)
    assert said.returncode in (0, 3), said.stderr  # 3: opinions about names
    opinions = [line for line in (said.stdout + said.stderr).splitlines() if "no help text" in line or "counter" in line]
    assert not [line for line in opinions if "should have \"_total\" suffix" not in line], opinions


def test_j_rules(promtool):
    said = promtool("check", "rules", RULES)
    assert said.returncode == 0 and f"{len(ALERTS)} rules found" in said.stdout, said.stdout + said.stderr


def test_j_alerts_fire_when_they_should(promtool):
    """promtool runs posthaste.rules_test.yml, in which each alert fires once, and once does not."""
    said = promtool("test", "rules", TESTS)
    assert said.returncode == 0, said.stdout + said.stderr
    cases = [case for test in yaml.safe_load(TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    for rule in ALERTS:
        mine = [bool(case.get("exp_alerts")) for case in cases if case["alertname"] == rule["alert"]]
        assert True in mine and False in mine, rule["alert"]


def test_j_panels(promtool, tmp_path):
    """Each query of the dashboard, as a rule."""
    rules = [{"record": f"panel:{i}", "expr": query} for i, (_, query) in enumerate(queries())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    said = promtool("check", "rules", file)
    assert said.returncode == 0, said.stdout + said.stderr


def test_dashboard_has_the_shape_of_one():
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert dashboard["schemaVersion"] >= 36 and dashboard["uid"] and dashboard["title"] == "posthaste"
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert variables == set(re.findall(r"\$\{?(datasource|instance)\b", DASHBOARD.read_text()))
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        assert 0 <= at["x"] and at["x"] + at["w"] <= 24 and at["h"] > 0
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["type"] in ("timeseries", "stat") and panel["datasource"]["uid"] == "${datasource}"
            assert panel["fieldConfig"]["defaults"]["unit"] and len({t["refId"] for t in panel["targets"]}) == len(panel["targets"]) > 0


def headings():
    """Anchors of the handbook's headings, as those who show Markdown make them."""
    text = (TOP / "docs" / "OPERATIONS.md").read_text()
    return {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)", text, re.M)}


def test_every_alert_has_its_place_in_the_handbook():
    known = headings()
    for rule in ALERTS:
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page == "docs/OPERATIONS.md" and rule["labels"]["severity"] in ("critical", "warning")
        assert anchor == "{{ $labels.alert }}" or anchor in known, rule["alert"]
