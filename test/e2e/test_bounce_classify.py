# SPDX-License-Identifier: MIT
"""`posthaste bounce classify`: the labelled mails of test/data/bounces, and SMTP replies."""
import json
import pathlib
import subprocess

import pytest
from lib.relay import BINARY

TOP = pathlib.Path(__file__).resolve().parents[2]
MAILS = TOP / "test" / "data" / "bounces"
LABELS = json.loads((MAILS / "labels.json").read_text())
RECORD_KEYS = ["recipient", "action", "status", "reply_code", "reason", "hard", "diagnostic"]
REASONS = {"user-unknown", "mailbox-full", "mailbox-disabled", "host-unknown", "message-too-large", "spam", "policy", "authentication",
           "reputation", "rate-limited", "relaying-denied", "content", "network", "tls", "protocol", "expired", "system", "suspended",
           "moved", "complaint", "vacation", "delivered", "other"}


def run(*words, data=b"", config=None):
    command = [BINARY, "bounce", "classify", *words, *(["--config", config] if config else [])]
    return subprocess.run(command, input=data, capture_output=True, timeout=60)


def classify(data, *words):
    done = run("--json", *words, data=data)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_there_are_enough():
    files = {path.stem for path in MAILS.glob("*.eml")}
    assert files == set(LABELS)
    kinds = [label["kind"] for label in LABELS.values()]
    assert kinds.count("bounce") >= 120 and kinds.count("delay") >= 8 and kinds.count("success") >= 4
    assert kinds.count("complaint") >= 8 and kinds.count("auto-reply") >= 12 and kinds.count("other") >= 10
    reasons = {record["reason"] for label in LABELS.values() for record in label["records"]}
    assert reasons == REASONS


@pytest.mark.parametrize("name", sorted(LABELS))
def test_mail(name):
    got = classify((MAILS / f"{name}.eml").read_bytes())
    assert list(got) == ["kind", "records"] and all(list(record) == RECORD_KEYS for record in got["records"])
    assert got == LABELS[name]


@pytest.mark.parametrize("reply,kind,action,status,code,reason,hard", [
    ("550 5.1.1 <bob@example.org>: Recipient address rejected: User unknown", "bounce", "failed", "5.1.1", 550, "user-unknown", True),
    ("550-5.1.1 The email account that you tried to reach\n550 5.1.1 does not exist", "bounce", "failed", "5.1.1", 550, "user-unknown", True),
    ("554 5.7.1 Client host [192.0.2.1] blocked using zen.spamhaus.org", "bounce", "failed", "5.7.1", 554, "reputation", False),
    ("452 4.2.2 mailbox full", "delay", "delayed", "4.2.2", 452, "mailbox-full", False),
    ("450 4.1.1 user unknown", "delay", "delayed", "4.1.1", 450, "user-unknown", False),
    ("550 5.7.1 Greylisted", "delay", "delayed", "5.7.1", 550, "rate-limited", False),
    ("250 2.1.5 ok", "success", "delivered", "2.1.5", 250, "delivered", False),
    ("550 hm", "bounce", "failed", "", 550, "other", False)])
def test_reply(reply, kind, action, status, code, reason, hard):
    assert classify(b"", "--reply", reply) == {"kind": kind, "records": [{
        "recipient": "", "action": action, "status": status, "reply_code": code, "reason": reason, "hard": hard, "diagnostic": reply}]}


def test_no_reply_at_all():
    assert classify(b"", "--reply", "good morning") == {"kind": "other", "records": []}


def test_for_people():
    said = run(data=(MAILS / "postfix-three-recipients.eml").read_bytes()).stdout.decode()
    assert said.startswith("bounce\n") and "b@example.org" in said and "mailbox-full" in said and "hard" in said
    assert run(data=b"Subject: hi\n\nhello\n").stdout == b"other\n"
    assert b"user-unknown" in run("--reply", "550 5.1.1 no").stdout


def test_exit_codes(tmp_path):
    assert run(data=b"").returncode == 65 and run(data=b" \r\n").returncode == 65
    assert run("--nonsense").returncode == 64 and run("file").returncode == 64
    (tmp_path / "rules.yaml").write_text("rules:\n  - {name: a, reason: spam, words: good morning}\n")
    config = tmp_path / "posthaste.yaml"
    config.write_text("hostname: relay.test\nbounce: {rules: rules.yaml}\n")
    done = run("--json", "--reply", "550 good morning", config=config)
    assert json.loads(done.stdout)["records"][0]["reason"] == "spam"
    (tmp_path / "rules.yaml").write_text("rules:\n  - {name: a, reason: spam}\n")
    done = run("--reply", "550 good morning", config=config)
    assert done.returncode == 78 and b"rules.yaml:2:5: error" in done.stderr
    (tmp_path / "rules.yaml").unlink()
    assert run("--reply", "550 x", config=config).returncode == 78


def test_large_and_hostile():
    """A mail beyond the limits is read as far as they go; it ends, whatever it is."""
    head = b"From: mailer-daemon@x.example\nSubject: failure notice\n\n"
    assert classify(head + b"<a@example.org>:\n550 5.1.1 no such user\n" + b"x" * 3_000_000)["records"][0]["reason"] == "user-unknown"
    report = (b"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n"
              + b"Final-Recipient: rfc822; a@example.org\nStatus: 5.1.1\n\n" * 5000 + b"--b--\n")
    assert len(classify(report)["records"]) == 1000
    assert classify(b"Content-Type: message/rfc822\n\n" * 20000)["kind"] == "other"
    assert classify(bytes(range(256)) * 1000)["kind"] == "other"


def test_replies_of_the_vectors():
    """Some of the built-in rules' vectors, by the command."""
    lines = [line for line in (TOP / "data" / "bounce-vectors.txt").read_text().splitlines() if " | " in line and line[0] != "#"]
    assert len(lines) > 500
    for line in lines[::25]:
        want, reply = line.split(" | ", 1)
        record = (classify(b"", "--reply", reply)["records"] or [{"reason": "other", "hard": False}])[0]
        assert record["reason"] == want.split()[0] and record["hard"] == ("hard" in want.split()), line
