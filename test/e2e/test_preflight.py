# SPDX-License-Identifier: MIT
"""What receivers would hold against a message: `message check`, and what becomes of submitted mail (the account's
option `preflight`)."""
import json
import subprocess

import pytest
from lib.relay import BINARY
from lib.world import PLAIN, world_fixture

MX = {"shop.test": {"MX": [[10, "mx.shop.test"]]}}
HTML = "Content-Type: text/html\r\n"
EXE = "Content-Type: application/octet-stream; name=invoice.exe\r\n"
ONE_CLICK = "List-Unsubscribe: <https://shop.test/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"


def config(world):
    return {"listeners": [PLAIN], "routes": [{"match": {}, "via": f"mx:{world.receiver.port}"}]}


def fill(world):
    world.dns.domain("shop.test", world.receiver)
    world.dns.null_mx("dead.test")
    for mode in ("off", "warn", "hold", "refuse"):
        world.relay.add_account(mode, domains=["shop.test", "dead.test"])
        world.relay.cli("account", "set", mode, "preflight", mode)
    world.relay.add_account("bulk", domains=["shop.test"], options=["--class", "bulk"])
    world.relay.cli("account", "set", "bulk", "preflight", "refuse")


world = world_fixture(config, fill)


def message(head="", body="hello\r\n", sender="a@shop.test"):
    return f"From: {sender}\r\nTo: b@example.org\r\nSubject: x\r\n{head}\r\n{body}".encode()


def send(world, account, data, sender="a@shop.test"):
    """The reply to the content."""
    with world.open("plain", account, source=world.source()) as raw:
        raw.envelope(sender, "b@example.org")
        return raw.data(data)


def ident_of(answer):
    assert answer.code == 250, answer
    return answer.text.split()[-1]


def findings(world, ident):
    return [one["id"] for one in world.relay.message(ident)["preflight"]]


# ---- submitted mail

def test_off_finds_nothing(world):
    ident = ident_of(send(world, "off", message(EXE, sender="a@dead.test"), "a@dead.test"))
    world.arrived(ident)
    assert findings(world, ident) == []


def test_warn_records(world):
    """The message goes out as it is; what was found stands in `message show`."""
    ident = ident_of(send(world, "warn", message(HTML, '<a href="http://192.0.2.1/">x</a>\r\n', "a@dead.test"), "a@dead.test"))
    world.arrived(ident)
    found = world.relay.message(ident)["preflight"]
    assert [(one["id"], one["severity"]) for one in found] == [
        ("from_without_mx", "refuse"), ("link_to_address", "warn"), ("text_part_missing", "warn")]
    assert found[0]["where"] == "From: dead.test" and found[1]["where"] == "part 1: 192.0.2.1"
    assert all(one["text"] and one["fix"] for one in found)
    assert "link_to_address (part 1: 192.0.2.1)" in world.relay.run("message", "show", ident).stdout


def test_hold_keeps_it(world):
    """Held with its reason, before any attempt, also after a restart; released it goes out."""
    ident = ident_of(send(world, "hold", message(EXE)))
    world.relay.wait_state(ident, "held")
    events = [one for one in world.relay.cli_list("events") if one.get("id") == ident and one["type"] == "held"]
    assert [one["text"] for one in events] == ["dangerous_attachment (part 1: invoice.exe) by preflight"]
    world.relay.restart()
    world.relay.wait_state(ident, "held")
    assert world.relay.cli("queue", "release", "--id", ident)["changed"] == 1
    world.arrived(ident)
    assert findings(world, ident) == ["dangerous_attachment"]


@pytest.mark.parametrize("count, code", [(127, 250), (128, 554)])
def test_hold_is_for_so_many_recipients_at_most(world, count, code):
    """The reason stands in one frame of the journal with the message; who asks for more is told so, and not to try again."""
    with world.open("plain", "hold", source=world.source()) as raw:
        raw.ask("MAIL FROM:<a@shop.test>")
        for number in range(count):
            raw.ask(f"RCPT TO:<r{number}@example.org>")
        answer = raw.data(message(EXE))
    assert answer.code == code, answer
    if code == 250:
        rows = world.relay.message(ident_of(answer))["recipients"]
        assert len(rows) == count and {row["state"] for row in rows} == {"held"}
    else:
        assert answer.text == "5.5.3 Too many recipients for one message that has to be kept, or held, at once; send it to fewer"


def test_hold_lets_warnings_pass(world):
    ident = ident_of(send(world, "hold", message(HTML)))
    world.arrived(ident)
    assert findings(world, ident) == ["text_part_missing"]


