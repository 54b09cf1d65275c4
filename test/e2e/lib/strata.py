# SPDX-License-Identifier: MIT
"""Messages of twelve kinds, COUNT of each, that canonicalisation and DKIM must get right; always the same ones."""
import base64
import random

COUNT = 20
WORDS = "the quick brown fox jumps over a lazy dog and then again it sleeps under some old tree".split()
ACCENTS = ["Grüße", "naïve", "Ωmega", "日本語", "emoji🙂", "Łódź", "señor"]


class Writer:
    """Makes one message; `r` is its own source of chance."""

    def __init__(self, stratum, number):
        self.number, self.r = number, random.Random(f"{stratum} {number}")
        self.fields = [("From", "Alice <alice@example.com>"), ("To", "bob@example.org"), ("Subject", self.words(3, 8)),
                       ("Date", f"Sun, 22 Nov 2026 07:{number:02}:00 +0000"), ("Message-ID", f"<{stratum.replace(' ', '.')}.{number}@example.com>")]

    def words(self, least, most):
        return " ".join(self.r.choice(WORDS) for _ in range(self.r.randint(least, most)))

    def lines(self, least=2, most=12):
        return "".join(self.words(0, 12) + "\r\n" for _ in range(self.r.randint(least, most)))

    def set(self, name, value):
        self.fields = [(name, value) if field[0] == name else field for field in self.fields]

    def message(self, body, shuffle=False):
        if shuffle:
            self.r.shuffle(self.fields)
        header = "".join(name + (":" if value[0].isspace() else ": ") + value + "\r\n" for name, value in self.fields).encode()
        return header + b"\r\n" + (body if isinstance(body, bytes) else body.encode())


def folding(w):
    """Fields folded at every kind of place, also in the middle of white space."""
    gaps = ["\r\n ", "\r\n\t", " \r\n ", "\t\r\n\t ", "\r\n   ", " ", "  "]
    w.set("Subject", "".join(w.r.choice(WORDS) + w.r.choice(gaps) for _ in range(12)) + "end")
    w.set("To", ",\r\n\t".join(f"u{i}@example.org" for i in range(w.r.randint(2, 6))))
    w.fields.append(("References", "\r\n ".join(f"<{i}@example.com>" for i in range(8))))
    if w.number % 3 == 0:
        w.set("Subject", "\r\n " + w.words(2, 5))  # nothing on the first line
    return w.message(w.lines(), shuffle=True)


def eight_bit(w):
    """Bytes beyond ASCII in the body, in UTF-8 and not."""
    w.fields += [("MIME-Version", "1.0"), ("Content-Type", "text/plain; charset=iso-8859-1"), ("Content-Transfer-Encoding", "8bit")]
    body = b"".join(bytes(w.r.choice(range(128, 256)) if w.r.random() < 0.5 else 0x61 for _ in range(w.r.randint(0, 70))) + b"\r\n" for _ in range(9))
    return w.message(body if w.number % 2 else " ".join(w.r.choice(ACCENTS) for _ in range(20)).encode() + b"\r\n")


def empty_body(w):
    """Nothing behind the empty line, or nothing but line ends and white space."""
    return w.message(["", "\r\n", "\r\n\r\n\r\n", " \r\n", "\t \r\n \r\n"][w.number % 5], shuffle=True)


def trailing_blank_lines(w):
    """Empty lines at the end, and lines of white space among them."""
    return w.message(w.lines() + "x\r\n" + "".join(w.r.choice(["\r\n", "\r\n", " \r\n", "\t\r\n", "  \t \r\n"]) for _ in range(w.number)) + "\r\n")


def no_final_newline(w):
    """The last line has no CRLF."""
    return w.message(w.lines() + w.words(1, 9))


def long_headers(w):
    """Fields of thousands of bytes, folded into lines and, some, on one line near the limit of 998."""
    w.set("Subject", " ".join(w.words(9, 9) + "\r\n" for _ in range(40 + 9 * w.number)).replace("\r\n ", "\r\n\t").rstrip())
    w.fields.append(("X-Long", "y" * (400 + 29 * w.number)))
    w.fields.append(("References", "\r\n ".join(f"<{i}.{w.words(1, 1)}@example.com>" for i in range(60))))
    return w.message(w.lines())


