# SPDX-License-Identifier: MIT
"""`posthaste sink` and `posthaste load`: what docs/INTERFACE.md promises of them."""
import contextlib
import hashlib
import json
import pathlib
import signal
import smtplib
import ssl
import subprocess
import time

import pytest

BINARY = pathlib.Path(__file__).resolve().parents[2] / "build" / "posthaste"
MESSAGE = b"From: a@a.test\r\nSubject: hi\r\n\r\nhello\r\n.\r\nx\r\n"


class Sink:
    """A running `posthaste sink`."""

    def __init__(self, folder, *options, rules=""):
        self.log = folder / "sink.jsonl"
        ready = folder / "ready.json"
        (folder / "rules").write_text(rules)
        self.process = subprocess.Popen(
            [BINARY, "sink", "--listen", "127.0.0.1:0", "--rules", folder / "rules", "--log", self.log, "--ready-file", ready,
             *options], stdout=subprocess.PIPE, text=True)
        end = time.monotonic() + 60
        while not ready.exists():
            assert self.process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
        self.ready = json.loads(ready.read_text())
        self.port = self.ready["listeners"][0]["port"]

    def lines(self):
        return [json.loads(line) for line in self.log.read_text().split("\n")[:-1]]

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def sink(tmp_path):
    """Makes sinks; all are ended."""
    with contextlib.ExitStack() as stack:
        def make(*options, rules=""):
            one = Sink(tmp_path, *options, rules=rules)
            stack.callback(one.process.kill)
            return one
        yield make


def load(port, *options):
    done = subprocess.run([BINARY, "load", "--to", f"127.0.0.1:{port}", "--json", *options], capture_output=True, text=True,
                          timeout=60, check=False)
    return done.returncode, json.loads(done.stdout)


def test_sink_says_what_it_got(sink):
    one = sink()
    assert one.process.stdout.readline() == f"listening on 127.0.0.1:{one.port}\n"
    assert one.ready["pid"] == one.process.pid and one.ready["listeners"][0]["address"] == "127.0.0.1"
    with smtplib.SMTP("127.0.0.1", one.port) as client:
        client.sendmail("s@a.test", ["r@b.test", "q@b.test"], MESSAGE)
    assert one.end() == 0
    lines = one.lines()
    assert [line["recipient"] for line in lines] == ["r@b.test", "q@b.test"]
    assert lines[0]["sender"] == "s@a.test" and lines[0]["size"] == len(MESSAGE)
    assert lines[0]["sha256"] == hashlib.sha256(MESSAGE).hexdigest()
    assert lines[0]["at"].endswith("Z") and lines[0]["id"] == ""


def test_sink_digest_leaves_out_the_trace(sink):
    one = sink()
    with smtplib.SMTP("127.0.0.1", one.port) as client:
        client.sendmail("s@a.test", ["r@b.test"], b"Received: from x\r\n\tby y with ESMTP id 0ABC;\r\n\tnow\r\n" + MESSAGE)
    assert one.end() == 0
    assert one.lines()[0]["sha256"] == hashlib.sha256(MESSAGE).hexdigest()
    assert one.lines()[0]["id"] == "0ABC"


def test_sink_obeys_rules(sink):
    one = sink(rules="full.test rcpt defer 452 4.2.2 full\n* rcpt first 1 defer 451 4.7.1 greylisted\nslow.test data delay 300\n")
    with smtplib.SMTP("127.0.0.1", one.port) as client:
        client.ehlo()
        client.mail("s@a.test")
        assert client.rcpt("r@full.test") == (452, b"4.2.2 full")
        assert client.rcpt("r@slow.test") == (451, b"4.7.1 greylisted")
        assert client.rcpt("r@slow.test")[0] == 250
        began = time.monotonic()
        assert client.data(MESSAGE)[0] == 250
        assert time.monotonic() - began > 0.29


def test_sink_drops_connections(sink):
    one = sink(rules="* final drop\n")
    with pytest.raises(smtplib.SMTPServerDisconnected), smtplib.SMTP("127.0.0.1", one.port) as client:
        client.sendmail("s@a.test", ["r@b.test"], MESSAGE)
    assert one.end() == 0 and one.lines() == []


@pytest.mark.parametrize("rules", ["", "* final delay 300\n"])
def test_sink_counts(sink, rules):
    """It leaves with the last one, but not before its reply."""
    one = sink("--count", "3", rules=rules)
    with smtplib.SMTP("127.0.0.1", one.port) as client:
        client.sendmail("s@a.test", ["r@b.test", "q@b.test"], MESSAGE)
        assert one.process.poll() is None
        client.sendmail("s@a.test", ["r@b.test"], MESSAGE)
    assert one.process.wait(60) == 0
    assert len(one.lines()) == 3