def test_refuse_says_which(world):
    answer = send(world, "refuse", message(EXE))
    assert answer.code == 550 and answer.enhanced == "5.6.0" and "dangerous_attachment (part 1: invoice.exe)" in answer.text
    answer = send(world, "refuse", message(sender="a@dead.test"), "a@dead.test")
    assert answer.code == 550 and answer.enhanced == "5.7.1" and "from_without_mx (From: dead.test)" in answer.text
    ident_of(send(world, "refuse", message(HTML)))  # a warning only


def test_large_message_is_refused_whole(world):
    """A body in an extent file: what is found at its end still counts, and nothing of it is left."""
    part = "--b\r\nContent-Type: text/plain\r\n\r\n" + ("x" * 70 + "\r\n") * 10000
    data = message("Content-Type: multipart/mixed; boundary=b\r\n", part + "--b\r\n" + EXE + "\r\nx\r\n--b--\r\n")
    answer = send(world, "refuse", data)
    assert answer.code == 550 and "part 3: invoice.exe" in answer.text
    assert not list((world.relay.folder / "spool").rglob("*.tmp"))


def test_bulk_needs_one_click(world):
    answer = send(world, "bulk", message())
    assert answer.code == 550 and "unsubscribe_missing" in answer.text
    assert ident_of(send(world, "bulk", message("X-Posthaste-Class: personal\r\n")))


def test_options_hold_for_the_next_message(world):
    world.relay.cli("account", "set", "refuse", "preflight", "off")
    ident_of(send(world, "refuse", message(EXE)))
    world.relay.cli("account", "set", "refuse", "preflight", "refuse")
    assert send(world, "refuse", message(EXE)).code == 550


# ---- message check

@pytest.fixture
def check(tmp_path):
    def run(data, *options, zone=MX, json_=True, code=0):
        file = tmp_path / "zone.json"
        file.write_text(json.dumps(zone))
        result = subprocess.run([BINARY, "message", "check", *(["--json"] if json_ else []), "--zone", file, *options], input=data,
                                capture_output=True)
        assert result.returncode == code, result.stderr
        return json.loads(result.stdout) if json_ and not code else result.stdout.decode()
    return run


def ids(found):
    return [one["id"] for one in found["findings"]]


def test_check_of_a_good_message(check):
    assert check(message()) == {"verdict": "ok", "findings": []}
    assert check(message().replace(b"\r\n", b"\n")) == {"verdict": "ok", "findings": []}
    assert check(message(), json_=False) == "verdict: ok\n"


@pytest.mark.parametrize("name, data, options, verdict", [
    ("from_without_mx", message(sender="a@absent.test"), [], "refuse"),
    ("dangerous_attachment", message(EXE), [], "refuse"),
    ("text_part_missing", message(HTML), [], "warn"),
    ("html_too_large", message("Content-Type: multipart/alternative; boundary=b\r\n",
                               "--b\r\n\r\nx\r\n--b\r\n" + HTML + "\r\n" + "<p>12345\r\n" * 11000 + "--b--\r\n"), [], "warn"),
    ("link_to_address", message(body="http://10.0.0.1/\r\n"), [], "warn"),
    ("unsubscribe_missing", message(), ["--class", "bulk"], "refuse"),
    ("unsubscribe_missing", message("X-Posthaste-Class: bulk\r\n"), [], "refuse"),
], ids=["mx", "attachment", "text", "html", "link", "bulk", "bulk-by-field"])
def test_check_names_it(check, name, data, options, verdict):
    found = check(data, *options)
    assert ids(found) == [name] and found["verdict"] == verdict
    one = found["findings"][0]
    assert set(one) == {"id", "severity", "where", "text", "fix"} and one["severity"] == verdict
    assert f"{verdict}: {name}\n  where  {one['where']}\n" in check(data, *options, json_=False)


def test_check_as_an_account(check, make_relay):
    """With --account: whose mail it is decides about signatures and classes."""
    relay = make_relay(start=False)
    relay.cli("account", "add", "acme", "--class", "bulk")
    run = ("--config", str(relay.config_file), "--account", "acme")
    assert ids(check(message(ONE_CLICK), *run, "--from", "bounce@other.test")) == ["dmarc_alignment", "unsubscribe_unsigned"]
    assert ids(check(message(), *run)) == ["unsubscribe_missing"]
    check(message(), "--config", str(relay.config_file), "--account", "nobody", code=66)


def test_check_without_an_answer(check):
    """What the DNS does not say is not held against a message."""
    assert check(message(), zone={"shop.test": {"RCODE": "SERVFAIL"}})["verdict"] == "ok"


def test_check_of_nothing(check):
    check(b"", code=65)
    check(message(), "--class", "junk", code=64)
    check(message(), "--from", "no address", code=64)
