# SPDX-License-Identifier: MIT
"""`posthaste dkim sign` and `dkim verify` as docs/INTERFACE.md says: the standards' examples, every way to fail, exit codes."""
import base64
import json
import pathlib
import re
import subprocess
import time

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from lib import fakedns, judges

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "dkim"
KEYS = ["domain", "selector", "algorithm", "result", "reason"]
MESSAGE = (b"From: Alice <alice@example.com>\r\nTo: bob@example.org\r\nSubject: dinner\r\nDate: Sun, 22 Nov 2026 07:00:00 +0000\r\n"
           b"Message-ID: <1@example.com>\r\n\r\nHello\r\n")


def posthaste(*words, stdin=MESSAGE):
    run = subprocess.run([judges.BINARY, *map(str, words)], input=stdin, capture_output=True, timeout=60)
    return run.returncode, run.stdout, run.stderr.decode()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return judges.Keys(tmp_path_factory.mktemp("keys"))


# ---- the standards' examples -------------------------------------------------------------------------

@pytest.mark.parametrize("example", ["rfc6376", "rfc8463"])
def test_examples(example):
    message = (FIXTURES / f"{example}.eml").read_bytes()
    for text in (message, message.replace(b"\n", b"\r\n")):
        verdicts = judges.posthaste_verify(text, FIXTURES / "rfc.json")
        assert [one["result"] for one in verdicts] == ["pass"] * len(verdicts) and len(verdicts) == (2 if example == "rfc8463" else 1)
    for old, new in ((b"hungry", b"angry"), (b"Subject: Is", b"Subject: Was"), (b"Joe SixPack", b"Jim SixPack")):
        assert {one["result"] for one in judges.posthaste_verify(message.replace(old, new), FIXTURES / "rfc.json")} == {"fail"}


# ---- every way out -----------------------------------------------------------------------------------

def foreign(key, message=MESSAGE, edit=None, **options):
    """A signature of python3-dkim's, changed behind its back."""
    signed = dkim.sign(message, key.selector.encode(), b"example.com", key.pem, **options) + message
    return re.sub(edit[0], edit[1], signed, count=1) if edit else signed


