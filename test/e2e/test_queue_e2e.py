# SPDX-License-Identifier: MIT
"""What waits: the schedule, holds, operators' actions, limits, fairness; over restarts, crashes and reloads."""
import datetime
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time

import pytest
from lib.outgoing import SENDER, attempts_of, last_of, seconds_of, send, sending_relay, wait_attempts, wait_empty, wait_event
from lib.process import die_with_parent, wait_until
from lib.receiver import CLOSE, Delay
from lib.relay import BINARY, Refused

ONE = {"lanes": [{"match": "*", "connections": 1}]}
SLOW_RETRY = {"retry": {"first": "60s", "factor": 1, "max": "60s", "lifetime": "1h", "warn_after": "none"}}


@pytest.fixture
def relay(make_relay):
    return sending_relay(make_relay)


def recipients_of(receiver):
    return [r for t in receiver.messages() for r in t.recipients]


def not_yet(receiver, seconds=1.5):
    time.sleep(seconds)
    assert not receiver.messages()


# ---- the schedule

def test_retry_schedule(make_relay, receiver_):
    """first 1 s, doubled each time up to 4 s, each with a tenth of jitter."""
    relay = sending_relay(make_relay, {"retry": {"first": "1s", "factor": 2, "max": "4s"}})
    times = []
    receiver_.script("rcpt", "451 4.2.0 later", when=lambda text: times.append(time.monotonic()) or True)
    ident = send(relay, "bob@example.org")
    wait_until(lambda: len(times) >= 5, 25)
    gaps = [b - a for a, b in zip(times, times[1:])]
    for gap, nominal in zip(gaps, (1, 2, 4, 4)):
        assert nominal * 0.88 <= gap <= nominal * 1.1 + 5.0, gaps  # a busy machine is late
    message = wait_until(lambda: (m := relay.message(ident)) and attempts_of(m) >= 5 and m["recipients"][0]["next_attempt_at"] and m)
    waits = seconds_of(message["recipients"][0]["next_attempt_at"]) - seconds_of(last_of(message)["at"])
    assert 4 * 0.88 <= waits <= 4 * 1.1 + 0.2, "what it has decided does not depend on the machine"
    assert attempts_of(message) >= 5 and last_of(message)["code"] == 451
    why = relay.cli("message", "why", ident)
    assert why["limit"] == "retry_time" and why["setting"].startswith("retry") and why["until"]


