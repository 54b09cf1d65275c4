# SPDX-License-Identifier: MIT
"""sendmail(1), newaliases and the pickup folder: mail from programs of this host, as what their user's account may send."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import pytest
from lib.process import wait_until
from lib.raw import FALSE_ENDS, Raw
from lib.relay import BINARY
from lib.world import world_fixture

NOBODY, STRANGER = 65534, 65533
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run programs as other users")


class Place:
    """What users of the host can reach: links to the program, its configuration, the socket, the pickup folder."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ph-"))
        self.folder.chmod(0o755)
        self.socket, self.pickup, self.config = self.folder / "submit.sock", self.folder / "pickup", self.folder / "p.yaml"
        for name in ("sendmail", "mailq", "newaliases", "posthaste"):
            (self.folder / name).symlink_to(BINARY.resolve())


PLACE = {}


@pytest.fixture(scope="module", autouse=True)
def place():
    PLACE["it"] = it = Place()
    yield it
    shutil.rmtree(it.folder)


def config(world):
    it = PLACE["it"]
    return {"workers": 1, "control": str(it.folder / "control"), "sendmail": {"socket": str(it.socket), "pickup": str(it.pickup), "accounts": [
        {"user": "root", "account": "ops"}, {"user": str(NOBODY), "account": "web"}, {"user": "no-such-user-here", "account": "ops"}]},
        "limits": {"message_size": "4MiB"}}


def fill(world):
    it = PLACE["it"]
    world.relay.add_account("ops", domains=["relay.test", "ops.test"])
    world.relay.add_account("web", domains=["web.test"])
    shutil.copy(world.relay.config_file, it.config)
    it.config.chmod(0o644)


world = world_fixture(config, fill)


def call(*arguments, stdin="", name="sendmail", uid=None, env=None, place=None):
    """The program by that name; the finished process, with bytes decoded."""
    it = place or PLACE["it"]
    switch = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
    text = stdin if isinstance(stdin, bytes) else stdin.encode()
    done = subprocess.run([*switch, str(it.folder / name), *map(str, arguments)], input=text, capture_output=True, timeout=60,
                          env={"PATH": os.environ["PATH"], "POSTHASTE_CONFIG": str(it.config), "HOME": "/", **(env or {})})
    done.out, done.err = done.stdout.decode(), done.stderr.decode()
    return done


def sent(world, *arguments, stdin, **kwargs):
    """What the receiver got of a message that was sent with -v."""
    done = call("-v", *arguments, stdin=stdin, **kwargs)
    assert done.returncode == 0, done.err
    return world.arrived(done.out.split()[-1])


# ---- what programs say -------------------------------------------------------------------------------------------

CRON = "From: root (Cron Daemon)\nTo: bob@example.org\nSubject: Cron <root@host> run\nX-Cron-Env: <HOME=/root>\n\n50%\r100%\ndone\n.\nmore\n"


