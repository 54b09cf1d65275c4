# SPDX-License-Identifier: MIT
"""Hosted one-click unsubscribe (RFC 8058): links in bulk mail, POST acts, GET only asks."""
import contextlib
import email
import html.parser
import http.client
import json
import re
import socket
import subprocess
import urllib.parse

import pytest
from lib.process import wait_until
from lib.world import PLAIN, world_fixture

URL = "https://mail.relay.test/u/"


def config(world):
    return {
        "listeners": [PLAIN],
        "unsubscribe": {"url": URL, "address": "127.0.0.1:0"},
    }


def fill(world):
    for name, options in (("shop", ["--class", "bulk"]), ("other", ["--class", "bulk"]), ("plain", ["--class", "bulk"])):
        world.relay.add_account(name, domains=[f"{name}.test"], options=options)
    for name in ("shop", "other"):
        world.relay.cli("account", "set", name, "unsubscribe", "bulk")


world = world_fixture(config, fill)


def send(world, *recipients, account="shop", fields="X-Posthaste-Tag: weekly\r\n"):
    with world.open("plain", account) as raw:
        raw.envelope(f"{account}@{account}.test", list(recipients))
        ident = raw.data(f"From: {account}@{account}.test\r\nTo: list@{account}.test\r\nSubject: news\r\n{fields}\r\nHello\r\n".encode()).ident
    world.relay.wait_state(ident, "delivered")
    return ident


def arrived(world, ident):
    """{recipient: header} of what the receiver got."""
    found = {}
    for t in world.receiver.transactions:
        if f"id {ident}".encode() in t.data:
            assert t.accepted
            for recipient in t.recipients:
                found[recipient] = email.message_from_bytes(t.data)
    return found


def link(world, ident, recipient):
    value = arrived(world, ident)[recipient]["List-Unsubscribe"]
    found = re.fullmatch(r"<(https://[^>]*)>", value)
    assert found, value
    return found.group(1)


def ask(world, method, url, body=None, headers=None):
    where = world.relay.ready["unsubscribe"]
    connection = http.client.HTTPConnection(where["address"], where["port"], timeout=60)
    with contextlib.closing(connection):
        connection.request(method, urllib.parse.urlsplit(url).path, body, headers or {})
        answer = connection.getresponse()
        return answer, answer.read().decode()


ONE_CLICK = {"body": "List-Unsubscribe=One-Click", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}


def feedback(world, ident, recipient):
    return next(r for r in world.relay.message(ident)["recipients"] if r["address"] == recipient).get("feedback", [])


def refused(world, recipient, account="shop", fields="X-Posthaste-Tag: weekly\r\n"):
    """Is the next message to that address refused or removed?"""
    with world.open("plain", account) as raw:
        raw.expect(f"MAIL FROM:<{account}@{account}.test>", 250)
        answer = raw.ask(f"RCPT TO:<{recipient}>")
        if answer.code != 250:
            assert (answer.code, answer.enhanced) == (550, "5.7.1"), answer
            return True
        answer = raw.data(f"From: {account}@{account}.test\r\nTo: x@y.test\r\nSubject: news\r\n{fields}\r\nHello\r\n".encode())
    return answer.code != 250 or world.relay.message(answer.ident)["recipients"][0]["state"] == "removed"


def test_every_recipient_has_a_link_of_its_own(world):
    ident = send(world, "a@example.org", "b@example.org")
    links = {recipient: link(world, ident, recipient) for recipient in ("a@example.org", "b@example.org")}
    assert len(set(links.values())) == 2
    for recipient, url in links.items():
        assert url.startswith(URL) and "example" not in url[len(URL):] and len(url) < 900
        header = arrived(world, ident)[recipient]
        assert header.get_all("List-Unsubscribe-Post") == ["List-Unsubscribe=One-Click"]
        assert len(header.get_all("List-Unsubscribe")) == 1


@pytest.mark.parametrize("account, fields", [("shop", "X-Posthaste-Class: transactional\r\n"), ("shop", "List-Unsubscribe: <mailto:off@shop.test>\r\n"), ("plain", "")])
def test_only_where_asked(world, account, fields):
    """Not for other classes, not where the message has its own, not for accounts that did not ask."""
    ident = send(world, "c@example.org", account=account, fields=fields)
    header = arrived(world, ident)["c@example.org"]
    assert "List-Unsubscribe-Post" not in header and header["List-Unsubscribe"] in (None, "<mailto:off@shop.test>")


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.buttons, self.lang = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.lang = attributes.get("lang") if tag == "html" else self.lang
        if tag == "button":
            self.buttons.append((attributes["name"], attributes["value"]))
        assert "src" not in attributes and not any(name.startswith("on") for name in attributes)


def test_get_asks_and_never_acts(world):
    ident = send(world, "scanned@example.org")
    url = link(world, ident, "scanned@example.org")
    for method in ("GET", "HEAD", "GET"):
        answer, text = ask(world, method, url)
        assert answer.status == 200 and answer.getheader("Content-Security-Policy").startswith("default-src 'none'")
        assert answer.getheader("Referrer-Policy") == "no-referrer" and answer.getheader("Cache-Control") == "no-store"
    page = Page(text)
    assert page.lang == "en" and page.buttons == [("scope", "stream"), ("scope", "account")] and "script" not in page.tags
    assert {"title", "main", "h1", "form"} <= set(page.tags) and "shop.test" in text and "scanned@" not in text
    assert feedback(world, ident, "scanned@example.org") == [] and not refused(world, "scanned@example.org")


