# SPDX-License-Identifier: MIT
"""Return paths as the relay makes them (src/bounce/return_token.h), from the key in its state folder."""
import hashlib
import hmac
import pathlib
import struct

DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def number_of(text):
    value = 0
    for c in text.lower():
        value = value << 5 | DIGITS.index(c)
    return value


def text_of(value, chars):
    return "".join(DIGITS[value >> 5 * (chars - 1 - i) & 31] for i in range(chars))


def key_of(relay):
    return (pathlib.Path(relay.config["state"]) / "return-key").read_bytes()


def local_part(key, ident, recipient=0, kind="b", several=False):
    """The local part that stands for that recipient of that message; `several`: for all in its domain."""
    recipient |= several << 19
    bits = number_of(ident)
    high, low = bits >> 36, bits & (1 << 36) - 1
    digest = hmac.new(key, b"posthaste return path\0" + kind.encode() + struct.pack("<QQI", high, low, recipient), hashlib.sha256).digest()[:10]
    halves = (int.from_bytes(digest[:5], "big"), int.from_bytes(digest[5:], "big"))
    return f"{kind}-{ident.lower()}{text_of(recipient, 4)}" + "".join(text_of(half, 8) for half in halves)