OUTCOMES = [  # name, what is done to the signature, zone changes, options, result, reason
    ("good", None, {}, [], "pass", ""),
    ("body", (b"Hello", b"Hallo"), {}, [], "fail", "the body hash does not match"),
    ("header", (b"Subject: dinner", b"Subject: lunch"), {}, [], "fail", "the signature does not match"),
    ("signature", (b"s=sel-rsa;", b"s=other;"), {"other._domainkey.example.com": "other"}, [], "fail", "the signature does not match"),
    ("bh", (b"bh=", b"bh=A"), {}, [], "neutral", "bh= is no SHA-256 in base64"),
    ("b", (b" b=", b" b=!"), {}, [], "neutral", "b= is no signature in base64"),
    ("version", (b"v=1;", b"v=2;"), {}, [], "neutral", "unknown version"),
    ("syntax", (b"v=1;", b"v=1; v=1;"), {}, [], "neutral", "a tag stands twice in the signature"),
    ("list", (b"v=1;", b"v=1; =;"), {}, [], "neutral", "the signature is malformed"),
    ("missing", (b"d=example.com;", b""), {}, [], "neutral", "d= is missing"),
    ("algorithm", (b"a=rsa-sha256", b"a=rsa-md5"), {}, [], "neutral", "unknown algorithm"),
    ("sha1", (b"a=rsa-sha256", b"a=rsa-sha1"), {}, [], "fail", "rsa-sha1 is too weak"),
    ("canonicalization", (b"c=relaxed/relaxed", b"c=nofws"), {}, [], "neutral", "unknown canonicalization"),
    ("domain", (rb"d=example.com;\s+i=@example.com;", b"d=example..com;"), {}, [], "permerror", "there is no key"),
    ("domain name", (b"d=example.com", b"d=exam!ple"), {}, [], "neutral", "d= is no domain name"),
    ("identity", (b"i=@example.com;", b"i=a@example.org;"), {}, [], "permerror", "i= is not within d="),
    ("query", (b"q=dns/txt;", b"q=dns/rr;"), {}, [], "neutral", "q= has no method that we know"),
    ("From", (rb"\bh=[^;]+;", b"h=to : subject;"), {}, [], "permerror", "From is not signed"),
    ("length", (b"d=example.com;", b"d=example.com; l=1000;"), {}, [], "fail", "the body is shorter than l="),
    ("expiry", (b"d=example.com;", b"d=example.com; x=2000000000;"), {}, ["--now", "2000000001"], "fail", "the signature has expired"),
    ("expiry before", (b"d=example.com;", b"d=example.com; x=1;"), {}, [], "neutral", "x= lies before t="),
    ("NXDOMAIN", None, {"sel-rsa._domainkey.example.com": {"RCODE": "NXDOMAIN"}}, [], "permerror", "there is no key"),
    ("no TXT", None, {"sel-rsa._domainkey.example.com": {"A": ["192.0.2.1"]}}, [], "permerror", "there is no key"),
    ("SERVFAIL", None, {"sel-rsa._domainkey.example.com": {"RCODE": "SERVFAIL"}}, [], "temperror", "the key could not be looked up"),
    ("TIMEOUT", None, {"sel-rsa._domainkey.example.com": {"RCODE": "TIMEOUT"}}, [], "temperror", "the key could not be looked up"),
    ("CNAME", None, {"sel-rsa._domainkey.example.com": {"CNAME": "moved.example."}, "Moved.Example": "rsa"}, [], "pass", ""),
    ("CNAME loop", None, {"sel-rsa._domainkey.example.com": {"CNAME": "sel-rsa._domainkey.example.com"}}, [], "temperror", "the key could not be looked up"),
    ("revoked", None, {"sel-rsa._domainkey.example.com": "v=DKIM1; p="}, [], "permerror", "the key has been revoked"),
    ("record", None, {"sel-rsa._domainkey.example.com": "v=spf1 -all"}, [], "permerror", "the key record is malformed"),
    ("key data", None, {"sel-rsa._domainkey.example.com": "v=DKIM1; p=AAAA"}, [], "permerror", "the key record's p= is no such key"),
    ("key type", None, {"sel-rsa._domainkey.example.com": "v=DKIM1; k=dsa; p=AAAA"}, [], "permerror", "the key is of an unknown type"),
    ("other type", None, {"sel-rsa._domainkey.example.com": "ed25519"}, [], "permerror", "the key is of another type than a= says"),
    ("short key", (b"s=sel-rsa;", b"s=small;"), {"small._domainkey.example.com": "small"}, [], "fail", "the RSA key is shorter than 1024 bits"),
]


@pytest.mark.parametrize("case", OUTCOMES, ids=lambda case: case[0])
def test_j_verdicts(case, keys, tmp_path):
    _, edit, changes, options, result, reason = case
    named = {"rsa": keys.rsa.record, "ed25519": keys.ed25519.record}
    for name, bits in (("other", 2048), ("small", 768)):
        if name in changes.values():
            named[name] = judges.Key(name, "rsa", rsa.generate_private_key(65537, bits), tmp_path).record
    zone = {name: {"TXT": [text]} for name, text in keys.records.items()}
    zone.update({name: {"TXT": [named.get(one, one)]} if isinstance(one, str) else one for name, one in changes.items()})
    (tmp_path / "zone.json").write_text(json.dumps(zone))
    message = foreign(keys.rsa, edit=edit, canonicalize=(b"relaxed", b"relaxed"))
    assert not edit or edit[1] in message
    verdicts = judges.posthaste_verify(message, tmp_path / "zone.json", *options)
    assert len(verdicts) == 1 and list(verdicts[0]) == KEYS
    assert (verdicts[0]["result"], verdicts[0]["reason"]) == (result, reason)