def test_as_cron_calls_it(world):
    got = sent(world, "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "bob@example.org", stdin=CRON)
    assert got.mail_from == "root@relay.test" and got.recipients == ["bob@example.org"]
    header, _, body = got.data.partition(b"\r\n\r\n")
    assert b"From: root@relay.test (Cron Daemon)\r\n" in header and b"Message-ID:" in header and b"\r\nDate:" in header
    assert b"by relay.test (posthaste, from userid 0) with ESMTP id" in header
    assert body == b"50% 100%\r\ndone\r\n.\r\nmore\r\n"


def test_as_php_and_git_call_it(world):
    mail = "To: bob@example.org,\n Joe <joe@example.org>\nCc: x@example.org\nBcc: hid@example.org\nSubject: Gr\u00fc\u00dfe\nFrom: a@ops.test\n\nhi\n"
    got = sent(world, "-t", "-i", "-f", "bounce@ops.test", "also@example.org", stdin=mail)
    assert got.mail_from == "bounce@ops.test"
    assert sorted(got.recipients) == ["also@example.org", "bob@example.org", "hid@example.org", "joe@example.org", "x@example.org"]
    assert b"hid@" not in got.data and "Grüße" not in got.data.decode() and b"=?utf-8?" in got.data


def test_lone_dot_ends_unless_told(world):
    assert sent(world, "bob@example.org", stdin="Subject: d\n\none\n.\ntwo\n").data.endswith(b"\r\none\r\n")
    assert sent(world, "-oi", "bob@example.org", stdin="Subject: d\n\none\n.\ntwo\n").data.endswith(b"\r\none\r\n.\r\ntwo\r\n")


@pytest.mark.parametrize("sequence", FALSE_ENDS, ids=lambda s: repr(s)[2:-1])
def test_a_false_end_in_a_file(world, sequence):
    """sendmail -i: all of it is one message's text, whatever it looks like; or none of it goes."""
    evil = b"MAIL FROM:<evil@ops.test>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nFrom: evil@ops.test\r\n\r\nsmuggled\r\n"
    for end in (sequence, b"\r\n.\r\n"):
        done = call("-v", "-i", "bob@example.org", stdin=b"Subject: x\n\na" + end + evil)
        if done.returncode == 0:
            got = world.arrived(done.out.split()[-1])
            assert got.recipients == ["bob@example.org"] and got.data.count(b"MAIL FROM:") == 1 and b"smuggled" in got.data
        else:
            assert done.returncode == 65, done.err
    assert not world.receiver.messages("victim@example.org")


def test_from_is_made(world):
    header = sent(world, "-F", "Joe \"J\" Q.", "--", "bob@example.org", stdin="From me Thu Jan 1\nSubject: mbox\n\nx\n").data
    assert b"\r\nFrom: \"Joe \\\"J\\\" Q.\" <root@relay.test>\r\n" in header and b"From me" not in header
    assert b"\r\nFrom: Env <root@relay.test>\r\n" in sent(world, "bob@example.org", stdin="\nx\n", env={"NAME": "Env"}).data


def test_dsn_options_go_on(world):
    got = sent(world, "-N", "success,delay", "-R", "hdrs", "-V", "my id", "bob@example.org", stdin="Subject: n\n\nx\n")
    assert any(p.upper() == "RET=HDRS" for p in got.mail_parameters) and "ENVID=my+20id" in got.mail_parameters
    assert any(p.upper().startswith("NOTIFY=") for p in got.recipient_parameters["bob@example.org"])


def test_large_message_in_bounded_memory(world):
    text = ("x" * 99 + "\n") * 30000
    got = sent(world, "-i", "bob@example.org", stdin="Subject: big\n\n" + text)
    assert got.data.partition(b"\r\n\r\n")[2] == text.replace("\n", "\r\n").encode()


def test_smtp_over_standard_input(world):
    got = call("-bs", stdin="EHLO me\r\nMAIL FROM:<a@ops.test>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nFrom: a@ops.test\r\n\r\nhi\r\n.\r\n")
    assert got.returncode == 0 and "queued as" in got.out and got.out.rstrip().endswith("Bye")
    world.arrived(got.out.partition("queued as ")[2].split()[0])


# ---- exit codes --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, stdin, code, word", [
    ([], "x\n", 64, "recipients"),
    (["-t"], "Subject: x\n\n", 65, "no recipients"),
    (["-Z", "bob@example.org"], "", 64, "unknown option -Z"),
    (["-bx"], "", 64, "-bx"),
    (["bob@example.org", "-f", "x@ops.test"], "Subject: x\n\n", 64, "before the recipients"),
    (["-N", "sometimes", "-R", "half", "-bh"], "", 0, "ignored"),
    (["-f", "a, b", "bob@example.org"], "", 64, "not one address"),
    (["two words"], "", 64, "no list of addresses"),
    (["bob@nowhere.test"], "Subject: x\n\n", 67, "nowhere.test"),
    (["bob@example.org", "bob@nowhere.test"], "Subject: x\n\n", 67, "not sent to anybody"),
    ([f"b{n}@nowhere.test" for n in range(40)], "Subject: x\n\n", 67, "b0@nowhere.test"),  # the service has enough of it
    (["-f", "x@foreign.test", "bob@example.org"], "Subject: x\n\n", 77, "foreign.test"),
    (["bob@example.org"], "From: x@foreign.test\n\n", 77, "foreign.test"),
    (["bob@example.org"], "Subject: a\0b\n\n", 65, "malformed"),
    (["-bd"], "", 69, "posthaste serve"),
    (["-bh"], "", 0, ""),
    (["-bi"], "", 0, ""),
    (["-bv", "bob@example.org"], "", 0, ""),
    (["-bv", "bob@nowhere.test"], "", 67, ""),
])
def test_exit_codes(world, arguments, stdin, code, word):
    count = world.relay.metrics()["posthaste_messages_accepted_total"]
    done = call(*arguments, stdin=stdin)
    assert (done.returncode, word in done.err) == (code, True), done.err
    assert world.relay.metrics()["posthaste_messages_accepted_total"] == count


