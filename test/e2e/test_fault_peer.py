# SPDX-License-Identifier: MIT
"""tools/fault runs another relay in posthaste's place. What it measures here means nothing."""
import json
import subprocess

import pytest
from lib import peers
from lib.process import TOP


def fault(*words):
    return subprocess.run([TOP / "tools" / "fault", *words], capture_output=True, text=True, timeout=170)


def test_a_peer_is_killed_and_keeps_its_mail():
    if reason := peers.why_not():
        pytest.skip(reason)
    run = fault("kill", "PEER=postfix", "ROUNDS=2")
    got = json.loads(run.stdout.splitlines()[-1])
    assert got["peer"].startswith("postfix ") and got["acked"] > 0 and got["ready_s"] > 0, run.stdout
    assert got["lost"] == got["ghost"] == 0, run.stdout


@pytest.mark.parametrize("words", [["kill", "PEER=sendmail"], ["slow", "PEER=postfix"]], ids=" ".join)
def test_what_no_peer_is_for_is_refused(words):
    run = fault(*words)
    assert run.returncode == 64 and run.stderr.startswith("fault - "), run.stdout + run.stderr
