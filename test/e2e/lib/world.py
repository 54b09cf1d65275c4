# SPDX-License-Identifier: MIT
"""A relay, its DNS and a receiver that serve a whole test file, where starting them anew would only cost time.

A file makes its own: `world = world_fixture({...configuration...}, setup)`; tests then take `world`.
"""
import itertools

import pytest

from . import network
from .fakedns import FakeDns
from .raw import Raw
from .receiver import Receiver
from .relay import Relay

PASSWORD = "correct horse battery"


class World:
    def __init__(self, folder, pair, authority, config, **kwargs):
        self.folder, self.pair, self.authority = folder, pair, authority
        self.dns = FakeDns()
        self.receiver = Receiver(capabilities=["DSN"])
        self.dns.domain("example.org", self.receiver)
        self.relay = Relay(folder, config(self) if callable(config) else config, dns=self.dns, pair=pair, authority=authority,
                           **kwargs)
        self._sources = itertools.count(1)

    def close(self):
        self.relay.close()
        self.receiver.close()
        self.dns.close()

    def open(self, listener="plain", login=None, password=PASSWORD, tls=False, hello=True, **kwargs):
        """A connection that has said EHLO, and logged in if asked."""
        kind = next(one for one in self.relay.config["listeners"] if one["name"] == listener).get("tls", "none")
        context = self.authority.client_context()
        raw = Raw(self.relay.listener(listener), context=context if kind == "implicit" else None, **kwargs)
        if tls and kind == "starttls":
            raw.ehlo()
            raw.starttls(context)
        if hello:
            raw.ehlo()
        if login:
            answer = raw.plain(login, password)
            assert answer.code == 235, answer
        return raw

    def source(self):
        """A client address that nobody else in this file was given."""
        return f"127.42.{next(self._sources)}.1"

    def arrived(self, ident, seconds=15.0):
        """What the receiver got of that message: the transaction."""
        return self.receiver.wait_for(f"id {ident}".encode(), seconds)


# Trusted, so that a login needs no TLS: what is tested is not TLS.
PLAIN = {"name": "plain", "address": "127.0.0.1:0", "tls": "none", "auth": "required", "trusted": ["127.0.0.0/8"]}
# Open to everybody, for local recipients only.
MX = {"name": "mx", "address": "127.0.0.1:0", "tls": "starttls", "auth": "optional", "submission": "off"}


def world_fixture(config=None, setup=None):
    """A fixture for a file: config is laid over the default configuration (or makes that from the World)."""
    @pytest.fixture(scope="module")
    def world(tmp_path_factory, pair, authority):
        one = World(tmp_path_factory.mktemp("world"), pair, authority, config)
        try:
            one.relay.start()
            if setup:
                setup(one)
            yield one
        finally:
            one.close()
    return world