def test_sink_starttls(sink):
    one = sink("--tls", "starttls")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", one.port) as client:
        client.starttls(context=context)
        client.sendmail("s@a.test", ["r@b.test"], MESSAGE)
    assert one.end() == 0 and len(one.lines()) == 1


def test_sink_lmtp_answers_each(sink):
    one = sink("--lmtp", rules="full.test final refuse 552 5.2.2 full\n")
    client = smtplib.LMTP("127.0.0.1", one.port)
    client.sendmail("s@a.test", ["r@b.test", "r@full.test"], MESSAGE)
    assert client.getreply() == (552, b"5.2.2 full")  # smtplib has read the first one only
    client.quit()
    assert one.end() == 0 and [line["recipient"] for line in one.lines()] == ["r@b.test"]


def test_load_is_accounted_for(sink, tmp_path):
    one = sink()
    code, report = load(one.port, "--count", "200", "--sessions", "7", "--recipients", "3", "--size", "700", "--ids",
                        tmp_path / "ids")
    assert code == 0 and one.end() == 0
    assert report["accepted"] == 200 and report["recipients_accepted"] == 600 and report["replies"] == {"250": 600}
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"] <= report["latency_ms"]["max"]
    sent = {(line["load_id"], recipient): line["sha256"] for line in map(json.loads, (tmp_path / "ids").read_text().splitlines())
            for recipient in line["recipients"]}
    got = {(line["id"], line["recipient"]): line["sha256"] for line in one.lines()}
    assert len(sent) == 600 and got == sent


def test_load_keeps_its_rate(sink):
    one = sink()
    code, report = load(one.port, "--count", "50", "--rate", "100")
    assert code == 0 and 0.45 < report["seconds"] < 20


def test_load_over_tls_with_new_connections(sink):
    one = sink("--tls", "starttls")
    code, report = load(one.port, "--count", "30", "--sessions", "2", "--tls", "starttls", "--messages-per-connection", "5")
    assert code == 0 and report["connections"] >= 6


def test_load_resumes_tls_sessions(sink):
    one = sink("--tls", "starttls")
    options = ["--count", "10", "--sessions", "1", "--messages-per-connection", "1", "--tls", "starttls"]
    code, report = load(one.port, *options)
    assert code == 0 and report["connections"] >= 10 and report["resumed"] == 0
    code, report = load(one.port, *options, "--resume")
    assert code == 0 and report["resumed"] >= 9


@pytest.mark.parametrize("tls", ["none", "starttls"])
def test_load_holds_idle_sessions(sink, tls):
    one = sink("--tls", tls)
    process = subprocess.Popen([BINARY, "load", "--to", f"127.0.0.1:{one.port}", "--idle", "--sessions", "120", "--tls", tls],
                               stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == '{"idle":120}\n'
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0 and process.stdout.read() == ""
    finally:
        process.kill()
    assert one.end() == 0 and one.lines() == []


def test_load_tells_refusals(sink):
    one = sink(rules="* final 50% refuse 554 5.6.0 no\n")
    code, report = load(one.port, "--count", "100")
    assert code == 75 and report["accepted"] + report["refused"] == 100 and report["replies"]["554"] == report["refused"] > 10


def test_load_without_a_server(sink):
    one = sink()
    assert one.end() == 0
    code, report = load(one.port, "--count", "3", "--sessions", "1")
    assert code == 69 and report["errors"] == {"connection refused": 5}


@pytest.mark.parametrize("arguments,code,text", [
    (["sink"], 64, "--listen HOST:PORT is needed"),
    (["sink", "--listen", "nowhere"], 64, "not an address"),
    (["sink", "--listen", "127.0.0.1:0", "--rules", "/dev/null", "--count", "0"], 64, "--count wants a number"),
    (["sink", "--listen", "127.0.0.1:0", "--rules", "/nonexistent"], 65, "no such thing"),
    (["load"], 64, "--to HOST:PORT is needed"),
    (["load", "--to", "127.0.0.1:1", "--login", "x"], 64, "go together"),
    (["load", "--to", "127.0.0.1:1", "--tls", "maybe"], 64, "none, starttls or implicit"),
])
def test_bad_arguments(arguments, code, text):
    done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code and text in done.stderr and done.stdout == ""


def test_bad_rules_name_their_line(tmp_path):
    (tmp_path / "rules").write_text("* rcpt accept\n* rcpt explode\n")
    done = subprocess.run([BINARY, "sink", "--listen", "127.0.0.1:0", "--rules", tmp_path / "rules"], capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 65 and f"{tmp_path}/rules:2: error: the action is" in done.stderr