def test_scheduled(relay, receiver_):
    """X-Posthaste-Send-At: not before; shown as scheduled; a restart in between changes nothing."""
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=5)
    ident = send(relay, "bob@example.org", X_Posthaste_Send_At=at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")[:-4] + "Z")
    assert relay.cli_list("queue", "list")[0]["state"] == "scheduled"
    assert relay.cli("message", "why", ident)["limit"] == "scheduled"
    relay.restart()
    got = receiver_.wait_one("bob@example.org")
    assert datetime.datetime.now(datetime.timezone.utc) >= at - datetime.timedelta(seconds=1)
    assert b"X-Posthaste" not in got.data
    assert attempts_of(relay.wait_state(ident, "delivered")) == 1


# ---- holds and actions

def test_hold_and_release_a_message(make_relay, receiver_):
    relay = sending_relay(make_relay, SLOW_RETRY)
    receiver_.script("rcpt", "451 4.2.0 later", times=1)
    ident = send(relay, "bob@example.org")
    wait_attempts(relay, ident, 1)
    assert relay.cli("queue", "hold", "--id", ident) == {"matched": 1, "changed": 1, "dry_run": False}
    assert relay.states(ident) == {"bob@example.org": "held"}
    assert relay.cli("message", "why", ident)["limit"] == "hold"
    assert relay.cli("queue", "hold", "--id", ident)["changed"] == 0
    relay.restart()
    assert relay.states(ident) == {"bob@example.org": "held"}
    not_yet(receiver_)
    assert relay.cli("queue", "release", "--id", ident)["changed"] == 1
    relay.cli("queue", "retry", "--id", ident)
    relay.wait_state(ident, "delivered")
    types = [e["type"] for e in relay.cli_list("events") if e["id"] == ident]
    assert types.index("held") < types.index("released") < types.index("delivered")


@pytest.mark.parametrize("released", [False, True])
def test_a_hold_keeps_the_schedule(make_relay, receiver_, released):
    """Held and released mail is due when it was before, also after kill -9."""
    relay = sending_relay(make_relay, SLOW_RETRY)
    receiver_.script("rcpt", "451 4.2.0 later", times=1)
    ident = send(relay, "bob@example.org")
    wait_attempts(relay, ident, 1)
    due = relay.message(ident)["recipients"][0]["next_attempt_at"]
    relay.cli("queue", "hold", "--id", ident)
    if released:
        relay.cli("queue", "release", "--id", ident)
    relay.kill()
    relay.start()
    if not released:
        relay.cli("queue", "release", "--id", ident)
    after = relay.message(ident)["recipients"][0]["next_attempt_at"]
    assert abs(seconds_of(after) - seconds_of(due)) < 0.5
    assert relay.cli("message", "why", ident)["limit"] == "retry_time"
    not_yet(receiver_)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_hold_a_domain(make_relay, receiver_, dns, make_receiver, how):
    """Holds what is there and what comes later, and no other domain; neither a restart nor kill -9 ends it."""
    relay = sending_relay(make_relay)
    other = make_receiver()
    dns.domain("other.test", other)
    assert relay.cli("queue", "hold", "--domain", "Example.ORG")["matched"] == 0
    first = send(relay, ["bob@example.org", "bob@other.test"])
    other.wait_one("bob@other.test")
    relay.wait_state(first, "held", "bob@example.org")
    relay.stop() if how == "stop" else relay.kill()
    relay.start()
    second = send(relay, "eve@example.org")
    relay.wait_state(second, "held")
    not_yet(receiver_)
    assert relay.cli("queue", "release", "--domain", "example.org")["changed"] == 2
    for ident in (first, second):
        relay.wait_state(ident, "delivered")
    relay.wait_state(send(relay, "carol@example.org"), "delivered")


def test_hold_an_account_and_all(relay, receiver_):
    relay.cli("queue", "hold", "--account", "trusted")
    first = send(relay, "bob@example.org")
    relay.wait_state(first, "held")
    relay.cli("queue", "release", "--account", "trusted")
    relay.wait_state(first, "delivered")
    relay.cli("queue", "hold", "--all")
    second = send(relay, "bob@example.org")
    relay.wait_state(second, "held")
    assert relay.cli("queue", "release", "--all", "--dry-run") == {"matched": 1, "changed": 0, "dry_run": True}
    assert relay.states(second) == {"bob@example.org": "held"}
    relay.cli("queue", "release", "--all")
    relay.wait_state(second, "delivered")


def test_several_holds(relay, receiver_):
    """Mail goes when the last hold that covers it ends; until then a release says that it stays, and `why` names the hold."""
    relay.cli("queue", "hold", "--account", "trusted")
    relay.cli("queue", "hold", "--domain", "example.org")
    ident = send(relay, "bob@example.org")
    relay.wait_state(ident, "held")
    for words in (["--recipient", "bob@example.org"], ["--domain", "example.org"]):
        assert relay.cli("queue", "release", *words) == {"matched": 1, "changed": 0, "dry_run": False}
    assert "Another hold still covers 1" in relay.run("queue", "release", "--domain", "example.org").stdout
    assert relay.cli("message", "why", ident)["setting"] == "queue release --account"
    assert "released" not in [e["type"] for e in relay.cli_list("events") if e["id"] == ident]
    assert relay.states(ident) == {"bob@example.org": "held"} and not receiver_.messages()
    assert relay.cli("queue", "release", "--account", "trusted")["changed"] == 1
    relay.wait_state(ident, "delivered")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_release_one_that_a_hold_covers(make_relay, receiver_, how):
    """What is released by its id goes, though a hold of its domain stands: over deferrals and restarts, until it is held again."""
    relay = sending_relay(make_relay, SLOW_RETRY)
    receiver_.script("rcpt", "451 4.2.0 later", times=2)
    relay.cli("queue", "hold", "--domain", "example.org")
    ident, other = send(relay, ["bob@example.org", "eve@example.org"]), send(relay, "carol@example.org")
    relay.wait_state(ident, "held")
    assert relay.cli("queue", "release", "--id", ident) == {"matched": 2, "changed": 2, "dry_run": False}
    wait_until(lambda: all(r["attempts"] == 1 for r in relay.message(ident)["recipients"]), 10)
    relay.stop() if how == "stop" else relay.kill()
    relay.start()
    why = relay.cli("message", "why", ident)
    assert why["limit"] == "retry_time" and "released by itself from a hold that stands" in why["text"]
    assert relay.states(ident) == {"bob@example.org": "queued", "eve@example.org": "queued"}
    assert relay.cli("queue", "hold", "--recipient", "eve@example.org")["changed"] == 1
    relay.restart()
    relay.cli("queue", "retry", "--id", ident)
    relay.wait_state(ident, "delivered", "bob@example.org")
    assert relay.states(ident)["eve@example.org"] == "held" and relay.states(other) == {"carol@example.org": "held"}
    released = next(row for row in relay.cli_list("audit") if row["action"] == "queue.release")
    assert released["args"]["id"] == ident and released["outcome"] == "done" and released["detail"] == "matched 2, changed 2"
    assert "released" in [e["type"] for e in relay.cli_list("events") if e["id"] == ident]


def test_retry_now(make_relay, receiver_):
    relay = sending_relay(make_relay, SLOW_RETRY)
    receiver_.script("rcpt", "451 4.2.0 later", times=2)
    ident = send(relay, ["bob@example.org", "eve@example.org"])
    wait_until(lambda: all(r["attempts"] for r in relay.message(ident)["recipients"]), 10)
    assert relay.cli("queue", "retry", "--recipient", "bob@example.org")["matched"] == 1
    relay.wait_state(ident, "delivered", "bob@example.org")
    assert relay.states(ident)["eve@example.org"] == "queued"
    relay.cli("queue", "retry", "--domain", "example.org")
    relay.wait_state(ident, "delivered")


def test_bounce_and_delete(make_relay, receiver_, dns, make_receiver):
    """The operator gives up for the sender: told (bounce) or not (delete)."""
    relay = sending_relay(make_relay, SLOW_RETRY)
    box = make_receiver()
    dns.domain("client.test", box)
    receiver_.script("rcpt", "451 4.2.0 later")
    returned, removed = send(relay, "bob@example.org"), send(relay, "eve@example.org")
    for ident in (returned, removed):
        wait_attempts(relay, ident, 1)
    assert relay.cli("queue", "bounce", "--id", returned, "--reason", "sent by mistake")["changed"] == 1
    assert relay.cli("queue", "delete", "--id", removed)["changed"] == 1
    relay.wait_state(returned, "failed")
    relay.wait_state(removed, "removed")
    told = box.wait_one(SENDER).data
    assert b"  bob@example.org\r\n    was returned by an operator of this mail system: sent by mistake.\r\n" in told
    assert b"Diagnostic-Code: x-posthaste; returned by an operator of this mail system: sent by mistake\r\n" in told
    assert b"receiving server" not in told and b"Last-Attempt-Date" not in told
    bob = relay.message(returned)["recipients"][0]
    assert bob["attempts"] == 1 and bob["last"]["text"].endswith("system: sent by mistake")
    assert (bob["last"]["reason"], bob["last"]["hard"]) == (None, None)
    event = next(e for e in relay.cli_list("events") if e["id"] == returned and e["type"] == "bounced")
    assert " by cli:" in event["text"]
    wait_empty(relay)
    assert len(box.messages()) == 1
    assert wait_event(relay, removed, "removed")
    relay.restart()
    assert relay.states(removed) == {"eve@example.org": "removed"} and relay.cli("queue", "list") == []


def test_suspended_account(relay, receiver_):
    """A suspended account can't send, and what it has queued is held until it is active again."""
    receiver_.script("rcpt", "451 4.2.0 later")
    ident = send(relay, "bob@example.org")
    wait_until(lambda: [c for c in receiver_.commands if c.startswith("RCPT")], 5)
    relay.cli("account", "suspend", "trusted")
    receiver_.clear()
    with pytest.raises(Refused) as refused:
        send(relay, "bob@example.org")
    assert b"suspended" in refused.value.text
    relay.wait_state(ident, "held")
    not_yet(receiver_, 2)
    relay.restart()
    assert relay.states(ident) == {"bob@example.org": "held"}
    relay.cli("account", "activate", "trusted")
    relay.wait_state(ident, "delivered")


def test_closed_account(make_relay, receiver_):
    """Its queued mail is held, which `why` says how to end."""
    relay = sending_relay(make_relay, SLOW_RETRY)
    receiver_.script("rcpt", "451 4.2.0 later")
    ident = send(relay, "bob@example.org")
    wait_attempts(relay, ident, 1)
    relay.cli("account", "close", "trusted")
    relay.wait_state(ident, "held")
    why = relay.cli("message", "why", ident)
    assert "closed" in str(why) and "queue bounce --account" in str(why), why
    assert relay.cli("queue", "bounce", "--account", "trusted")["changed"] == 1
    relay.wait_state(ident, "failed")


def test_suspended_beside_an_operators_hold(make_relay, receiver_):
    """An account that is active again gets back its mail, but not what an operator holds."""
    relay = sending_relay(make_relay, SLOW_RETRY)
    receiver_.script("rcpt", "451 4.2.0 later", times=2)
    held, ident = [send(relay, "bob@example.org") for _ in range(2)]
    for one in (held, ident):
        wait_attempts(relay, one, 1)
    relay.cli("queue", "hold", "--id", held)
    relay.cli("account", "suspend", "trusted")
    relay.wait_state(ident, "held")
    assert relay.cli("queue", "release", "--account", "trusted")["changed"] == 1  # which it may not be sent for
    relay.cli("queue", "hold", "--id", held)
    relay.cli("account", "activate", "trusted")
    relay.wait_state(ident, "queued")
    assert relay.states(held) == {"bob@example.org": "held"}
    relay.cli("account", "suspend", "trusted")
    relay.stop()
    relay.cli("account", "activate", "trusted")  # on the files
    relay.start()
    assert (relay.states(held), relay.states(ident)) == ({"bob@example.org": "held"}, {"bob@example.org": "queued"})
    relay.cli("queue", "retry", "--all")
    relay.wait_state(ident, "delivered")
    assert len(receiver_.messages()) == 1


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("strace"), reason="needs root and strace")
def test_nothing_new_goes_out_while_a_flush_hangs(make_relay, dns, make_receiver):
    """What is delivered meanwhile is written nowhere: a crash would have all of it delivered again."""
    relay, box = sending_relay(make_relay, ONE), make_receiver()
    dns.domain("example.org", box)
    box.script("rcpt", Delay(0.005))
    relay.run("load", "--to", "%s:%d" % relay.listener("trusted"), "--count", 1500, "--sessions", "20", "--rcpt", "u%m@example.org", timeout=120)
    hang = ["strace", "-f", "-p", str(relay.relay_pid()), "-e", "trace=fdatasync", "-e", "signal=none", "-e", "inject=fdatasync:delay_exit=12000000"]
    with subprocess.Popen(hang, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent) as tracer:
        try:
            assert "attached" in tracer.stderr.readline()
            threading.Thread(target=tracer.stderr.read, daemon=True).start()
            counts = []
            for _ in range(5):
                counts.append(len(box.messages()))
                if counts[-2:-1] == counts[-1:]:
                    break
                time.sleep(2)
        finally:
            tracer.terminate()
    assert counts[-2] == counts[-1] < 1500, counts
    wait_until(lambda: len(box.messages()) == 1500, 60, "all of them")


