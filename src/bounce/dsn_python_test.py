#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Notifications as Python's email package reads them. Usage: dsn_python_test.py DSN_TEST_PROGRAM (TAP)"""
import email
import email.policy
import subprocess
import sys

WANT = [("one@example.net", "5.1.1"), ("two@example.net", "5.7.1")]


def check(program, kind):
    data = subprocess.run([program, kind], check=True, capture_output=True).stdout
    message = email.message_from_bytes(data, policy=email.policy.SMTP)
    utf8 = kind == "utf8"
    assert message.get_content_type() == "multipart/report", message.get_content_type()
    assert message.get_param("report-type") == ("global-delivery-status" if utf8 else "delivery-status")
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["To"].addresses[0].addr_spec == "sender@example.org"
    parts = list(message.iter_parts())
    assert len(parts) == 3, len(parts)
    assert parts[0].get_content_type() == "text/plain"
    assert "\x1b" not in parts[0].as_string()
    if utf8:  # the package knows only the older type by name
        text = data.decode()
        assert parts[1].get_content_type() == "message/global-delivery-status"
        assert "utf-8; zwö@example.net" in text, text
        return
    assert parts[1].get_content_type() == "message/delivery-status"
    blocks = parts[1].get_payload()
    assert blocks[0]["Reporting-MTA"] == "dns; relay.example"
    assert len(blocks) == 3, [str(b) for b in blocks]
    for block, (address, status) in zip(blocks[1:], WANT):
        assert block["Final-Recipient"].split("; ")[1] == address, str(block)
        assert block.get_all("Action") == ["failed"] and block["Status"] == status, str(block)
    assert parts[2].get_content_type() == "message/rfc822"
    assert parts[2].get_payload()[0]["Subject"] == "x"
    assert parts[2].get_payload()[0].get_payload() == "the body\r\n"


def main():
    kinds = ["plain", "utf8"]
    print(f"1..{len(kinds)}")
    for number, kind in enumerate(kinds, 1):
        try:
            check(sys.argv[1], kind)
            print(f"ok {number} - {kind}")
        except Exception as trouble:  # pylint: disable=broad-except
            print(f"not ok {number} - {kind}\n# {type(trouble).__name__}: {trouble}".replace("\n", "\n# "))


main()
