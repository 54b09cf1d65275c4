# SPDX-License-Identifier: MIT
"""Fixtures of the end to end tests; test/e2e/lib has what they are made of.

As root every pytest process has a network of its own (lib/network.py), so tests may take port 25 and run
Postfix. A test that can't run here is skipped and says why.
"""
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from lib import certs, fakedns, network, peers, receiver, relay  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "long: only in `make check-long`")
    if not config.getoption("collectonly") and not _is_xdist_controller(config):
        network.enter_private()


def _is_xdist_controller(config):
    """The process that only hands out tests keeps the host's network."""
    return "PYTEST_XDIST_WORKER" not in os.environ and bool(getattr(config.option, "numprocesses", None))


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """A certificate authority that relays of this session trust."""
    return certs.Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def pair(authority):
    """The relay's own certificate."""
    return authority.issue("relay.test", "localhost", "127.0.0.1", "::1", stem="relay")


@pytest.fixture
def dns():
    """A scripted DNS server, empty; dns.domain("example.org", receiver) makes a mail domain."""
    server = fakedns.FakeDns()
    yield server
    server.close()


@pytest.fixture
def make_receiver():
    """Makes scripted receivers; all are closed at the end."""
    made = []

    def make(**kwargs):
        made.append(receiver.Receiver(**kwargs))
        return made[-1]
    yield make
    for one in made:
        one.close()


@pytest.fixture
def receiver_(make_receiver, dns):
    """A receiver that is the MX of example.org."""
    one = make_receiver()
    dns.domain("example.org", one)
    return one


@pytest.fixture
def make_relay(tmp_path, dns, pair, authority):
    """Makes relays that ask `dns`; make_relay({...}) lays changes over the default configuration.
    start=False only makes it. What still runs at the end is killed."""
    made = []

    def make(config=None, start=True, name=None, **kwargs):
        folder = tmp_path / (name or f"relay{len(made) or ''}")
        kwargs = {"dns": dns, "pair": pair, "authority": authority, **kwargs}
        one = relay.Relay(folder, config, **kwargs)
        made.append(one)
        return one.start() if start else one
    yield make
    for one in made:
        one.close()


@pytest.fixture
def relay_(make_relay):
    """A running relay with the account `alice`, who may send as client.test."""
    one = make_relay()
    one.add_account("alice", domains=["client.test"])
    return one


@pytest.fixture(scope="session")
def peers_root():
    """Skips where foreign servers can't be run."""
    reason = peers.why_not()
    if reason:
        pytest.skip(reason)
    return peers.root()


@pytest.fixture
def start_peer(peers_root, tmp_path):
    """start_peer(peers.Knot, zones={...}): runs it in a folder of its own until the test ends."""
    started = []

    def start(kind, **kwargs):
        folder = tmp_path / f"{kind.__name__.lower()}{len(started)}"
        folder.mkdir()
        started.append(kind(folder, **kwargs))
        return started[-1]
    yield start
    for one in started:
        one.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of its relays' logs."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for folder in sorted(item.funcargs.get("tmp_path", pathlib.Path("/nonexistent")).glob("relay*/relay.log")):
            report.sections.append((f"log of {folder.parent.name}", folder.read_text(errors="replace")[-6000:]))