def peak_kb(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def test_bounce_of_thousands(make_relay, dns, make_receiver):
    """`queue bounce --all`: each sender is told, what is told stays queued, and the service serves others meanwhile."""
    count = 3000
    relay = sending_relay(make_relay, {**SLOW_RETRY, "limits": {"message_size": "1MiB"}})
    box = make_receiver()
    dns.domain("senders.test", box)
    dns.domain("example.org", make_receiver())
    relay.cli("queue", "hold", "--all")
    relay.run("load", "--to", "%s:%d" % relay.listener("trusted"), "--count", count, "--sessions", "20", "--size", "20000", "--from",
              "load@senders.test", "--rcpt", "u%m@example.org", timeout=120)
    before = peak_kb(relay.relay_pid())
    command = [BINARY, "queue", "bounce", "--all", "--json", "--config", relay.config_file]
    accepted = []
    with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True) as bounce:
        while bounce.poll() is None:
            accepted.append(send(relay, "bob@example.org"))
        result = json.loads(bounce.stdout.read())
    assert accepted, "nobody else was served meanwhile"
    # Those before the command reached the service as well; never the notifications.
    assert count <= result["changed"] <= count + len(accepted) and result["matched"] == result["changed"], (result, len(accepted))
    assert peak_kb(relay.relay_pid()) - before < 64 << 10
    rows = relay.cli_list("queue", "list")
    assert sum(row["domain"] == "senders.test" for row in rows) == count
    relay.cli("queue", "release", "--domain", "senders.test")
    relay.cli("queue", "release", "--all")
    wait_until(lambda: len(box.messages()) >= count, 120, "all notifications", every=0.5)
    wait_until(lambda: "senders.test" not in [row["domain"] for row in relay.cli_list("queue", "list")], 30, "no more")
    assert len(box.messages()) == count