def test_j_several_signatures(keys):
    """Each is judged for itself, from the top; only ten are."""
    message = judges.posthaste_sign(judges.posthaste_sign(MESSAGE, keys.rsa), keys.ed25519)
    verdicts = judges.posthaste_verify(message, keys.zone_file)
    assert [(one["algorithm"], one["result"]) for one in verdicts] == [("ed25519-sha256", "pass"), ("rsa-sha256", "pass")]
    for _ in range(10):
        message = judges.posthaste_sign(message, keys.ed25519)
    verdicts = judges.posthaste_verify(message, keys.zone_file)
    assert [one["result"] for one in verdicts] == ["pass"] * 10 + ["policy"] * 2


def test_text_form(keys):
    message = judges.posthaste_sign(MESSAGE, keys.rsa)
    code, out, _ = posthaste("dkim", "verify", "--zone", keys.zone_file, stdin=message)
    assert code == 0 and out.decode().split() == "pass domain example.com, selector sel-rsa, rsa-sha256".split()
    code, out, _ = posthaste("dkim", "verify", "--zone", keys.zone_file, stdin=message + b"x")
    assert code == 0 and out.startswith(b"fail ") and b"the body hash does not match" in out
    assert posthaste("dkim", "verify", "--zone", keys.zone_file) == (0, b"no signatures\n", "")
    assert posthaste("dkim", "verify", "--zone", keys.zone_file, "--json") == (0, b'{"signatures":[]}\n', "")


def test_hostile_names_are_escaped(keys):
    message = judges.posthaste_sign(MESSAGE, keys.rsa).replace(b"d=example.com", b"d=\xff\xe2\x80\xae\"\\x")
    code, out, _ = posthaste("dkim", "verify", "--zone", keys.zone_file, "--json", stdin=message)
    assert code == 0 and json.loads(out)["signatures"][0]["result"] == "neutral"
    code, out, _ = posthaste("dkim", "verify", "--zone", keys.zone_file, stdin=message)
    assert code == 0 and b"\xff" not in out


# ---- unreadable, and clear errors --------------------------------------------------------------------

UNREADABLE = {"empty": b"", "no header": b"\r\nbody\r\n", "text": b"just a text\r\n", "bare CR": b"From: a\r b\r\n\r\n", "bare LF": b"From: a\n b\r\n\r\n",
              "NUL": b"From: \0\r\n\r\n"}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_unreadable(kind, keys):
    for command in (["verify", "--zone", keys.zone_file], ["sign", "--domain", "d", "--selector", "s", "--key", keys.rsa.file]):
        code, out, err = posthaste("dkim", *command, stdin=UNREADABLE[kind])
        assert code == 65 and not out and re.match(r"posthaste: .*(message|header)", err)


def test_errors_are_clear(keys, tmp_path):
    sign = ["dkim", "sign", "--domain", "example.com", "--selector", "s"]
    (tmp_path / "bad.json").write_text('{"a": {"TXT": "x"}}')
    (tmp_path / "not.pem").write_text("hello")
    encrypted = tmp_path / "encrypted.pem"
    subprocess.run(["openssl", "pkey", "-in", keys.rsa.file, "-aes256", "-passout", "pass:x", "-out", encrypted], check=True)
    small = judges.Key("small", "rsa", rsa.generate_private_key(65537, 768), tmp_path)
    cases = [
        (["dkim", "verify", "--zone", tmp_path / "none.json"], 66, "none.json: no such"),
        (["dkim", "verify", "--zone", tmp_path / "bad.json"], 65, "bad.json: a: TXT: want a list"),
        (["dkim", "verify", "--now", "soon"], 64, "--now"),
        (sign, 64, "--key is missing"),
        (["dkim", "sign", "--domain", "a b", "--selector", "s", "--key", "k"], 64, "--domain: 'a b' is no name"),
        ([*sign, "--key", tmp_path / "none.pem"], 66, "none.pem: no such"),
        ([*sign, "--key", tmp_path / "not.pem"], 65, "no private key in PEM"),
        ([*sign, "--key", encrypted], 65, "without a passphrase"),
        ([*sign, "--key", small.file], 65, "at least 1024 bits"),
    ]
    for command, code, text in cases:
        got, out, err = posthaste(*command, stdin=judges.posthaste_sign(MESSAGE, keys.rsa))
        assert (got, out) == (code, b"") and text in err
    code, _, err = posthaste(*sign, "--key", keys.rsa.file, stdin=b"To: a@b\r\n\r\n")
    assert code == 65 and "no From field" in err


