# SPDX-License-Identifier: MIT
"""A certificate authority for a test: right, expired, wrong name or unknown, made in milliseconds."""
import datetime
import ipaddress
import pathlib
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alt_name(text):
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


class Pair:
    """A certificate (with its chain) and its key, as PEM files."""

    def __init__(self, folder, stem, certificate, key, chain=()):
        self.certificate = pathlib.Path(folder) / f"{stem}.crt"
        self.key = pathlib.Path(folder) / f"{stem}.key"
        self.certificate.write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (certificate, *chain)))
        self.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                               serialization.NoEncryption()))
        self.key.chmod(0o600)
        self.serial = certificate.serial_number

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


class Authority:
    """Issues Pairs; `.file` is what a verifier trusts."""

    def __init__(self, folder, name="posthaste test authority"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = _name(name)
        self.certificate = self._sign(self.subject, self.key.public_key(), [], -1, 365, authority=True)
        self.file = self.folder / "authority.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject, public_key, names, from_days, to_days, authority=False):
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.subject).public_key(public_key)
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(now + datetime.timedelta(days=from_days))
                   .not_valid_after(now + datetime.timedelta(days=to_days))
                   .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True))
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_alt_name(n) for n in names]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, *names, stem=None, from_days=-1, to_days=30, key=None):
        """A certificate for host names and addresses; to_days=-0.5 makes an expired one. key: P-256 unless given."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(_name(names[0]), key.public_key(), names, from_days, to_days)
        return Pair(self.folder, stem or names[0].replace("*", "star"), certificate, key)

    def client_context(self):
        return ssl.create_default_context(cafile=str(self.file))