# ---- restarts, crashes, reloads

@pytest.mark.parametrize("how", ["stop", "kill"])
def test_restart_in_between(make_relay, receiver_, how):
    """What was accepted is there after a restart and after kill -9, with its attempts; delivered once."""
    relay = sending_relay(make_relay, SLOW_RETRY)
    receiver_.script("rcpt", "451 4.2.0 later", times=1)
    idents = [send(relay, "bob@example.org")]
    wait_attempts(relay, idents[0], 1)
    relay.cli("queue", "hold", "--domain", "example.org")
    idents += [send(relay, f"b{n}@example.org", body="text\n" * (n * 20000)) for n in range(4)]
    relay.stop() if how == "stop" else relay.kill()
    relay.start()
    assert attempts_of(relay.message(idents[0])) == 1
    relay.cli("queue", "release", "--domain", "example.org")
    relay.cli("queue", "retry", "--all")
    for ident in idents:
        relay.wait_state(ident, "delivered")
    assert sorted(recipients_of(receiver_)) == ["b0@example.org", "b1@example.org", "b2@example.org", "b3@example.org", "bob@example.org"]


def test_stop_lets_a_transaction_finish(make_relay, receiver_):
    """SIGTERM while a server is thinking about the final dot: its answer is waited for, and nothing is sent twice."""
    relay = sending_relay(make_relay)
    receiver_.script("end", Delay(2), times=1)
    ident = send(relay, "bob@example.org")
    wait_until(lambda: "DATA" in receiver_.commands, 10)
    assert relay.stop() == 0
    relay.start()
    relay.wait_state(ident, "delivered")
    time.sleep(1)
    assert len(receiver_.messages()) == 1


