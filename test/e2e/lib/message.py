# SPDX-License-Identifier: MIT
"""Messages for tests, and comparing what was sent with what arrived."""
import email.message
import email.policy
import email.utils
import itertools

_numbers = itertools.count(1)
ADDED = {b"received", b"return-path", b"delivered-to", b"x-original-to", b"date", b"message-id"}


def text_message(sender, recipient, subject="hello", body="a line\n", **headers):
    """A plain message as bytes, CRLF, with Date and Message-ID, so that nothing needs to be added to it."""
    message = email.message.EmailMessage(policy=email.policy.SMTP)
    message["From"], message["To"], message["Subject"] = sender, recipient, f"{subject} {next(_numbers)}"
    message["Date"] = email.utils.formatdate()
    message["Message-ID"] = email.utils.make_msgid(domain="client.test")
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content(body)
    return message.as_bytes()


def split(data):
    """(header fields as a list of raw bytes, body bytes)."""
    head, _, body = data.partition(b"\r\n\r\n")
    fields = []
    for line in head.split(b"\r\n"):
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1] += b"\r\n" + line
        elif line:
            fields.append(line)
    return fields, body


def field_name(field):
    return field.partition(b":")[0].strip().lower()


def same_but_added(sent, got, added=ADDED):
    """None if `got` is `sent` with only documented fields added in front or within; else what differs."""
    sent_fields, sent_body = split(sent)
    got_fields, got_body = split(got)
    extra = list(got_fields)
    position = 0
    for field in sent_fields:
        if field not in got_fields[position:]:
            return f"field lost or changed: {field[:200]!r}"
        position = got_fields.index(field, position) + 1
        extra.remove(field)
    strange = [field for field in extra if field_name(field) not in added]
    if strange:
        return f"field added: {strange[0][:200]!r}"
    if sent_body != got_body:
        at = next((i for i, (a, b) in enumerate(zip(sent_body, got_body)) if a != b), min(len(sent_body), len(got_body)))
        return f"body differs at byte {at}: {sent_body[at:at + 60]!r} / {got_body[at:at + 60]!r}"
    return None
