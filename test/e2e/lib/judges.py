# SPDX-License-Identifier: MIT
"""Foreign DKIM implementations, one way to call them all.

    judge.sign(message, key, header="relaxed", body="simple") -> the message with their signature on top
    judge.verify(message) -> "" if the signature is good, else what they say

Messages are bytes with CRLF. Keys come from Keys, which publishes them in a zone for all of them:
python3-dkim and mailauth are told what DNS says, opendkim-testmsg asks a DNS server. OpenDKIM signs through its
library: Debian's opendkim-testmsg knows only rsa-sha1.
"""
import base64
import ctypes
import json
import pathlib
import subprocess

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from .process import TOP, die_with_parent

DOMAIN = "example.com"
ALGORITHMS = {"rsa": "rsa-sha256", "ed25519": "ed25519-sha256"}


class Key:
    """A private key in a PEM file, and its record."""

    def __init__(self, selector, kind, private, folder):
        self.selector, self.kind, self.private = selector, kind, private
        self.pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.file = pathlib.Path(folder) / f"{selector}.pem"
        self.file.write_bytes(self.pem)
        if kind == "rsa":
            public = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        else:
            public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.record = f"v=DKIM1; k={kind}; p={base64.b64encode(public).decode()}"

    @property
    def name(self):
        return f"{self.selector}._domainkey.{DOMAIN}"


class Keys:
    """An RSA and an Ed25519 key of DOMAIN, published in zone_file."""

    def __init__(self, folder):
        self.all = [Key("sel-rsa", "rsa", rsa.generate_private_key(65537, 2048), folder),
                    Key("sel-ed", "ed25519", ed25519.Ed25519PrivateKey.generate(), folder)]
        self.rsa, self.ed25519 = self.all
        self.records = {key.name: key.record for key in self.all}
        self.zone_file = pathlib.Path(folder) / "zone.json"
        # As DNS has it: strings of at most 255 bytes.
        self.zone_file.write_text(json.dumps({name: {"TXT": [_strings(text)]} for name, text in self.records.items()}))


def _strings(text):
    return [text[i:i + 255] for i in range(0, len(text), 255)]


# ---- posthaste ---------------------------------------------------------------------------------------

BINARY = TOP / "build" / "posthaste"