def test_the_relay_process_is_restarted(make_relay, receiver_):
    """The guard starts a new relay process when the old one dies; what was accepted is delivered."""
    relay = sending_relay(make_relay, SLOW_RETRY)
    relay.cli("queue", "hold", "--all")
    ident = send(relay, "bob@example.org")
    guard, child = relay.pids()[:2]
    assert guard == relay.process.pid
    os.kill(child, signal.SIGKILL)

    def answers():
        return relay.run("queue", "list", "--json", check=False).returncode == 0 and relay.pids()[1:2] not in ([], [child])
    wait_until(answers, 15)
    relay.process.check_running()
    relay.cli("queue", "release", "--all")
    relay.wait_state(ident, "delivered")
    relay.wait_state(send(relay, "eve@example.org"), "delivered")
    assert relay.stop() == 0


def test_reload_changes_routes(make_relay, make_receiver, dns):
    """Routes hold from the next attempt on, for what is queued already too."""
    old, new = make_receiver(), make_receiver()
    old.script("rcpt", "451 4.2.0 never")
    dns.domain("example.org", old)
    relay = sending_relay(make_relay, {"routes": [{"match": {}, "via": f"smtp://{old.address}:{old.port}"}]})
    waiting = send(relay, "bob@example.org")
    wait_attempts(relay, waiting, 1)
    relay.reload({"routes": [{"match": {}, "via": f"smtp://{new.address}:{new.port}"}]})
    new.wait_one("bob@example.org")
    relay.wait_state(waiting, "delivered")
    assert not old.messages()
    relay.config_file.write_text("routes: [{match: {}, via: nonsense}]\n")
    relay.process.signal(signal.SIGHUP)
    wait_until(lambda: "reload refused" in relay.log(), 10)
    relay.write_config()  # the commands read it too
    relay.wait_state(send(relay, "eve@example.org"), "delivered")
    assert len(new.messages()) == 2


