# SPDX-License-Identifier: MIT
"""Postfix's sendmail(1) judges ours: the same options and the same message, and the mail that arrives is compared."""
import email
import email.policy
import re
import subprocess

import pytest
from lib import peers
from lib.process import wait_until
from lib.receiver import Receiver
from test_sendmail import PLACE, call, config, fill, place, world  # noqa: F401 (fixtures)

pytestmark = pytest.mark.skipif(peers.why_not() is not None, reason=str(peers.why_not()))
OURS = {"received", "message-id", "date", "resent-message-id", "resent-date"}  # different for each message


@pytest.fixture(scope="module")
def postfix(tmp_path_factory):
    receiver = Receiver(capabilities=["DSN"])
    peer = peers.Postfix(tmp_path_factory.mktemp("postfix"), relay_to=(receiver.address, receiver.port))
    peer.receiver = receiver
    try:
        yield peer
    finally:
        peer.close()
        receiver.close()


def seen(transactions):
    """What arrived, with what may differ taken out: all recipients, and of the message header and body."""
    one = transactions[0]
    parsed = email.message_from_bytes(one.data, policy=email.policy.compat32)
    fields = sorted((name.lower(), re.sub(r"\s+", " ", str(value)).strip()) for name, value in parsed.items()
                    if name.lower() not in OURS and "undisclosed-recipients" not in str(value))
    parameters = sorted(p.upper() for p in one.mail_parameters if not p.upper().startswith(("SIZE=", "BODY=")))
    wanted = {r: sorted(p.upper() for p in ps if p.upper().startswith("NOTIFY=")) for t in transactions
              for r, ps in t.recipient_parameters.items()}
    return {"from": host(one.mail_from), "to": sorted(r for t in transactions for r in t.recipients), "parameters": parameters,
            "notify": wanted, "header": [(name, host(value)) for name, value in fields],
            "body": one.data.partition(b"\r\n\r\n")[2]}


def host(text):
    return re.sub(r"(postfix|relay)\.test", "HOST.test", text)


def arrived(receiver, subject, recipients):
    def found():
        some = [t for t in receiver.transactions if t.accepted and f"Subject: {subject}\r\n".encode() in t.data]
        return some if sum(len(t.recipients) for t in some) >= recipients else None
    return wait_until(found, 60, f"{subject} for {recipients}")