def many_recipients(w):
    """Hundreds of addresses in To and Cc."""
    names = [f'"{w.words(1, 2)} {i}" <r{i}@example{i % 7}.org>' for i in range(60 + 12 * w.number)]
    w.set("To", ",\r\n ".join(names[::2]))
    w.fields.append(("Cc", ", \r\n\t".join(names[1::2])))
    return w.message(w.lines())


def smtputf8(w):
    """Raw UTF-8 in the header (RFC 6532)."""
    w.set("From", f"{w.r.choice(ACCENTS)} <{w.r.choice(['jürgen', '用户', 'alice'])}@example.com>")
    w.set("Subject", "  ".join(w.r.choice(ACCENTS) for _ in range(w.r.randint(3, 30))))
    w.set("To", "δοκιμή@παράδειγμα.example, bob@example.org")
    return w.message("".join(w.r.choice(ACCENTS) + " " for _ in range(30)) + "\r\n")


def multipart(w):
    """Nested parts, encoded ones among them."""
    blob = base64.encodebytes(w.r.randbytes(w.r.randint(1, 4000))).replace(b"\n", b"\r\n").decode()
    w.fields += [("MIME-Version", "1.0"), ("Content-Type", 'multipart/mixed;\r\n boundary="=_a b"')]
    return w.message("preamble \r\n--=_a b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n\r\n" + w.lines() +
                     "--c  \r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>=C3=BC=\r\n =20\r\n--c--\r\n\r\n"
                     "--=_a b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + blob + "--=_a b--\r\nepilogue\r\n")


def repeated_fields(w):
    """Fields that occur several times, signed ones among them, in any case. (Not Subject and its like: OpenDKIM refuses these.)"""
    for i in range(w.r.randint(2, 5)):
        w.fields += [("Received", f"from a{i}\r\n\tby b{i}; Sun, 22 Nov 2026 07:00:0{i} +0000"), ("Comments", w.words(1, 4)),
                     (w.r.choice(["List-Unsubscribe", "LIST-UNSUBSCRIBE", "list-unsubscribe"]), f"<https://example.com/u{i}>"),
                     (w.r.choice(["Resent-To", "resent-to"]), f"c{i}@example.org"), ("Keywords", w.words(1, 3))]
    return w.message(w.lines(), shuffle=True)


def tabs(w):
    """Tabs and runs of white space in header and body, at the ends of lines and values too."""
    gaps = ["\t", " \t", "\t ", "\t\t", "   ", " "]
    w.set("Subject", w.r.choice(gaps) + "".join(w.r.choice(WORDS) + w.r.choice(gaps) for _ in range(8)))
    w.fields.append(("Keywords", "\t" + w.words(1, 3) + " \t"))
    body = "".join("".join(w.r.choice(gaps) + w.r.choice(WORDS) for _ in range(w.r.randint(0, 6))) + w.r.choice(["", *gaps]) + "\r\n" for _ in range(10))
    return w.message(body + "x\r\n")


def dot_lines(w):
    """Lines of dots, which SMTP would stuff; they are signed as they are."""
    return w.message("".join(w.r.choice([".", "..", "...", ". ", ".x", " .", "", "x."]) + "\r\n" for _ in range(w.r.randint(1, 12))) + ".\r\n")


KINDS = {"folding": folding, "8-bit": eight_bit, "empty body": empty_body, "trailing blank lines": trailing_blank_lines,
         "no final newline": no_final_newline, "long headers": long_headers, "many recipients": many_recipients, "SMTPUTF8": smtputf8,
         "multipart": multipart, "repeated fields": repeated_fields, "tabs": tabs, "dot lines": dot_lines}


def messages(stratum):
    """The messages of a kind, bytes with CRLF."""
    return [KINDS[stratum](Writer(stratum, number)) for number in range(COUNT)]