# ---- sign --------------------------------------------------------------------------------------------

def test_sign_output(keys):
    options = ["dkim", "sign", "--domain", "example.com", "--selector", keys.rsa.selector, "--key", keys.rsa.file, "--now", "1700000000"]
    code, whole, _ = posthaste(*options)
    assert code == 0 and whole.endswith(MESSAGE)
    field = whole[:-len(MESSAGE)]
    assert field.startswith(b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com;") and field.endswith(b"\r\n")
    assert b"t=1700000000;" in field and b" l=" not in field and max(map(len, field.split(b"\r\n"))) <= 78
    assert posthaste(*options, "--header-only") == (0, field, "")  # PKCS #1 v1.5 signatures are always the same
    assert json.loads(posthaste(*options, "--json")[1]) == {"field": field.decode()}
    assert posthaste(*options, stdin=MESSAGE.replace(b"\r\n", b"\n")) == (0, whole.replace(b"\r\n", b"\n"), "")
    assert abs(int(re.search(rb"t=(\d+)", posthaste(*options[:-2])[1]).group(1)) - time.time()) < 100


def test_over_signed(keys):
    """From, To, Subject, Date, Message-ID and List-* can't be added behind the signature."""
    message = judges.posthaste_sign(b"List-Unsubscribe: <https://example.com/u>\r\n" + MESSAGE, keys.ed25519)
    names = re.sub(rb"\s", b"", re.search(rb"h=([^;]+);", message).group(1)).lower().split(b":")
    for name in ("From", "To", "Subject", "Date", "Message-ID", "List-Unsubscribe", "List-Id", "List-Unsubscribe-Post"):
        present = len(re.findall(rb"(?mi)^%b:" % name.encode(), message))
        assert names.count(name.lower().encode()) == present + 1
        more = judges.posthaste_verify(name.encode() + b": added\r\n" + message, keys.zone_file)
        assert [one["result"] for one in more] == ["fail"]
    assert judges.posthaste_verify(b"Received: by hop\r\n" + message, keys.zone_file)[0]["result"] == "pass"


def test_keys_from_dns(keys, tmp_path):
    """Without a zone file the configured servers are asked."""
    server = fakedns.FakeDns()
    for name, text in keys.records.items():
        server.txt(name, text) if len(text) < 256 else server.add(name, "TXT", " ".join(f'"{text[i:i + 200]}"' for i in range(0, len(text), 200)))
    conf = tmp_path / "posthaste.yaml"
    conf.write_text(f"hostname: relay.test\ndns: {{servers: ['{server.server}'], trust_anchor: none}}\n")
    for key in keys.all:
        code, out, err = posthaste("dkim", "verify", "--json", "--config", conf, stdin=judges.posthaste_sign(MESSAGE, key))
        assert code == 0 and json.loads(out)["signatures"][0]["result"] == "pass", err
    server.close()


def test_base64_folding_of_others(keys):
    """A signature folded and spaced at odd places is the same (RFC 6376 section 2.10)."""
    message = foreign(keys.rsa, canonicalize=(b"relaxed", b"simple"))
    value = re.search(rb" b=([^;]*?)\r\nFrom", message, re.S).group(1)
    digits = re.sub(rb"\s", b"", value)
    assert base64.b64decode(digits)
    odd = b"\r\n\t".join(digits[i:i + 7] for i in range(0, len(digits), 7))
    assert judges.posthaste_verify(message.replace(value, odd), keys.zone_file)[0]["result"] == "pass"