def test_hourly_limit_survives_a_restart(make_relay, receiver_):
    relay = sending_relay(make_relay, {"lanes": [{"match": "*", "connections": 2, "messages_per_hour": 5}]})
    idents = [send(relay, f"b{n}@example.org") for n in range(8)]
    receiver_.wait(5)
    time.sleep(1)
    relay.restart()
    time.sleep(2)
    assert len(receiver_.messages()) == 5
    left = [i for i in idents if "queued" in relay.states(i).values()]
    assert len(left) == 3
    why = relay.cli("message", "why", left[0])
    assert why["limit"] == "lane_rate" and "messages_per_hour" in why["setting"]
    assert relay.cli_list("queue", "lanes")[0]["hour_used"] == 5


# ---- many

@pytest.mark.parametrize("count", [500, pytest.param(100000, marks=pytest.mark.long)])
def test_accounts_take_turns(make_relay, receiver_, count):
    """So many messages of one account are due on one slow connection; another's one message does not wait for them."""
    relay = sending_relay(make_relay, {**ONE, "listeners": [
        {"name": name, "address": "127.0.0.1:0", "tls": "none", "auth": "optional", "trusted": ["127.0.0.0/8"], "account": name}
        for name in ("trusted", "small")]})
    relay.cli("account", "add", "small", "--any-sender")
    receiver_.script("end", Delay(0.03))
    load(relay, count)
    seen = len(receiver_.messages())
    assert seen < count - 100, "the receiver was too fast for this test"
    with relay.client("small") as client:
        before = len(receiver_.messages())
        send(relay, "me@example.org", client=client)
        after = len(receiver_.messages())
    receiver_.wait(1, "me@example.org")
    place = recipients_of(receiver_).index("me@example.org")
    assert before <= place <= after + 3, (before, place, after)


def test_transactional_before_bulk(make_relay, receiver_):
    relay = sending_relay(make_relay, ONE)
    receiver_.script("connect", Delay(1), times=1)
    relay.cli("queue", "hold", "--all")
    with relay.client("trusted") as client:
        for number in range(150):
            send(relay, f"b{number}@example.org", client=client, X_Posthaste_Class="bulk")
        send(relay, "reset@example.org", client=client, X_Posthaste_Class="transactional")
    relay.cli("queue", "release", "--all")
    receiver_.wait(151)
    assert recipients_of(receiver_).index("reset@example.org") <= 3  # one was chosen as the first was released


def load(relay, count, recipients="user%n@example.org"):
    address, port = relay.listener("trusted")
    out = subprocess.run([str(BINARY), "load", "--to", f"{address}:{port}", "--count", str(count), "--sessions", "10",
                          "--size", "500", "--from", SENDER, "--rcpt", recipients, "--json"],
                         capture_output=True, text=True, timeout=200)
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout.splitlines()[-1])


