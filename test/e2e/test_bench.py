# SPDX-License-Identifier: MIT
"""`make bench` runs at all: every case, with tiny counts. What it measures here means nothing."""
import json
import subprocess
import sys

import pytest
from lib import peers
from lib.process import TOP

sys.path.insert(0, str(TOP / "bench"))
import report  # noqa: E402

PLAIN = ["relay_4k", "accept_4k", "queue_1m_memory", "queue_1m_restart", "queue_1m_accept", "relay_100k", "latency_idle", "start"]
OTHERS = ["slow_disk", "tls_reuse", "tls_new", "fanout_1000", "idle_10k"]
SIGNATURES = ["relay_4k_rsa", "relay_4k_ed25519", "dkim_verify", "suppress_10m", "history_10m"]
KEYS = ["id", "unit", "rounds", "posthaste", "postfix", "ratio", "target", "met", "cpu_us_per_msg", "flushes_per_msg",
        "rss_peak_bytes"]


@pytest.mark.parametrize("cases", [PLAIN, OTHERS, SIGNATURES], ids=["plain", "others", "signatures"])
def test_every_case_is_measured(cases, tmp_path):
    if reason := peers.why_not():
        pytest.skip(reason)
    out = tmp_path / "bench.json"
    run = subprocess.run([TOP / "bench" / "run", f"CASES={','.join(cases)}", "ROUNDS=1", "SCALE=0.005", f"OUT={out}"],
                         capture_output=True, text=True, timeout=170)
    assert run.returncode in (0, 1), run.stdout[-3000:] + run.stderr[-3000:]
    assert "relayhost = [127.0.0.1]" in run.stdout, "Postfix's configuration is not shown"
    got = json.loads(out.read_text())
    assert list(got["host"]) == ["cpus", "fs", "fdatasync_us", "direct_msgs_per_s", "rsa2048_per_s"]
    assert [case["id"] for case in got["cases"]] == cases
    for case in got["cases"]:
        assert list(case) == KEYS
        assert case["posthaste"]["min"] >= 0 and len(case["rounds"]) == 1
        assert set(case["target"]) == {"op", "value"} and case["rss_peak_bytes"] > 0
        assert case["met"] in (True, False) or case["rounds"][0]["bound_by_load"]
        assert case["id"].startswith(("queue_1m", "idle", "start", "relay_4k_", "dkim", "suppress", "history")) or case["postfix"]["median"] > 0
        assert all(what[1] != "-" for what in report.check_rows(case)), "a target without a measurement"


def test_the_cases_are_those_of_the_tables():
    assert sorted(PLAIN + OTHERS + SIGNATURES) == sorted(report.CASES)


# Each row: the rounds of relay_4k, met, and what the table says of the ratio.
FAST = {"posthaste": 5000.0, "postfix": 400.0, "direct": 9000.0, "cpu_us_per_msg": 120.0, "flushes_per_msg": 0.04}
VERDICTS = {
    "met": ([FAST], True, "yes"),
    "one_target_missed": ([{**FAST, "cpu_us_per_msg": 151.0}], False, "yes"),
    "ratio_missed": ([{**FAST, "postfix": 501.0}], False, "NO"),
    "the_median_counts": ([FAST, FAST, {**FAST, "postfix": 5000.0}], True, "yes"),
    "bound_by_load": ([{**FAST, "postfix": 501.0, "bound_by_load": True}], None, "bound by load"),
    "met_though_bound": ([{**FAST, "bound_by_load": True}], True, "yes"),
    "not_measured": ([{**FAST, "direct": None}], None, "yes"),
}


@pytest.mark.parametrize("rounds,met,said", VERDICTS.values(), ids=VERDICTS)
def test_verdict(rounds, met, said):
    result = report.result_of("relay_4k", rounds)
    assert result["met"] is met
    assert list(report.check_rows(result))[0][3] == said
    assert result["posthaste"] == {"median": 5000, "min": 5000, "max": 5000}
    assert result["target"] == {"op": ">=", "value": 10}
