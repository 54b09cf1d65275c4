# SPDX-License-Identifier: MIT
"""What we sign, others verify; what others sign, we verify: python3-dkim, OpenDKIM and mailauth, on messages of twelve kinds."""
import itertools
import shutil

import pytest
from lib import fakedns, judges, network, strata

CANONS = list(itertools.product(("relaxed", "simple"), repeat=2))
JUDGES = {"python3-dkim": judges.PythonDkim, "opendkim": judges.OpenDkim, "mailauth": judges.MailAuth}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return judges.Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module", params=JUDGES)
def judge(request, keys, tmp_path_factory):
    if request.param == "mailauth" and not judges.npm_root():
        pytest.skip("mailauth is not installed: run tools/npm")
    if request.param == "opendkim" and not (network.PRIVATE and shutil.which("opendkim-testmsg")):
        pytest.skip("needs root and opendkim-tools: opendkim-testmsg asks the DNS server of resolv.conf")
    server = fakedns.FakeDns()
    more = [tmp_path_factory.mktemp("opendkim")] if request.param == "opendkim" else []
    one = JUDGES[request.param](keys, server, *more)
    yield one
    one.close()
    server.close()


_signed = {}


def signed(stratum, keys):
    """Our signatures of a kind's messages, with both keys in turn; made once."""
    if stratum not in _signed:
        _signed[stratum] = [judges.posthaste_sign(message, key) for message, key in zip(strata.messages(stratum), itertools.cycle(keys.all))]
    return _signed[stratum]


@pytest.mark.parametrize("stratum", strata.KINDS)
def test_they_verify_ours(judge, stratum, keys):
    complaints = {number: judge.verify(message) for number, message in enumerate(signed(stratum, keys))}
    assert len(complaints) >= 20 and not {number: text for number, text in complaints.items() if text}


@pytest.mark.parametrize("stratum", strata.KINDS)
def test_we_verify_theirs(judge, stratum, keys):
    wrong = {}
    for number, message in enumerate(strata.messages(stratum)):
        key = keys.all[number % 2]
        header, body = CANONS[number // 2 % 4]
        theirs = judge.sign(message, key, header, body)
        assert theirs.endswith(message)
        verdicts = judges.posthaste_verify(theirs, keys.zone_file)
        if [(one["result"], one["algorithm"], one["selector"]) for one in verdicts] != [("pass", judges.ALGORITHMS[key.kind], key.selector)]:
            wrong[number, header, body] = verdicts
    assert not wrong


def test_they_bite(judge, keys):
    """A judge that would pass everything is none: one byte in body or header makes them say no."""
    message = judges.posthaste_sign(strata.messages("folding")[0], keys.rsa)
    assert judge.verify(message) == ""
    assert judge.verify(message.replace(b"Alice", b"Alicf")) and judge.verify(message + b"x\r\n")
    assert judge.verify(b"List-Unsubscribe: <https://attacker.example>\r\n" + message), "a field was added and they did not notice"


def test_files_with_lf(judge, keys):
    """A file of this system, with LF, is signed as what goes on the wire, and comes out as it came in."""
    for message in strata.messages("tabs")[:4]:
        ours = judges.posthaste_sign(message.replace(b"\r\n", b"\n"), keys.rsa)
        assert b"\r" not in ours and ours.endswith(message.replace(b"\r\n", b"\n"))
        assert judge.verify(ours.replace(b"\n", b"\r\n")) == ""
        assert judges.posthaste_verify(ours, keys.zone_file)[0]["result"] == "pass"
