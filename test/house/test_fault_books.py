# SPDX-License-Identifier: MIT
"""The books of the fault tests: what counts as lost, as in flight at a crash, as delivered twice for no reason."""
import datetime
import hashlib
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import lab  # noqa: E402

BEGAN, OVER = 1000.0, 1000.2  # a crash


def line(ident, at, sha="x"):
    when = datetime.datetime.fromtimestamp(at, datetime.timezone.utc).isoformat(timespec="milliseconds")
    return json.dumps({"id": ident, "recipient": "r", "sha256": sha, "at": when.replace("+00:00", "Z")}) + "\n"


def judge(tmp_path, deliveries, acked=("l-0",), refused=(), recorded=None):
    (tmp_path / "sink.jsonl").write_text("".join(line(*one) for one in deliveries))
    (tmp_path / "ids.jsonl").write_text("".join(
        json.dumps({"load_id": ident, "id": ident.upper(), "recipients": ["r"], "sha256": "x"}) + "\n" for ident in acked))
    (tmp_path / "refused.jsonl").write_text("".join(json.dumps({"load_id": ident, "code": 452}) + "\n" for ident in refused))
    books = lab.Books(tmp_path)
    books.pulse.slowest = lambda at: 0.0
    books.sent["l"] = 5
    books.crashed(BEGAN, OVER)
    if recorded is not None:
        books.in_flight(lambda since: ({}, recorded))
    return books.judge()


def test_all_is_well(tmp_path):
    numbers, troubles = judge(tmp_path, [("l-0", BEGAN - 0.3), ("l-1", 900)])
    assert not troubles and (numbers["acked"], numbers["delivered"], numbers["in_flight_max"]) == (1, 2, 1)


def test_lost_ghost_and_changed(tmp_path):
    troubles = judge(tmp_path, [("l-1", 900), ("l-9", 900), ("l-2", 900, "y")], acked=["l-0", "l-2"], refused=["l-1"])[1]
    assert [trouble.split(":")[0] for trouble in troubles] == ["LOST 1", "GHOST 2", "CHANGED 1"]


def test_twice(tmp_path):
    """Only what the receiver had at most WINDOW_S before the crash, or until it was over, may come again, after it."""
    window = lab.Books.WINDOW_S
    for first, second, excused in ((BEGAN - 0.2, OVER + 1, True), (BEGAN - window - 0.05, OVER + 1, False),
                                   (OVER - 0.01, OVER + 1, True), (OVER + 0.3, OVER + 1, False),
                                   (BEGAN - 0.4, BEGAN - 0.2, False)):
        numbers, troubles = judge(tmp_path, [("l-0", first), ("l-0", second)])
        assert numbers["dup"] == 1 and bool(troubles) != excused, (first, second)
        assert excused or "DUP not in flight at a crash 1: l-0/r/" in troubles[0]


def test_twice_though_recorded(tmp_path):
    """What the journal had as delivered was not in flight: it is not counted, and may not come again."""
    twice = [("l-0", BEGAN - 0.2), ("l-0", OVER + 1), ("l-1", BEGAN - 0.1), ("l-2", BEGAN - 0.1)]
    for when, in_flight, excused in ((BEGAN - 0.19, 2, False), (OVER + 1.001, 3, True), (None, 3, True)):
        recorded = {("L-0", 1): when} if when else {}
        numbers, troubles = judge(tmp_path, twice, acked=["l-0", "l-1"], recorded=recorded)
        assert numbers["in_flight_max"] == in_flight and bool(troubles) != excused, when
        assert excused or "recorded-0.190s" in troubles[0]


def test_a_maildir_is_delivered_to(tmp_path):
    """What relays put before the message's own header is no part of it; lines end as in SMTP."""
    new = tmp_path / "mail" / "box.example" / "box" / "new"
    new.mkdir(parents=True)
    (new / "1.a_1.x").write_bytes(b"Return-Path: <s>\nX-Load-Id: l-0\nFrom: s\n\ntext\n")
    sha = hashlib.sha256(b"X-Load-Id: l-0\r\nFrom: s\r\n\r\ntext\r\n").hexdigest()
    (tmp_path / "ids.jsonl").write_text(json.dumps({"load_id": "l-0", "recipients": ["box@box.example"], "sha256": sha}) + "\n")
    books = lab.Books(tmp_path)
    books.maildir = tmp_path / "mail"
    books.sent["l"] = 1
    numbers, troubles = books.judge()
    assert not troubles and numbers["delivered"] == 1