CASES = {
    "cron": (["-FCronDaemon", "-i", "-B8BITMIME", "-oem", "bob@example.org"],
             "From: root (Cron Daemon)\nTo: root\nSubject: {s}\nAuto-Submitted: auto-generated\n\na\n.\nb\n", 1),
    "cron-shape-2": (["-i", "bob@example.org"], "From: \"(Cron Daemon)\" <root>\nTo: root\nSubject: {s}\n\nx\n", 1),
    "t": (["-t"], "From: a@ops.test\nTo: bob@example.org, Joe <joe@example.org>\nCc: c@example.org\nBcc: d@example.org\nSubject: {s}\n\nx\n", 4),
    "t-and-arguments": (["-t", "-i", "more@example.org"], "From: a@ops.test\nTo: bob@example.org\nSubject: {s}\n\n.\n", 2),
    "t-resent": (["-t"], "From: a@ops.test\nTo: no@example.org\nResent-From: a@ops.test\nResent-To: bob@example.org\nSubject: {s}\n\nx\n", 1),
    "t-group": (["-t"], "From: a@ops.test\nTo: team: bob@example.org, joe@example.org;\nSubject: {s}\n\nx\n", 2),
    "dot": (["bob@example.org"], "From: a@ops.test\nSubject: {s}\n\none\n.\ntwo\n", 1),
    "dots": (["-i", "bob@example.org"], "From: a@ops.test\nSubject: {s}\n\n.\n..\n.a\n", 1),
    "no-from": (["-F", "Joe User", "bob@example.org"], "Subject: {s}\n\nx\n", 1),
    "no-from-quoted": (["-F", "Joe \"J\" User, Jr.", "bob@example.org"], "Subject: {s}\n\nx\n", 1),
    "sender": (["-f", "other@ops.test", "bob@example.org"], "From: a@ops.test\nSubject: {s}\n\nx\n", 1),
    "sender-r": (["-r", "other", "bob@example.org"], "From: a@ops.test\nSubject: {s}\n\nx\n", 1),
    "sender-named": (["-f", "Other <other@ops.test>", "bob@example.org"], "From: a@ops.test\nSubject: {s}\n\nx\n", 1),
    "null-sender": (["-f", "<>", "bob@example.org"], "From: a@ops.test\nSubject: {s}\n\nx\n", 1),
    "list-argument": (["bob@example.org, Joe <joe@example.org>"], "From: a@ops.test\nSubject: {s}\n\nx\n", 2),
    "bad-dsn-values": (["-N", "maybe", "-R", "half", "bob@example.org"], "From: a@ops.test\nSubject: {s}\n\nx\n", 1),
    "behind-dashes": (["-oi", "--", "bob@example.org"], "From: a@ops.test\nSubject: {s}\n\nx\n", 1),
    "crlf": (["bob@example.org"], "From: a@ops.test\r\nSubject: {s}\r\n\r\nx\r\ny\r\n", 1),
    "mbox": (["bob@example.org"], "From a@ops.test Sun Nov 22 19:00:00 2026\nFrom: a@ops.test\nSubject: {s}\n\nFrom here\n", 1),
    "no-last-newline": (["bob@example.org"], "From: a@ops.test\nSubject: {s}\n\nx", 1),
    "dsn": (["-N", "success,failure", "-R", "hdrs", "-V", "env7", "bob@example.org"], "From: a@ops.test\nSubject: {s}\n\nx\n", 1),
    "dsn-never": (["-N", "never", "-R", "full", "bob@example.org"], "From: a@ops.test\nSubject: {s}\n\nx\n", 1),
    "dropped-fields": (["bob@example.org"], "From: a@ops.test\nReturn-Path: <x@y>\nContent-Length: 7\nSubject: {s}\n\nx\n", 1),
    "completed": (["bob@example.org"], "From: Joe <joe>\nReply-To: joe, \"a b\" <c>\nTo: bob@example.org, x (y)\nCc: z\nSubject: {s}\n\nx\n", 1),
    "blank-first-line-is-no-header": (["bob@example.org"], "From: a@ops.test\nSubject: {s}\nno field here\n\nx\n", 1),
}


@pytest.mark.parametrize("name", CASES)
def test_j_the_mail_is_the_same(world, postfix, name):  # noqa: F811
    arguments, text, recipients = CASES[name]
    text = text.replace("{s}", f"judged-{name}")
    done = call(*arguments, stdin=text)
    assert done.returncode == 0, done.err
    postfix.run("sendmail", "-C", "/etc/postfix", *arguments, stdin=text)
    ours = seen(arrived(world.receiver, f"judged-{name}", recipients))
    theirs = seen(arrived(postfix.receiver, f"judged-{name}", recipients))
    assert ours == theirs


@pytest.mark.parametrize("arguments, stdin", [([], "x\n"), (["-Z", "a@example.org"], ""), (["-bq"], ""), (["-t"], "Subject: nobody\n\nx\n")])
def test_j_refuses_what_postfix_refuses(world, postfix, arguments, stdin):  # noqa: F811
    """Its code is always 75, ours says which kind of error it is."""
    theirs = postfix.run("sendmail", "-C", "/etc/postfix", *arguments, stdin=stdin, check=False)
    assert theirs.returncode == 75 and call(*arguments, stdin=stdin).returncode in (64, 65)


def test_j_perl_opens_a_pipe(world):  # noqa: F811
    """As programs have done for decades."""
    path = str(PLACE["it"].folder / "sendmail")
    script = ('open(my $m, "|-", $ARGV[0], "-t", "-oi", "-oem") or die; print $m "From: a\\@ops.test\\nTo: bob\\@example.org\\n'
              'Subject: by-perl\\n\\n.\\nhi\\n"; close($m) or exit 1;')
    env = {"POSTHASTE_CONFIG": str(PLACE["it"].config), "PATH": "/usr/bin:/bin"}
    subprocess.run(["/usr/bin/perl", "-e", script, path], env=env, check=True, timeout=120)
    assert arrived(world.receiver, "by-perl", 1)[0].data.endswith(b"\r\n\r\n.\r\nhi\r\n")
