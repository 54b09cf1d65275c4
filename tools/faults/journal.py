# SPDX-License-Identifier: MIT
"""journal - what the journal's files say, read without the program (docs/SPOOL.md)"""
import ctypes
import re
import struct

BLOCK, HEAD = 4096, 64
MESSAGE, OUTCOME = 1, 2
DELIVERED, RELAYED = 2, 3
MAGIC, COPY, PIECE = re.compile(rb"PHR1"), 1, 4 << 20
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


def written(path, first_sequence):
    """A segment as far as it is written: what is below its first sequence number stands there from the file's last use."""
    data = b""
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            data += piece
            if not any(is_new(piece, found.start(), first_sequence) for found in MAGIC.finditer(piece)):
                break
    return data


def is_new(data, at, first_sequence):
    """A copy has the number of its original."""
    return at + 16 <= len(data) and (data[at + 5] & COPY or struct.unpack_from("<Q", data, at + 8)[0] >= first_sequence)


class Reader:
    """Segments, the newest first, as far back as outcomes are from `since` or later."""

    def __init__(self, folder, since):
        self.named = {}  # {load id: message id}
        self.delivered = {}  # {(message id, number of the recipient): when}
        self.xxh3 = Hash()
        for first_sequence, path in newest_first(folder):
            newest = self.read(written(path, first_sequence), first_sequence)
            if newest and newest < since:
                break

    def read(self, data, first_sequence):
        """When the newest outcome was. One counts with the whole of its frame, whose end a crash may have cut off."""
        newest, frame = 0.0, None
        for at, _, kind in records(data):
            sequence, high, low, meta_bytes, _, meta_hash = struct.unpack_from("<QQQIIQ", data, at + 8)
            ident, content = id_text(high << 36 | low), at + HEAD + meta_bytes
            meta = data[at + HEAD:content]
            index, left = data[at + 6:at + 8]
            if index == 0:
                frame = {}
            if not self.xxh3.fits(meta, meta_hash) or not is_new(data, at, first_sequence):
                frame = None
            if kind == MESSAGE and (header := LOAD_ID.search(data, content, content + HEADER_MAX)):
                self.named[header[1].decode()] = ident
            if kind == OUTCOME and frame is not None:
                states, = struct.unpack_from("<I", meta)
                recipient, state, _, _, _, us = varints(meta[8 + states:], 6)
                newest = max(newest, us / 1e6)
                if state in (DELIVERED, RELAYED):
                    frame[ident, recipient] = us / 1e6
            if left == 0:
                for key, when in (frame or {}).items():
                    self.delivered[key] = min(when, self.delivered.get(key, when))
                frame = None
        return newest


def newest_first(folder):
    """[(first sequence number, path)] by the number of the segment."""
    found = []
    for path in folder.iterdir():
        with open(path, "rb") as file:
            header = file.read(2 * BLOCK)
        if len(header) == 2 * BLOCK:
            number, first_sequence = max((struct.unpack_from("<Q24xQ", header, at + 16) for at in (0, BLOCK)))
            if number:
                found.append((number, first_sequence, path))
    return [(first, path) for _, first, path in sorted(found, reverse=True)]


def read(folder, since):
    """({load id: message id}, {(message id, number of the recipient): when it was delivered}) of the newest records."""
    reader = Reader(folder, since)
    return reader.named, reader.delivered
