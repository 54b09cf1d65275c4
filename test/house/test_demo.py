# SPDX-License-Identifier: MIT
"""`make demo` and `make run`, as the README promises them."""
import os
import pathlib
import re
import shlex
import signal
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
LAST = re.compile(r"demo: delivered [0-9A-Za-z]{12,26} to \S+@\S+ in [0-9.]+ s, bytes equal")



def test_demo_delivers():
    """Twice in a row, each within 20 s, the journey shown, nothing left running."""
    for _ in range(2):
        start = time.monotonic()
        run = subprocess.run([TOP / "tools" / "demo"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=180)
        assert run.returncode == 0, run.stdout + run.stderr
        assert LAST.fullmatch(run.stdout.splitlines()[-1]), run.stdout
        assert " accepted " in run.stdout and ": delivered after 1 attempt(s)" in run.stdout
        assert time.monotonic() - start < 20
    end = time.monotonic() + 60  # they die with it, which takes the kernel a moment
    while str(TOP / "build" / "demo") in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_run_gives_a_swaks_command(tmp_path):
    """The printed command works as it stands."""
    out = tmp_path / "out"
    with open(out, "w") as file:
        run = subprocess.Popen([TOP / "tools" / "demo", "--run"], stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while "Ctrl-C" not in out.read_text():
            assert run.poll() is None and time.monotonic() < end, out.read_text()
            time.sleep(0.05)
        line = re.search(r"^    (swaks .*)$", out.read_text(), re.M).group(1)
        sent = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
                              env={**os.environ, "LC_ALL": "C"})
        assert sent.returncode == 0 and "250 2.0.0 Ok: queued as" in sent.stdout, sent.stdout + sent.stderr
        assert "=== TLS started" in sent.stdout
    finally:
        run.send_signal(signal.SIGINT)
        run.wait(60)
