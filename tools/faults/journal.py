# SPDX-License-Identifier: MIT
"""journal - what the journal's files say, read without the program (docs/SPOOL.md)"""
import ctypes
import re
import struct

BLOCK, HEAD = 4096, 64
MESSAGE, OUTCOME = 1, 2
DELIVERED, RELAYED = 2, 3
LOAD_ID, HEADER_MAX = re.compile(rb"\nX-Load-Id: ([a-z0-9]+-\d+)\r"), 2000
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def records(data):
    """(begin, end, kind) of each record of a segment, those of its last use included."""
    at = 2 * BLOCK
    while (at := data.find(b"PHR1", at)) != -1:
        if at % 16 == 0 and at + HEAD <= len(data):
            kind, = struct.unpack_from("<B", data, at + 4)
            meta, content = struct.unpack_from("<II", data, at + 32)
            end = at + (HEAD + meta + content + 15) // 16 * 16
            if kind in (MESSAGE, OUTCOME, 3, 4) and end <= len(data):
                yield at, end, kind
                at = end
                continue
        at += 4


def id_text(number):
    """A message's id as everybody else shows it."""
    return "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(20)))


def varints(data, count):
    found, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7f) << shift
        shift += 7
        if byte < 0x80:
            found.append(value)
            value = shift = 0
            if len(found) == count:
                break
    return found


class Hash:
    """XXH3-64, of the library that the program has it from."""

    def __init__(self):
        self.call = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
        self.call.restype, self.call.argtypes = ctypes.c_uint64, (ctypes.c_char_p, ctypes.c_size_t)

    def fits(self, data, wanted):
        return self.call(data, len(data)) == wanted


def read(folder, since):
    """What stands in segments written at `since` or later: ({load id: message id}, {(message id, number of the recipient): when
    it was delivered})."""
    named, delivered, xxh3 = {}, {}, Hash()
    for path in folder.iterdir():
        if path.stat().st_mtime < since:
            continue
        data = path.read_bytes()
        for at, _, kind in records(data):
            high, low, meta_bytes, _, meta_hash = struct.unpack_from("<QQIIQ", data, at + 16)
            ident, content = id_text(high << 36 | low), at + HEAD + meta_bytes
            meta = data[at + HEAD:content]
            if kind == MESSAGE and (header := LOAD_ID.search(data, content, content + HEADER_MAX)):
                named[header[1].decode()] = ident
            if kind == OUTCOME and xxh3.fits(meta, meta_hash):
                states, = struct.unpack_from("<I", meta)
                recipient, state, _, _, _, us = varints(meta[8 + states:], 6)
                if state in (DELIVERED, RELAYED):
                    delivered[ident, recipient] = min(delivered.get((ident, recipient), us / 1e6), us / 1e6)
    return named, delivered
