# SPDX-License-Identifier: MIT
"""`make bench` runs at all: every case, with tiny counts. What it measures here means nothing."""
import json
import os
import subprocess

import pytest
from lib import peers
from lib.process import TOP

CASES = ["relay_4k", "accept_4k", "direct", "idle_tls", "start", "start_10k"]


def test_every_case_is_measured(tmp_path):
    if reason := peers.why_not():
        pytest.skip(reason)
    out = tmp_path / "bench.json"
    run = subprocess.run([TOP / "bench" / "run", "ROUNDS=1", "COUNT=60", f"OUT={out}"], capture_output=True, text=True,
                         timeout=150, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert run.returncode in (0, 1), run.stdout + run.stderr
    report = json.loads(out.read_text())
    assert [case["id"] for case in report["cases"]] == CASES
    assert set(report["host"]) >= {"cpus", "fs", "fdatasync_us", "direct_msgs_per_s", "rsa2048_per_s"}
    by_id = {case["id"]: case for case in report["cases"]}
    assert all(case["posthaste"]["median"] > 0 for case in report["cases"])
    assert by_id["relay_4k"]["postfix"]["median"] > 0 and by_id["relay_4k"]["ratio"] > 0
    assert by_id["relay_4k"]["flushes_per_msg"] > 0 and by_id["relay_4k"]["cpu_us_per_msg"] > 0