def judge(text):
    """What HTML Tidy has to say about a page: nothing."""
    done = subprocess.run(["tidy", "-quiet", "-errors", "-utf8"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stderr}\n{text}"


def test_pages_are_good_html(world):
    """Each page that people may see: valid, in a language, titled, made for small screens, nothing loaded, no script."""
    ident = send(world, "page@example.org")
    untagged = send(world, "page@example.org", fields="")
    url, other = link(world, ident, "page@example.org"), link(world, untagged, "page@example.org")
    form = ONE_CLICK["headers"]
    pages = [
        ask(world, "GET", url), ask(world, "GET", other), ask(world, "GET", URL + "none"), ask(world, "PUT", url),
        ask(world, "POST", url, body="scope=stream", headers=form), ask(world, "POST", url, body="scope=account", headers=form),
        *(ask(world, "POST", other, **ONE_CLICK) for _ in range(25)),
    ]
    seen = {}
    for answer, text in pages:
        seen[answer.status, text] = True
    assert {status for status, _ in seen} == {200, 404, 405, 429} and len(seen) == 7
    for _, text in seen:
        judge(text)
        page = Page(text)
        assert page.lang == "en" and {"title", "h1", "main"} <= set(page.tags) and not {"script", "img", "link", "iframe"} & set(page.tags)
        assert 'name="viewport"' in text and "page@" not in text
        assert re.search(r"<title>[^<]{10,}</title>", text)


def test_one_click(world):
    """RFC 8058: one POST; the answer comes when it is kept; the stream is over, other mail is not."""
    ident = send(world, "click@example.org")
    answer, text = ask(world, "POST", link(world, ident, "click@example.org"), **ONE_CLICK)
    assert answer.status == 200 and "unsubscribed" in text
    world.relay.kill()
    world.relay.start()
    shown = feedback(world, ident, "click@example.org")
    assert [f["kind"] for f in shown] == ["unsubscribe"]
    wait_until(lambda: refused(world, "click@example.org"), 20, f"the stream is refused {world.relay.cli_list('suppress', 'list')} {world.relay.log()[-3000:]}", every=0.2)
    assert not refused(world, "click@example.org", fields="X-Posthaste-Tag: receipts\r\n")
    assert not refused(world, "click@example.org", account="other")
    assert ask(world, "POST", link(world, ident, "click@example.org"), **ONE_CLICK)[0].status == 200  # again: no harm


def test_button_for_everything(world):
    ident = send(world, "all@example.org")
    answer, _ = ask(world, "POST", link(world, ident, "all@example.org"), body="scope=account", headers=ONE_CLICK["headers"])
    assert answer.status == 200
    wait_until(lambda: refused(world, "all@example.org", fields="X-Posthaste-Tag: receipts\r\n"), 20, "all is refused", every=0.2)
    assert not refused(world, "all@example.org", account="other")


def test_what_is_no_link_of_ours(world):
    ident = send(world, "keep@example.org")
    url = link(world, ident, "keep@example.org")
    changed = url[:-6] + ("A" if url[-6] != "A" else "B") + url[-5:]
    for bad in (changed, url[:-4], URL, URL + "x" * 3000, URL + "%00%ff", URL + "../../etc/passwd"):
        for method in ("GET", "POST"):
            assert ask(world, method, bad)[0].status in (404, 400, 414), bad
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
        answer, _ = ask(world, method, url)
        assert answer.status == 405 and answer.getheader("Allow") == "GET, HEAD, POST"
    assert feedback(world, ident, "keep@example.org") == []


def test_large_and_slow_requests(world):
    """A body of any size is read and forgotten; a client that says nothing holds nobody up."""
    ident = send(world, "large@example.org")
    url = link(world, ident, "large@example.org")
    where = world.relay.ready["unsubscribe"]
    idle = [socket.create_connection((where["address"], where["port"])) for _ in range(20)]
    try:
        answer, _ = ask(world, "POST", url, body="List-Unsubscribe=One-Click&x=" + "y" * 500000, headers=ONE_CLICK["headers"])
        assert answer.status == 200
    finally:
        for one in idle:
            one.close()
    assert len(feedback(world, ident, "large@example.org")) == 1


def test_rate_of_one_link(world):
    ident = send(world, "often@example.org")
    url = link(world, ident, "often@example.org")
    answers = [ask(world, "POST", url, **ONE_CLICK)[0].status for _ in range(25)]
    assert answers[0] == 200 and 429 in answers and set(answers) == {200, 429}
    assert len(feedback(world, ident, "often@example.org")) == answers.count(200) <= 20


def test_rate_is_not_of_the_message(world):
    recipients = [f"one.of.many{n}@example.org" for n in range(30)]
    ident = send(world, *recipients)
    assert [ask(world, "POST", link(world, ident, each), **ONE_CLICK)[0].status for each in recipients] == [200] * 30


def test_metrics(world):
    metrics = world.relay.metrics()
    assert metrics["posthaste_unsubscribe_done_total"] > 0 and metrics["posthaste_unsubscribe_refused_total"] > 0
    assert json.dumps(world.relay.ready["http"]) != json.dumps(world.relay.ready["unsubscribe"])
