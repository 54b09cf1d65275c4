# SPDX-License-Identifier: MIT
"""What a service manager is told: sd_notify(3)'s datagrams, received by a socket of the test's own."""
import socket

import pytest
from lib.relay import Relay


class Manager:
    def __init__(self, name):
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name[0] == "@" else name)
        self.socket.settimeout(30)

    def hear(self):
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    manager = Manager(str(tmp_path / "notify") if request.param == "path" else f"@posthaste-{tmp_path}")
    yield manager
    manager.socket.close()


def test_manager_is_told(manager, tmp_path):
    relay = Relay(tmp_path / "relay", {"tls": {"self_signed": True}}, env={"NOTIFY_SOCKET": manager.name})
    relay.start()
    try:
        ready = manager.hear()
        assert (ready["READY"], int(ready["MAINPID"]), ready["STATUS"]) == ("1", relay.ready["pid"], "running")

        relay.reload({"retry": {"first": "2s"}})
        reloading = manager.hear()
        assert reloading["RELOADING"] == "1" and int(reloading["MONOTONIC_USEC"]) > 0
        assert manager.hear()["STATUS"] == "running"

        relay.config_file.write_text("hostname: [")
        relay.process.signal(1)
        assert manager.hear()["RELOADING"] == "1"
        refused = manager.hear()
        assert refused["READY"] == "1" and "refused" in refused["STATUS"]
        relay.write_config()

        relay.cli("upgrade")
        assert manager.hear()["RELOADING"] == "1"
        assert int(manager.hear()["MAINPID"]) == relay.ready["pid"]  # the new program, the same process
    finally:
        relay.stop()
    stopping = manager.hear()
    assert stopping["STOPPING"] == "1"
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) >= 30_000_000  # shutdown_grace


def test_nobody_listens(tmp_path):
    """A variable that leads nowhere keeps nothing from working."""
    relay = Relay(tmp_path / "relay", {"tls": {"self_signed": True}}, env={"NOTIFY_SOCKET": str(tmp_path / "absent")}).start()
    assert "cannot tell the service manager" in relay.log()
    assert relay.stop() == 0
