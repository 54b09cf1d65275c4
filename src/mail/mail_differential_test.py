#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The 7-bit downgrade and the address lists, compared with Python's email package over made-up input.

usage: mail_differential_test.py PATH-OF-mail_differential       prints TAP
"""
import random
import struct
import subprocess
import sys
from email import message_from_bytes, policy, utils

MESSAGES, LISTS = 500, 6000
WORDS = ["hello", "grün", "日本", "x" * 200, "From me", ".", "", "a ", "\t"]
TOKENS = ["a@b", '"x y" <c@d>', "John <j@k.example>", ",", " ", "(c)", "g:", ";", '"q"@e', "<", ">", ".",
          "x", "@", "\r\n ", "=?utf-8?q?a?=", "=?utf-8?q?a=40b.c?=", "[1.2.3.4]"]


class Tool:
    def __init__(self, path, mode):
        self.process = subprocess.Popen([path, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, record):
        """(err, count) as the tool prints them; what follows is read from self.out."""
        self.process.stdin.write(struct.pack("I", len(record)) + record)
        self.process.stdin.flush()
        return map(int, self.process.stdout.readline().split())

    @property
    def out(self):
        return self.process.stdout


def text():
    lines = (" ".join(random.choices(WORDS, k=random.randint(0, 12))) for _ in range(random.randint(0, 8)))
    return "\r\n".join(lines).encode()


def part(depth=0, boundaries=[0]):
    """A part with its header: 8-bit text, binary data, an attached message or a multipart."""
    kind = random.randint(0, 6) if depth < 5 else 0
    if kind <= 2:
        label = random.choice(["8bit", "8bit", "binary"])
        return (f"Content-Type: text/{random.choice(['plain', 'html'])}; charset=utf-8\r\n"
                f"Content-Transfer-Encoding: {label}\r\n\r\n").encode() + text()
    if kind == 3:
        data = bytes(random.randrange(256) for _ in range(random.randint(0, 300))).replace(b"--", b"xx")
        return b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n" + data
    if kind == 4:
        return (b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
                b"Subject: inner\r\nMIME-Version: 1.0\r\n" + part(depth + 1))
    boundaries[0] += 1
    line = f"--b{boundaries[0]}=".encode()
    head = (b'Content-Type: multipart/mixed; boundary="' + line[2:] +
            b'"\r\nContent-Transfer-Encoding: 8bit\r\n\r\npreamble\r\n')
    parts = (line + b"\r\n" + part(depth + 1) + b"\r\n" for _ in range(random.randint(1, 4)))
    return head + b"".join(parts) + line + b"--\r\n"


def leaves(message):
    """(type, decoded content) of every part. Python ends lines at a bare CR or LF too, hence the norm."""
    for p in message_from_bytes(message).walk():
        data = None if p.is_multipart() else p.get_payload(decode=True)
        yield p.get_content_type(), data and data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n")


def downgrades_are_equal(path):
    tool = Tool(path, "downgrade")
    for _ in range(MESSAGES):
        message = b"From: a@b\r\nMIME-Version: 1.0\r\n" + part()
        err, size = tool.ask(message)
        out = tool.out.read(size)
        assert err == 0, (err, message)
        assert out.isascii() and all(len(line) <= 998 for line in out.split(b"\r\n")), out
        assert list(leaves(message)) == list(leaves(out)), (message, out)


def python_readings(value):
    yield sorted(a for _, a in utils.getaddresses([value]) if a)
    try:
        yield sorted(a.addr_spec for a in policy.default.header_factory("From", value).addresses)
    except (AttributeError, IndexError):  # its own bugs on odd groups
        yield None


def lists_hide_no_address(path):
    tool = Tool(path, "list")
    accepted = 0
    for _ in range(LISTS):
        value = "".join(random.choices(TOKENS, k=random.randint(1, 8)))
        err, count = tool.ask(value.encode())
        ours = sorted(tool.out.readline().decode().rstrip("\n") for _ in range(count))
        if err:
            continue
        accepted += 1
        plain = value.replace("\r\n", "")
        # One of the two must agree; both spell quoted local-parts in their own way.
        readings = [r and sorted(a.replace('"', "") for a in r) for r in python_readings(plain)]
        assert ours in readings or (None in readings and len(ours) == len(readings[0])), (value, ours, readings)
    assert accepted > LISTS // 20, accepted


def main():
    random.seed(5)
    tests = [downgrades_are_equal, lists_hide_no_address]
    failed = 0
    print(f"1..{len(tests)}")
    for number, test in enumerate(tests, 1):
        try:
            test(sys.argv[1])
            print(f"ok {number} - {test.__name__}")
        except AssertionError as error:
            failed = 1
            print(f"# {error}"[:2000].replace("\n", " "))
            print(f"not ok {number} - {test.__name__}")
    return failed


sys.exit(main())