def test_too_large_is_no_temporary_failure(world):
    done = call("bob@example.org", stdin="Subject: x\n\n" + "y" * (5 << 20))
    assert done.returncode == 65 and "4194304" in done.err
    done = call("bob@example.org", stdin=b"Subject: x\n\n" + (b"y" * 99 + b"\n") * 800000)  # the service hangs up on so much
    assert done.returncode == 65 and "far too large" in done.err, done.err


def test_newaliases(world):
    assert call(name="newaliases").returncode == 0


@needs_root
def test_users_send_as_their_account(world):
    got = sent(world, "-f", "www@web.test", "bob@example.org", stdin="From: www@web.test\n\nx\n", uid=NOBODY)
    assert b"from userid 65534" in got.data
    done = call("-f", "a@ops.test", "bob@example.org", stdin="From: a@ops.test\n\nx\n", uid=NOBODY)
    assert done.returncode == 77 and "ops.test" in done.err
    done = call("bob@example.org", stdin="From: a@ops.test\n\nx\n", uid=STRANGER)
    assert done.returncode == 77 and "uid:65533" in done.err and "sendmail.accounts" in done.err
    with Raw(PLACE["it"].socket) as raw:  # nobody but the service itself speaks for others
        assert not any(line.startswith("XCLIENT") for line in raw.ehlo().lines)
        assert raw.ask("XCLIENT LOGIN=uid:65534").code == 550


def test_the_envelope_says_who_it_was(world):
    done = call("-v", "bob@example.org", stdin="Subject: who\n\nx\n")
    shown = world.relay.message(done.out.split()[-1])
    assert (shown["credential"], shown["account"]) == (f"uid:{os.getuid()}", "ops")
    assert "listener=sendmail" in world.relay.log()


# ---- the queue -----------------------------------------------------------------------------------------------------

def listed(**kwargs):
    done = call(name="mailq", **kwargs)
    assert done.returncode == 0, done.err
    return done.out


def test_mailq(world):
    """In the form that programs know; reasons, states and what belongs to whom."""
    world.receiver.script("rcpt", "451 4.2.1 come back later", when="slow@example.org", times=None)
    world.relay.run("queue", "hold", "--domain", "held.test")
    world.dns.domain("held.test", world.receiver)
    ours = call("-v", "-f", "a@ops.test", "slow@example.org", "x@held.test", stdin="From: a@ops.test\n\nx\n").out.split()[-1]
    wait_until(lambda: "come back later" in listed(), 30, "the reason")
    lines = listed().splitlines()
    assert lines[0].split() == ["------Queue", "ID-------", "--Size--", "---Arrival", "Time----", "--Sender/Recipient------"]
    assert re.fullmatch(rf"{ours}\*? +\d+ [A-Z][a-z]{{2}} [A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d +a@ops.test", lines[1]), lines
    assert re.fullmatch(r" *\(.*come back later.*\)", lines[2]) and lines[3].strip() == "slow@example.org"
    assert re.fullmatch(r" *\(held until released: mail to held.test is held\)", lines[4]) and lines[5].strip() == "x@held.test", lines
    assert lines[6:] == ["", "-- 0 Kbytes in 1 Request."]
    wait_until(lambda: call("-bp").out == listed(), 30, "the same")  # but where it was tried in between
    wait_until(lambda: "1 changed" in world.relay.run("queue", "hold", "--recipient", "slow@example.org").stdout, 30, "not being tried")
    assert "come back later" not in listed() and "(held until released)" in listed()
    if os.geteuid() == 0:
        assert listed(uid=NOBODY) == "Mail queue is empty\n"
        theirs = call("-v", "-f", "a@web.test", "y@held.test", stdin="From: a@web.test\n\nx\n", uid=NOBODY).out.split()[-1]
        assert theirs in listed(uid=NOBODY) and ours not in listed(uid=NOBODY) and theirs in listed() and ours in listed()
        assert f"{theirs}!" in listed(uid=NOBODY)
        assert call("queue", "list", name="posthaste", uid=NOBODY).returncode == 77
    def emptied():
        """What is being tried at that moment is not deleted, but comes back to the queue."""
        world.relay.run("queue", "delete", "--all")
        return listed() == "Mail queue is empty\n"
    wait_until(emptied, 30, "an empty queue")
    world.relay.run("queue", "release", "--domain", "held.test")