def posthaste_sign(message, key, *options):
    """The whole message, signed."""
    run = subprocess.run([BINARY, "dkim", "sign", "--domain", DOMAIN, "--selector", key.selector, "--key", key.file, *options],
                         input=message, capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout


def posthaste_verify(message, zone_file, *options):
    """The list of verdicts."""
    run = subprocess.run([BINARY, "dkim", "verify", "--json", "--zone", zone_file, *options],
                         input=message, capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr.decode()
    return json.loads(run.stdout)["signatures"]


# ---- python3-dkim ------------------------------------------------------------------------------------

class PythonDkim:
    name = "python3-dkim"

    def __init__(self, keys, dns):
        self.records = keys.records

    def _answer(self, name, timeout=5):
        text = self.records.get(name.decode().rstrip(".").lower())
        return text.encode() if text else None

    def sign(self, message, key, header="relaxed", body="relaxed"):
        private = key.pem
        if key.kind == "ed25519":
            private = base64.b64encode(key.private.private_bytes(
                serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()))
        return dkim.sign(message, key.selector.encode(), DOMAIN.encode(), private, canonicalize=(header.encode(), body.encode()),
                         signature_algorithm=ALGORITHMS[key.kind].encode()) + message

    def verify(self, message):
        verifier = dkim.DKIM(message)
        try:
            return "" if verifier.verify(dnsfunc=self._answer) else "the signature does not match"
        except dkim.DKIMException as error:
            return str(error)

    def close(self):
        pass


# ---- OpenDKIM ----------------------------------------------------------------------------------------

class OpenDkim:
    """Verifies with opendkim-testmsg; signs through the library that it stands on."""

    name = "opendkim"
    CANON = {"simple": 0, "relaxed": 1}
    ALGORITHM = {"rsa": 1, "ed25519": 2}

    def __init__(self, keys, dns, folder):
        for name, text in keys.records.items():
            dns.add(name, "TXT", " ".join(f'"{part}"' for part in _strings(text)))
        self.resolv = pathlib.Path(folder) / "resolv.conf"
        self.resolv.write_text(f"nameserver {dns.address}\n")
        self.c = ctypes.CDLL("libopendkim.so.11")
        self.c.dkim_init.restype = self.c.dkim_sign.restype = ctypes.c_void_p
        self.c.dkim_init.argtypes = [ctypes.c_void_p] * 2
        self.c.dkim_sign.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p,
                                     ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_ssize_t, ctypes.POINTER(ctypes.c_int)]
        self.c.dkim_chunk.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        self.c.dkim_eom.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self.c.dkim_getsighdr_d.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_size_t)]
        self.c.dkim_free.argtypes = [ctypes.c_void_p]
        self.c.dkim_options.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
        self.library = self.c.dkim_init(None, None)
        fix_crlf = ctypes.c_uint(0x100)  # DKIM_LIBFLAGS_FIXCRLF: else it refuses a body whose last line has no end
        assert self.c.dkim_options(self.library, 1, 0, ctypes.byref(fix_crlf), 4) == 0

    def sign(self, message, key, header="relaxed", body="relaxed"):
        if key.kind == "ed25519":
            header = "relaxed"  # with simple it makes a signature that it refuses itself
        status, field, length = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_size_t()
        signing = self.c.dkim_sign(self.library, b"test", None, key.pem, key.selector.encode(), DOMAIN.encode(), self.CANON[header],
                                   self.CANON[body], self.ALGORITHM[key.kind], -1, ctypes.byref(status))
        assert signing and status.value == 0, f"dkim_sign: {status.value}"
        codes = [self.c.dkim_chunk(signing, message, len(message)), self.c.dkim_chunk(signing, None, 0), self.c.dkim_eom(signing, None),
                 self.c.dkim_getsighdr_d(signing, 16, ctypes.byref(field), ctypes.byref(length))]
        assert codes == [0] * 4, f"libopendkim: {codes}"
        text = ctypes.string_at(field.value, length.value).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        self.c.dkim_free(signing)
        return b"DKIM-Signature: " + text + b"\r\n" + message

    def verify(self, message):
        # In a mount namespace of its own, where resolv.conf names the test's server.
        run = subprocess.run(["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec opendkim-testmsg', self.resolv],
                             input=message, capture_output=True, timeout=60)
        return "" if run.returncode == 0 else run.stderr.decode() or f"exit {run.returncode}"

    def close(self):
        pass


# ---- mailauth ----------------------------------------------------------------------------------------

MAILAUTH = r"""
const readline = require("node:readline");
const [root, records] = [process.argv[1], JSON.parse(process.argv[2])];
const {dkimSign} = require(root + "/mailauth/lib/dkim/sign");
const {dkimVerify} = require(root + "/mailauth/lib/dkim/verify");
async function resolver(name, type) {
    const text = records[name.toLowerCase()];
    if (type === "TXT" && text) return [[text]];
    throw Object.assign(new Error("no such name"), {code: "ENOTFOUND"});
}
async function answer(ask) {
    const message = Buffer.from(ask.message, "base64");
    if (ask.what === "verify")
        return (await dkimVerify(message, {resolver})).results.map(one => ({result: one.status.result, comment: one.status.comment}));
    const made = await dkimSign(message, {canonicalization: ask.canonicalization, signTime: new Date(),
        signatureData: [{signingDomain: ask.domain, selector: ask.selector, privateKey: ask.pem, algorithm: ask.algorithm}]});
    if (made.errors.length) throw made.errors[0].err || new Error(JSON.stringify(made.errors));
    return made.signatures;
}
(async () => {
    for await (const line of readline.createInterface({input: process.stdin}))
        console.log(JSON.stringify(await answer(JSON.parse(line)).then(value => ({value}), error => ({error: String(error)}))));
})();
"""


def npm_root():
    """Where npm's packages are, or None if they are not installed."""
    found = subprocess.run([TOP / "tools" / "npm", "--path"], capture_output=True, text=True)
    return found.stdout.strip() or None


class MailAuth:
    name = "mailauth"

    def __init__(self, keys, dns):
        self.process = subprocess.Popen(["node", "-e", MAILAUTH, npm_root(), json.dumps(keys.records)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, preexec_fn=die_with_parent)

    def _ask(self, message, **more):
        line = json.dumps({"message": base64.b64encode(message).decode(), **more}).encode() + b"\n"
        self.process.stdin.write(line)
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer
        return answer["value"]

    def sign(self, message, key, header="relaxed", body="relaxed"):
        return self._ask(message, what="sign", domain=DOMAIN, selector=key.selector, pem=key.pem.decode(), algorithm=ALGORITHMS[key.kind],
                         canonicalization=f"{header}/{body}").encode() + message

    def verify(self, message):
        results = self._ask(message, what="verify")
        return "" if [one["result"] for one in results] == ["pass"] else str(results)

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()