def refusing_round(make_relay, receiver, count):
    receiver.script("connect", "421 4.3.2 go away", CLOSE)
    relay = sending_relay(make_relay, {"retry": {"first": "2s", "factor": 1, "max": "2s", "lifetime": "1h", "warn_after": "none"}})
    begun = time.monotonic()
    load(relay, count)
    time.sleep(6)
    allowed = (time.monotonic() - begun) / 2 + 2
    assert 2 <= receiver.connections <= allowed, (receiver.connections, allowed)
    lanes = wait_until(lambda: (rows := relay.cli_list("queue", "lanes")) and rows[0]["backoff_until"] and rows)  # but while it tries
    assert len(lanes) == 1 and "go away" in lanes[0]["text"]
    receiver.clear()
    receiver.wait(count, seconds=90)
    wait_empty(relay, 60)
    assert len(receiver.messages()) == count


def test_refusing_site_costs_few_connections(make_relay, receiver_):
    """500 messages for a site that refuses: one connection each retry interval, not one each message."""
    refusing_round(make_relay, receiver_, 500)


@pytest.mark.long
def test_refusing_site_with_10000_messages(make_relay, receiver_):
    refusing_round(make_relay, receiver_, 10000)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_what_waits_for_a_site_says_until_when(make_relay, receiver_, how):
    """The next attempt is not before the lane's; `why`, `queue list` and `queue lanes` say the same, and why, over a restart, too."""
    receiver_.script("connect", "421 4.3.2 go away = for 100% of a day", CLOSE)
    relay = sending_relay(make_relay, SLOW_RETRY)
    ident = send(relay, "bob@example.org")
    wait_until(lambda: relay.cli("message", "why", ident)["limit"] == "backoff", 15)
    for _ in range(2):
        until = wait_until(lambda: (found := relay.cli("message", "why", ident))["limit"] == "backoff" and found, 15)
        assert "go away = for 100% of a day" in until["text"] and until["last"] is None
        assert "go away = for 100% of a day" in relay.cli_list("queue", "lanes")[0]["text"]
        shown = relay.message(ident)["recipients"][0]["next_attempt_at"]
        listed = relay.cli_list("queue", "list")[0]["next_attempt_at"]
        assert all(abs(seconds_of(at) - seconds_of(until["until"])) < 0.5 for at in (shown, listed)), (until, shown, listed)
        relay.stop() if how == "stop" else relay.kill()
        relay.start()


# ---- backup

def test_a_restored_backup_is_on_hold(make_relay, receiver_, tmp_path):
    """An old cut would send again: nothing leaves a restored spool until somebody has looked."""
    relay = sending_relay(make_relay, SLOW_RETRY)
    receiver_.script("rcpt", "451 4.2.0 later", times=1)
    ident = send(relay, "bob@example.org")
    wait_attempts(relay, ident, 1)
    relay.cli("backup", tmp_path / "backup")
    relay.stop()
    restored = make_relay(SLOW_RETRY, start=False, name="restored")
    restored.run("restore", tmp_path / "backup")
    restored.start()
    restored.wait_state(ident, "held")
    assert [m["id"] for m in restored.cli_list("message", "find", "--recipient", "bob@example.org")] == [ident]
    assert restored.cli("message", "why", ident, "bob@example.org")["limit"] == "hold"
    refused = restored.run("queue", "release", "--id", ident, check=False)
    assert refused.returncode != 0 and "until `posthaste queue release --all`" in refused.stderr
    later = send(restored, "eve@example.org")
    not_yet(receiver_)
    restored.restart()
    not_yet(receiver_)
    restored.cli("queue", "release", "--all")
    restored.cli("queue", "retry", "--all")
    for one in (ident, later):
        restored.wait_state(one, "delivered")


# ---- held for longer than it lives

SHORT_LIFE = {"retry": {"first": "4s", "factor": 1, "max": "4s", "lifetime": "4s", "warn_after": "none"}}


def relay_with_one_held(make_relay):
    relay = sending_relay(make_relay, SHORT_LIFE)
    relay.cli("queue", "hold", "--all")
    return relay, send(relay, "bob@example.org")


def held_by_an_operator(make_relay, folder):
    """A relay with a message that is past its lifetime, the message, and what lets it go."""
    relay, ident = relay_with_one_held(make_relay)
    time.sleep(4.5)
    return relay, ident, lambda: relay.cli("queue", "release", "--all")