# ---- the pickup folder ---------------------------------------------------------------------------------------------

def drop(name, text, uid=None):
    """A file moved into the pickup folder, as programs are to."""
    it = PLACE["it"]
    path = it.folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if uid:
        os.chown(path, uid, uid)
        path.chmod(0o644)
    path.rename(it.pickup / name)


def gone(name):
    wait_until(lambda: not (PLACE["it"].pickup / name).exists(), 30, f"{name} taken")


def reason(name):
    path = PLACE["it"].pickup / "bad" / f"{name}.reason"
    wait_until(path.exists, 30, f"{path}")
    wait_until(lambda: path.read_text().endswith("\n"), 30, f"{path} whole")
    return path.read_text()


def test_files_are_picked_up(world):
    drop("one", "X-Sender: <s@ops.test> ENVID=e1\nX-Receiver: bob@example.org\nx-receiver: <joe@example.org> NOTIFY=NEVER\n"
         "From: a@ops.test\nTo: others@elsewhere.test\nSubject: picked-one\n\nhi\n")
    gone("one")
    wait_until(lambda: sum(b"picked-one" in t.data for t in world.receiver.transactions) == 2, 30, "both, as one wants no reports")
    for got in (t for t in world.receiver.transactions if b"picked-one" in t.data):
        assert got.mail_from == "s@ops.test" and got.recipients[0] in ("bob@example.org", "joe@example.org")
        assert b"X-Sender" not in got.data and b"X-Receiver" not in got.data and b"from userid" in got.data
    drop("two", "From: a@ops.test\nTo: bob@example.org\nBcc: joe@example.org\nSubject: picked-two\n\n.\n")
    got = world.receiver.wait_for(b"picked-two", 30)
    assert got.mail_from == "a@ops.test" and sorted(got.recipients) == ["bob@example.org", "joe@example.org"]
    assert got.data.endswith(b"\r\n\r\n.\r\n")
    gone("two")


@pytest.mark.parametrize("name, text, word", [
    ("empty", "", "empty"),
    ("nosender", "To: bob@example.org\n\nx\n", "no sender"),
    ("norecipient", "From: a@ops.test\n\nx\n", "no recipients"),
    ("foreign", "From: a@foreign.test\nTo: bob@example.org\n\nx\n", "550 5.7.1"),
    ("baddomain", "From: a@ops.test\nTo: bob@nowhere.test\n\nx\n", "nowhere.test"),
    ("inject", "X-Sender: <a@ops.test>\n\tSIZE=1\nX-Receiver: <bob@example.org>\x00\nFrom: a@ops.test\n\nx\n", "header"),
    ("toolarge", "From: a@ops.test\nTo: bob@example.org\n\n" + ("y" * 99 + "\n") * 90000, "too large"),
    ("parameter", "X-Sender: <a@ops.test> NONSENSE=1\nX-Receiver: bob@example.org\nFrom: a@ops.test\n\nx\n", "555"),
])
def test_bad_files_are_set_aside(world, name, text, word):
    drop(name, text)
    assert word in reason(name) and (PLACE["it"].pickup / "bad" / name).read_bytes() == text.encode()
    gone(name)


def test_what_is_no_file_is_not_read(world):
    it = PLACE["it"]
    (it.folder / "linked").write_text("From: a@ops.test\nTo: bob@example.org\n\nx\n")
    (it.pickup / "symbolic").symlink_to(it.folder / "linked")
    os.link(it.folder / "linked", it.pickup / "hard")
    os.mkfifo(it.folder / "pipe")
    (it.folder / "pipe").rename(it.pickup / "pipe")
    assert "links" in reason("symbolic") and "another name" in reason("hard") and "plain file" in reason("pipe")
    (it.pickup / ".hidden").write_text("From: a@ops.test\nTo: bob@example.org\n\nx\n")
    drop("after", "From: a@ops.test\nTo: bob@example.org\nSubject: after-hidden\n\n")
    gone("after")
    assert (it.pickup / ".hidden").exists()


