# SPDX-License-Identifier: MIT
"""A network of the test's own.

As root each pytest process moves into a network namespace of its own: nothing but loopback, every port
free (25 and 53 too), no way out to the world, gone with the process. Without root the host's loopback
serves, and servers take ports that happen to be free.
"""
import contextlib
import ctypes
import itertools
import os
import pathlib
import socket
import subprocess

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
PRIVATE = False  # whether this process is in a network of its own
_numbers = itertools.count(1)
_smtp_port = None


def enter_private():
    """Moves this process, and all it starts later, into new network and mount namespaces; needs root."""
    global PRIVATE
    if PRIVATE or os.geteuid() != 0:
        return PRIVATE
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
        return False
    for command in (["mount", "--make-rprivate", "/"], ["ip", "link", "set", "lo", "up"]):
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    # Documentation addresses, so that tests have IPv6 hosts in plenty (none where the kernel has no IPv6).
    subprocess.run(["ip", "-6", "addr", "add", "2001:db8::/64", "dev", "lo"], capture_output=True)
    subprocess.run(["ip", "-6", "route", "add", "local", "2001:db8::/64", "dev", "lo"], capture_output=True)
    with contextlib.suppress(OSError):  # unlike IPv4's, the kernel lets one bind only to addresses listed one by one
        pathlib.Path("/proc/sys/net/ipv6/ip_nonlocal_bind").write_text("1")
    PRIVATE = True
    return True


def new_address():
    """An IPv4 loopback address that no one else in this process was given."""
    number = next(_numbers)
    return f"127.{64 + os.getpid() % 64}.{number // 250}.{1 + number % 250}"


def new_address6():
    """An IPv6 address likewise; only in a private network, and where has_ipv6()."""
    return f"2001:db8::{next(_numbers):x}"


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("2001:db8::ffff" if PRIVATE else "::1", 0))
            return True
    except OSError:
        return False


def free_port(address="127.0.0.1"):
    """A port that was free a moment ago. Prefer port 0 and asking the server where it can be asked."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def smtp_port():
    """The port that receivers listen on, each at an address of its own: 25, or one that is free everywhere."""
    global _smtp_port
    if _smtp_port is None:
        _smtp_port = 25 if PRIVATE else free_port("0.0.0.0")
    return _smtp_port


def accepts(address, port):
    """Whether somebody listens there."""
    try:
        with socket.create_connection((address, port), 1):
            return True
    except OSError:
        return False