def held_with_its_account(make_relay, folder):
    relay, ident = relay_with_one_held(make_relay)
    relay.cli("account", "suspend", "trusted")
    relay.cli("queue", "release", "--all")
    time.sleep(4.5)
    return relay, ident, lambda: relay.cli("account", "activate", "trusted")


def held_as_a_restored_backup(make_relay, folder):
    relay, ident = relay_with_one_held(make_relay)
    relay.cli("backup", folder / "backup")
    relay.stop()
    restored = make_relay(SHORT_LIFE, start=False, name="restored")
    restored.run("restore", folder / "backup")
    time.sleep(4.5)
    return restored.start(), ident, lambda: restored.cli("queue", "release", "--all")


@pytest.mark.parametrize("held", [held_by_an_operator, held_with_its_account, held_as_a_restored_backup])
def test_released_after_its_lifetime_and_a_crash(make_relay, receiver_, tmp_path, held):
    """Releasing is not failing: the release gives it time for an attempt, and so does the start that a crash leads to."""
    relay, ident, release = held(make_relay, tmp_path)
    receiver_.script("connect", Delay(60), times=1)
    release()
    relay.wait_state(ident, "queued")
    relay.kill()
    relay.start()
    relay.wait_state(ident, "delivered")
    assert recipients_of(receiver_) == ["bob@example.org"]


def test_its_account_is_activated_while_nothing_runs(make_relay, receiver_, tmp_path):
    """Nobody could have noted then that its mail needs time."""
    relay, ident, _ = held_with_its_account(make_relay, tmp_path)
    relay.stop()
    relay.cli("account", "activate", "trusted")  # on the files
    relay.start()
    relay.wait_state(ident, "delivered")


# ---- events

def test_events_are_in_order_and_agree(relay, receiver_, dns, make_receiver):
    """One record: what the events say and what message show says is the same; cursors only grow; --after goes on."""
    box = make_receiver()
    dns.domain("client.test", box)
    receiver_.script("rcpt", "451 4.2.0 later", when="slow@", times=2)
    receiver_.script("rcpt", "550 5.1.1 no", when="bad@")
    idents = [send(relay, [f"good{n}@example.org", "slow@example.org", "bad@example.org"]) for n in range(2)]
    for ident in idents:
        relay.wait_state(ident, "delivered", "slow@example.org")
    box.wait(2)
    wait_empty(relay)
    for ident in idents:
        wait_event(relay, ident, "delivered", count=2)
    events = relay.cli_list("events")
    cursors = [e["cursor"] for e in events]
    assert cursors == sorted(cursors)
    for ident in idents:
        message = relay.message(ident)
        for row in message["recipients"]:
            mine = [e for e in events if e["id"] == ident and e["recipient"] == row["address"]]
            types = [e["type"] for e in mine if e["type"] not in ("attempted", "dsn")]
            tries = [e for e in mine if e["type"] in ("deferred", "delivered", "bounced")]
            assert types[0] == "accepted" and len(tries) == row["attempts"]
            assert types[-1] == {"delivered": "delivered", "failed": "bounced"}[row["state"]]
            assert (tries[-1]["code"], tries[-1]["enhanced"], tries[-1]["text"]) == (
                row["last"]["code"], row["last"]["enhanced"], row["last"]["text"])
    middle = cursors[len(cursors) // 2]
    assert relay.cli_list("events", "--after", middle) == [e for e in events if e["cursor"] > middle]
    relay.restart()
    assert relay.cli_list("events")[:len(events)] == events, "the history is the same after a restart"


def test_events_can_be_followed(relay, receiver_):
    follower = subprocess.Popen([str(BINARY), "events", "--follow", "--json", "--config", str(relay.config_file)],
                                stdout=subprocess.PIPE, text=True)
    seen = []

    def read():
        for line in follower.stdout:
            seen.append(json.loads(line)["type"])
    threading.Thread(target=read, daemon=True).start()
    try:
        send(relay, "bob@example.org")
        receiver_.wait_one()
        wait_until(lambda: "delivered" in seen, 10, f"followed: {seen}")
    finally:
        follower.terminate()
        follower.wait(10)
    assert seen[0] == "accepted"