@needs_root
def test_a_file_is_its_owners(world):
    drop("theirs", "From: a@web.test\nTo: bob@example.org\nSubject: theirs\n\nx\n", uid=NOBODY)
    assert b"from userid 65534" in world.receiver.wait_for(b"Subject: theirs", 30).data
    assert world.relay.metrics()["posthaste_pickup_taken_total"] > 0 and world.relay.metrics()["posthaste_pickup_refused_total"] > 0
    drop("nobodys", "From: a@web.test\nTo: bob@example.org\n\nx\n", uid=STRANGER)
    assert "uid:65533" in reason("nobodys")


@needs_root
def test_what_others_made_as_bad(world):
    """Refused files are not put into a folder that another user has made under that name."""
    bad = PLACE["it"].pickup / "bad"
    assert world.relay.stop() == 0
    bad.rename(bad.with_name("before"))
    bad.mkdir()
    os.chown(bad, NOBODY, NOBODY)
    world.relay.start()
    drop("unsent", "To: bob@example.org\n\nx\n")
    assert "no sender" in reason("unsent") and bad.stat().st_uid == os.geteuid() and bad.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in PLACE["it"].pickup.glob(f"bad-of-uid-{NOBODY}-*")]


def test_while_the_service_is_down(world):
    """What is handed over then is kept, and sent once the service runs; without a folder it is exit 75."""
    it = PLACE["it"]
    assert world.relay.stop() == 0
    uid = NOBODY if os.geteuid() == 0 else None
    sender = "www@web.test" if uid else "a@ops.test"
    done = call("-N", "never", "-f", sender, "-F", "X Y", "bob@example.org", uid=uid,
                stdin=f"X-Receiver: decoy@example.org\nFrom: {sender}\nSubject: kept-meanwhile\n\n" + "z\n" * 700000)
    assert done.returncode == 0, done.err
    left = [path for path in it.pickup.iterdir() if path.is_file() and not path.name.startswith(".")]
    assert len(left) == 1 and left[0].stat().st_mode & 0o777 == 0o640 if uid is None else 0o644
    assert call("-bs").returncode == 75 and call(name="mailq").returncode == 69
    other = it.folder / "without.yaml"
    other.write_text("\n".join(line for line in it.config.read_text().splitlines() if "pickup:" not in line))
    done = call("-C", other, "bob@example.org", stdin="Subject: lost\n\n")
    assert done.returncode == 75 and "not running" in done.err
    world.relay.start()
    got = world.receiver.wait_for(b"kept-meanwhile", 60)
    assert got.recipients == ["bob@example.org"] and b"X-Receiver: decoy" in got.data and got.data.count(b"z\r\n") == 700000
    gone(left[0].name)


def test_a_stop_waits_for_no_file(world):
    """Files that come while it stops wait for the next start; what has connected in vain is cut."""
    for n in range(300):
        drop(f"stop{n}", f"From: a@ops.test\nTo: bob@example.org\nSubject: stop-{n}-\n\nx\n")
    began = time.monotonic()
    assert world.relay.stop() == 0
    assert time.monotonic() - began < 15 and "killing it" not in world.relay.log()
    world.relay.start()
    wait_until(lambda: len({one for t in world.receiver.transactions for one in re.findall(rb"Subject: stop-(\d+)-", t.data)}) == 300, 60,
               "all of them")


def test_a_crash_costs_no_file(world):
    """kill -9 while files are taken: each is accepted, at most one twice (and what was being delivered may come twice)."""
    for n in range(40):
        drop(f"crash{n}", f"From: a@ops.test\nTo: bob@example.org\nSubject: crash-{n}-\n\nx\n")
        if n == 20:
            world.relay.kill()
    world.relay.start()

    def accepted():
        """For each file the ids under which it came."""
        return [{re.search(rb" id ([0-9A-Z]{20})\b", t.data)[1] for t in world.receiver.transactions
                 if f"Subject: crash-{n}-".encode() in t.data} for n in range(40)]
    wait_until(lambda: all(accepted()), 60, "all of them")
    gone("crash39")
    assert sum(map(len, accepted())) <= 41
