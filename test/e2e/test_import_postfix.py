# SPDX-License-Identifier: MIT
"""`posthaste import postfix`: realistic main.cf's and master.cf's; every parameter is told of once, and the result is a
configuration. Postfix's own postconf judges how the files are read."""
import pathlib
import re
import subprocess
import textwrap

import pytest
import yaml
from lib import peers
from lib.process import wait_until
from lib.relay import BINARY

TABLES = {
    "sasl_passwd": "# secrets\n[smtp.isp.example]:587 user@isp.example:s3cret:with:colons\nsmtp.gmail.com  bot:gm\n\n"
                   "[email-smtp.eu-west-1.amazonaws.com]:587\n    AKIA:ses/key+1\n",
    "transport": "example.net   smtp:[mx.example.net]:2525\n.example.net  smtp:[sub.example.net]\nboss@example.net lmtp:unix:private/lmtp\n"
                 "yahoo.example slow:\nbulk.example slow:[out.example]\nfax.example pipe_fax:x\nnull.example discard:\n"
                 "old.example   error:5.1.1 gone\ninternal.example :[10.1.2.3]\nv6.example smtp:[2001:db8::7]:26\n",
    "transport_all": "local.example lmtp:inet:imap.example:24\n*  smtp:[out.example]:587\n",
    "relay_by_sender": "@shop.example [smtp.isp.example]:587\nboss@corp.example other.example\nnobody@x.example DUNNO\n",
    "transport_of_company": "intern.example.org smtp:[10.20.0.5]\nboss@example.org smtp:[10.20.0.6]\nsecure.example smtp:\n",
    "tls_policy": "secure.example secure match=nexthop\n.enc.example encrypt\n[smtp.isp.example]:587 verify\n",
    "virtual": "info@alias.example anna@example.org, bob\n@catch.example all@example.org\n",
    "virtual_of_own": "sales@example.org anna@example.org, bert@partner.example\ninfo@old.example sales@example.org\n"
                      "old.example  anything\nroot it@example.org\nhelp@intern.example.org it@example.org\n@all.example @example.org\n",
    "aliases": "# aliases(5)\npostmaster: root\nroot: ignored@example.org\nwww-data:\troot, bob\nbackup: |\"/usr/bin/thing\"\n"
               "list: :include:/etc/list\n",
    "mailname": "relay.example.org\n",
    "networks": "192.0.2.0/25 # office\n198.51.100.7\n",
}

MASTER = """
# service type  private unpriv  chroot  wakeup  maxproc command + args
smtp      inet  n       -       y       -       -       smtpd
submission inet n       -       y       -       -       smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
#  -o smtpd_tls_auth_only=yes
  -o { smtpd_relay_restrictions = permit_sasl_authenticated, reject }
  -o milter_macro_daemon_name=ORIGINATING
smtps     inet  n       -       y       -       -       smtpd
  -o smtpd_tls_wrappermode=yes -o smtpd_sasl_auth_enable=yes
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
127.0.0.1:10025 inet n  -       n       -       -       smtpd
  -o content_filter=
pickup    unix  n       -       y       60      1       pickup
slow      unix  -       -       n       -       2       smtp
pipe_fax  unix  -       n       n       -       -       pipe
  flags=R user=fax argv=/usr/bin/fax ${user}
smtp      unix  -       -       y       -       -       smtp
relay     unix  -       -       y       -       -       smtp
"""

# name: (main.cf, master.cf or None, what the configuration has, words of its comments)
CASES = {
    "debian_satellite": ("""
        # See /usr/share/postfix/main.cf.dist for a commented, more complete version
        smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)
        biff = no
        append_dot_mydomain = no
        readme_directory = no
        compatibility_level = 3.6
        smtpd_tls_cert_file=@CERT@
        smtpd_tls_key_file=@KEY@
        smtpd_tls_security_level=may
        smtp_tls_CApath=/etc/ssl/certs
        smtp_tls_security_level=may
        smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache
        smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
        myhostname = sat.example.org
        alias_maps = hash:/etc/aliases
        alias_database = hash:/etc/aliases
        mydestination = $myhostname, localhost.example.org, localhost
        relayhost = [smtp.isp.example]
        mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
        mailbox_size_limit = 0
        recipient_delimiter = +
        inet_interfaces = loopback-only
        inet_protocols = all
        """, None, {
        "hostname": "sat.example.org",
        "listeners": [("127.0.0.1:25", "starttls", "none"), ("[::1]:25", "starttls", "none")],
        "routes": [{"match": {"recipient": ["sat.example.org", "localhost.example.org", "localhost"]},
                    "via": "maildir:/var/mail/posthaste/%d/%u"}, {"match": {}, "via": "smtp://smtp.isp.example:25"}],
        "retry": {"warn_after": "none", "max": "4000s"},
        "limits": {"message_size": 10240000}}, ["recipient table", "biff"]),
    "smarthost_with_login": ("""
        myhostname = relay.example.org
        relayhost = [smtp.isp.example]:587
        smtp_sasl_auth_enable = yes
        smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
        smtp_sasl_security_options = noanonymous
        smtp_tls_security_level = encrypt
        smtp_tls_CAfile = @CA@
        mydestination =
        mynetworks = 127.0.0.0/8, 10.20.0.0/16
        message_size_limit = 52428800
        maximal_queue_lifetime = 3d
        bounce_queue_lifetime = 1d
        minimal_backoff_time = 600s
        maximal_backoff_time = 2h
        delay_warning_time = 4h
        """, None, {
        "listeners": [("*:25", None, "none")],
        "routes": [{"match": {}, "via": "smtp://smtp.isp.example:587", "login": "user@isp.example", "tls": "encrypt"}],
        "retry": {"lifetime": "3d", "first": "10m", "max": "2h", "warn_after": "4h"},
        "limits": {"message_size": 52428800}}, ["bounce_queue_lifetime"]),
    "gmail_with_wrappermode": ("""
        myhostname = home.example.org
        relayhost = smtp.gmail.com:465
        smtp_tls_wrappermode = yes
        smtp_sasl_auth_enable = yes
        smtp_sasl_password_maps = texthash:/etc/postfix/sasl_passwd
        mydestination =
        """, None, {"routes": [{"match": {}, "via": "smtps://smtp.gmail.com:465", "login": "bot"}]},
        ["smtp_tls_wrappermode = yes"]),
    "transport_with_wrappermode": ("""
        myhostname = home.example.org
        default_transport = submissions-out:[smtp.isp.example]:4650
        smtp_sasl_auth_enable = yes
        smtp_sasl_password_maps = texthash:/etc/postfix/sasl_passwd
        mydestination =
        """, """
submissions-out unix - - n - - smtp
  -o smtp_tls_wrappermode=yes -o smtp_tls_security_level=secure
  -o smtp_bind_address=192.0.2.7
        """, {"routes": [{"match": {}, "via": "smtps://smtp.isp.example:4650", "tls": "verify"}]},
        ["submissions-out -o smtp_bind_address", "    # master.cf: submissions-out -o smtp_tls_wrappermode=yes\n"]),
    "ses_over_continuation_lines": ("""
        mydomain = example.org
        myhostname =
          # a comment in between
            mail.$mydomain

        relayhost
          =
          [email-smtp.eu-west-1.amazonaws.com]:587
        smtp_sasl_auth_enable = yes
        smtp_sasl_password_maps = lmdb:/etc/postfix/sasl_passwd
        # Twice: the last one holds.
        mynetworks = 10.0.0.0/8
        mynetworks = 192.168.0.0/16
            172.16.0.0/12
        mydestination =
        """, None, {"hostname": "mail.example.org", "trusted": ["192.168.0.0/16", "172.16.0.0/12"],
                    "routes": [{"match": {}, "via": "smtp://email-smtp.eu-west-1.amazonaws.com:587", "login": "AKIA",
                                "tls": "encrypt"}]}, ["mydomain"]),
    "submission_server": ("""
        myhostname = mail.example.org
        mydestination =
        smtpd_tls_chain_files = @KEY@, @CERT@
        smtpd_tls_security_level = may
        smtpd_sasl_type = dovecot
        smtpd_sasl_path = private/auth
        smtpd_sender_login_maps = hash:/etc/postfix/logins
        smtpd_recipient_limit = 20
        smtpd_client_connection_count_limit = 30
        inet_protocols = ipv4
        mynetworks_style = host
        """, MASTER, {
        "listeners": [("0.0.0.0:25", "starttls", "none"), ("0.0.0.0:587", "starttls", "required"), ("0.0.0.0:465", "implicit", "required"),
                      ("127.0.0.1:10025", "starttls", "none")],
        "limits": {"recipients": 100, "sessions_per_address": 30}, "routes": [{"via": "mx", "tls": "may"}]},
        ["posthaste account add", "master.cf: pipe_fax (pipe)", "-o milter_macro_daemon_name=ORIGINATING"]),
    "transports": ("""
        myhostname = out.example.org
        transport_maps = hash:$config_directory/transport
        mydestination =
        slow_destination_concurrency_limit = 2
        slow_destination_rate_delay = 5s
        default_destination_concurrency_limit = 50
        default_destination_recipient_limit = 30
        smtp_destination_concurrency_limit = 10
        initial_destination_concurrency = 3
        """, MASTER, {
        "routes": [{"match": {"recipient": "boss@example.net"}, "via": "lmtp:/var/spool/postfix/private/lmtp"},
                   {"match": {"recipient": "example.net"}, "via": "smtp://mx.example.net:2525"},
                   {"match": {"recipient": "yahoo.example"}, "via": "mx"},
                   {"match": {"recipient": "bulk.example"}, "via": "smtp://out.example:25"},
                   {"match": {"recipient": "null.example"}, "via": "discard"},
                   {"match": {"recipient": "internal.example"}, "via": "smtp://10.1.2.3:25"},
                   {"match": {"recipient": "v6.example"}, "via": "smtp://[2001:db8::7]:26"},
                   {"match": {"recipient": "*.example.net"}, "via": "smtp://sub.example.net:25"}, {"via": "mx", "tls": "may"}],
        "lanes": [{"match": ["yahoo.example", "bulk.example"], "connections": 2, "messages_per_second": 0.2},
                  {"match": "*", "connections": 10}]},
        ["fax.example pipe_fax:x", "old.example error:5.1.1 gone"]),
    "everything_by_transport": ("""
        myhostname = out.example.org
        transport_maps = texthash:/etc/postfix/transport_all, pcre:/etc/postfix/t.pcre
        relayhost = [never.example]
        mydestination = example.org
        """, None, {"routes": [{"match": {"recipient": "local.example"}, "via": "lmtp:imap.example:24"},
                               {"match": {"recipient": "*"}, "via": "smtp://out.example:587"}]}, ["relayhost"]),
    "mail_host_with_dovecot": ("""
        myhostname = mx.example.org
        mydestination = localhost
        virtual_mailbox_domains = example.org example.net
        virtual_transport = lmtp:unix:private/dovecot-lmtp
        virtual_mailbox_maps = hash:/etc/postfix/vmailbox
        virtual_alias_maps = hash:/etc/postfix/virtual
        recipient_delimiter = +
        smtpd_tls_cert_file = @CERT@
        smtpd_tls_key_file = @KEY@
        smtpd_use_tls = yes
        smtpd_sasl_auth_enable = yes
        home_mailbox = Maildir/
        header_checks = pcre:/etc/postfix/header_checks
        smtpd_milters = inet:127.0.0.1:8891
        content_filter = smtp-amavis:[127.0.0.1]:10024
        """, None, {
        "listeners": [("*:25", "starttls", "optional")],
        "routes": [{"match": {"recipient": ["alias.example", "catch.example"]}, "via": "mx"},
                   {"match": {"recipient": ["localhost"]}, "via": "maildir:/var/mail/posthaste/%d/%u"},
                   {"match": {"recipient": ["example.org", "example.net"]}, "via": "lmtp:/var/spool/postfix/private/dovecot-lmtp"},
                   {"via": "mx", "tls": "may"}]}, ["OpenDKIM", "filter before it is handed in"]),
    "smarthost_of_a_company": ("""
        myhostname = relay.example.org
        myorigin = /etc/postfix/mailname
        mydestination = $myhostname, localhost
        alias_maps = hash:/etc/postfix/aliases
        mynetworks = 127.0.0.0/8 10.20.0.0/16
        relayhost = [smtp.isp.example]:587
        smtp_sasl_auth_enable = yes
        smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
        smtp_sasl_path = nothing
        smtp_tls_security_level = may
        smtp_tls_policy_maps = hash:/etc/postfix/tls_policy
        transport_maps = hash:/etc/postfix/transport_of_company
        virtual_alias_maps = hash:/etc/postfix/virtual_of_own
        recipient_delimiter = +
        """, MASTER, {
        "routes": [
            {"match": {"recipient": "boss@example.org"}, "via": "smtp://10.20.0.6:25"},
            {"match": {"recipient": ["example.org"]}, "via": "smtp://smtp.isp.example:587", "login": "user@isp.example", "tls": "verify"},
            {"match": {"recipient": ["old.example"]}, "via": "mx"},
            {"match": {"recipient": ["intern.example.org"]}, "via": "smtp://10.20.0.5:25"},
            {"match": {"recipient": "intern.example.org"}, "via": "smtp://10.20.0.5:25"},
            {"match": {"recipient": "secure.example"}, "via": "mx", "tls": "verify"},
            {"match": {"recipient": ["relay.example.org", "localhost"]}, "via": "maildir:/var/mail/posthaste/%d/%u"},
            {"match": {}, "via": "smtp://smtp.isp.example:587", "login": "user@isp.example", "tls": "verify"}]},
        ["@all.example @example.org", "backup |", "list :include:", "install -d -o posthaste"]),
    "null_client": ("""
        myhostname = web1.example.org
        myorigin = $mydomain
        relayhost = $mydomain
        inet_interfaces = loopback-only
        inet_protocols = ipv4
        mydestination =
        """, None, {"listeners": [("127.0.0.1:25", "none", "none")], "routes": [{"match": {}, "via": "smtp://example.org:25"}]},
        ["looked up the MX of this name"]),
    "relay_by_sender": ("""
        myhostname = out.example.org
        sender_dependent_relayhost_maps = hash:/etc/postfix/relay_by_sender
        smtp_sender_dependent_authentication = yes
        smtp_sasl_auth_enable = yes
        smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
        smtp_tls_security_level = verify
        mydestination =
        """, None, {"routes": [
            {"match": {"sender": "boss@corp.example"}, "via": "smtp://other.example:25", "tls": "verify"},
            {"match": {"sender": "shop.example"}, "via": "smtp://smtp.isp.example:587", "login": "user@isp.example", "tls": "verify"},
            {"via": "mx", "tls": "verify"}]}, ["write one for each sender"]),
    "networks": ("""
        myhostname = n.example.org
        inet_interfaces = 192.0.2.1, [2001:db8::1], $myhostname
        mynetworks = 192.168.7.9/24 [2001:db8:1::5]/64, /etc/postfix/networks !10.0.0.1 0.0.0.0/0 hash:/etc/postfix/n
        mydestination =
        """, None, {"listeners": [("192.0.2.1:25", None, "none"), ("[2001:db8::1]:25", None, "none"), ("*:25", None, "none")],
                    "trusted": ["192.168.7.0/24", "2001:db8:1::/64", "192.0.2.0/25", "198.51.100.7/32"]},
        ["!10.0.0.1, 0.0.0.0/0, hash:/etc/postfix/n", "put its address instead"]),
    "tls_policies": ("""
        myhostname = t.example.org
        smtp_tls_security_level = dane
        smtp_dns_support_level = dnssec
        smtp_tls_policy_maps = hash:/etc/postfix/tls_policy
        smtp_tls_loglevel = 1
        mydestination =
        """, None, {"routes": [{"match": {"recipient": "secure.example"}, "via": "mx", "tls": "verify"},
                               {"match": {"recipient": "*.enc.example"}, "via": "mx", "tls": "encrypt"}, {"via": "mx", "tls": "may"}]},
        ["DANE is not looked at yet", "is about a next hop"]),
    "limits_and_addresses": ("""
        myhostname = l.example.org
        smtp_helo_name = helo.example.org
        smtp_bind_address = 203.0.113.9
        smtp_bind_address6 = 2001:db8::9
        message_size_limit = 0
        header_size_limit = 4096
        hopcount_limit = 5000
        smtpd_timeout = ${stress?{10}:{300}}s
        maximal_queue_lifetime = 60d
        minimal_backoff_time = 3h
        maximal_backoff_time = 1h
        delay_warning_time = 0h
        mydestination =
        soft_bounce = no
        my_own = value
        frobnicate = $my_own
        """, None, {"hostname": "helo.example.org", "domains": {"addresses": ["203.0.113.9", "2001:db8::9"]},
                    "limits": {"message_size": 2147483648, "header_size": 16384, "received": 1000, "command_timeout": "5m"},
                    "retry": {"lifetime": "30d", "first": "3h", "max": "3h", "warn_after": "none"}},
        ["beyond what we allow", "not known here"]),
}


def test_proxies_xclient_and_certificates(etc, tmp_path):
    """What a listener says of who speaks for clients, and of certificates that are logins."""
    sha256 = ":".join(f"{n:02X}" for n in range(32))
    main, master = etc("""
        myhostname = mx.example.org
        mydestination =
        mynetworks = 10.0.0.0/8
        smtpd_tls_cert_file = @CERT@
        smtpd_tls_key_file = @KEY@
        smtpd_tls_CAfile = @CA@
        smtpd_tls_security_level = may
        smtpd_authorized_xclient_hosts = 127.0.0.1 [::1], filter.example.org
        relay_clientcerts = hash:/etc/postfix/clients
        authorized_submit_users = !news, root, www-data
        """, """
smtp      inet  n       -       y       -       -       smtpd
  -o smtpd_upstream_proxy_protocol=haproxy
submission inet n       -       y       -       -       smtpd
  -o smtpd_sasl_auth_enable=yes -o smtpd_tls_ask_ccert=yes -o smtpd_authorized_xclient_hosts=
pickup    unix  n       -       y       60      1       pickup
""")
    (main.parent / "clients").write_text(f"{sha256} robot\nAA:BB:CC old\n")
    text = convert([main, master])
    conf = yaml.safe_load(text)
    first, second = conf["listeners"]
    assert first["proxy"] == ["10.0.0.0/8"] and first["xclient"] == ["127.0.0.1/32", "::1/128"] and "filter.example.org" in text
    assert "client_certificates" not in first and second["client_certificates"] == "login" and "xclient" not in second
    assert conf["tls"]["client_authorities"].endswith(".pem") or conf["tls"]["client_authorities"]
    assert f"posthaste credential add ACCOUNT --certificate {sha256}" in text and "AA:BB:CC is no SHA-256" in text
    assert conf["sendmail"] == {"socket": "/run/posthaste/submit.sock", "pickup": "/var/spool/posthaste-pickup", "accounts": [
        {"user": "root", "account": "local"}, {"user": "www-data", "account": "local"}]} and "not taken over: !news" in text
    path = tmp_path / "posthaste.yaml"
    path.write_text(text)
    checked = subprocess.run([BINARY, "check-config", "--config", path], capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stderr + text


# What a service of master.cf sets, and whether mynetworks may then relay without a login.
RESTRICTIONS = [
    ("", True),  # smtpd_relay_restrictions has permit_mynetworks by default
    ("smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject_unauth_destination", True),
    ("smtpd_relay_restrictions=permit_sasl_authenticated,reject_unauth_destination", False),
    # A permit of another list ends that list alone.
    ("smtpd_client_restrictions=permit_mynetworks,reject smtpd_relay_restrictions=permit_sasl_authenticated,defer_unauth_destination", False),
    ("smtpd_recipient_restrictions=permit_mynetworks,reject smtpd_relay_restrictions=permit_sasl_authenticated,reject", False),
    ("smtpd_relay_restrictions=permit_sasl_authenticated,reject_unauth_destination,permit_mynetworks", False),
    ("smtpd_relay_restrictions=check_client_access,hash:/x,PERMIT_MYNETWORKS,reject", True),
    ("smtpd_relay_restrictions=warn_if_reject,reject_unauth_destination,permit_mynetworks,reject", True),
    # Every list has a say.
    ("smtpd_recipient_restrictions=permit_sasl_authenticated,reject_unauth_destination", False),
    ("smtpd_recipient_restrictions=reject_unknown_recipient_domain", True),
    ("smtpd_client_restrictions=permit_sasl_authenticated,reject", False),
    ("smtpd_sender_restrictions=permit_sasl_authenticated,reject", False),
    # Without smtpd_relay_restrictions it is smtpd_recipient_restrictions that guards relaying.
    ("smtpd_relay_restrictions= smtpd_recipient_restrictions=permit_mynetworks,reject_unauth_destination", True),
    ("smtpd_relay_restrictions= smtpd_recipient_restrictions=permit_sasl_authenticated,reject_unauth_destination", False),
    ("smtpd_relay_restrictions= smtpd_client_restrictions=permit_mynetworks", False),
]


def test_networks_relay_without_login_only_where_postfix_let_them(etc):
    """smtpd's lists of restrictions: each may refuse; the one that guards relaying has to permit."""
    master = "".join(f"{3000 + i} inet n - y - - smtpd\n  " + " ".join(f"-o {{ {one.replace('=', ' = ', 1)} }}" for one in sets.split()) + "\n"
                     for i, (sets, _) in enumerate(RESTRICTIONS))
    text = convert(etc("""
        myhostname = mx.example.org
        mydestination =
        mynetworks = 10.0.0.0/8
        smtpd_sasl_auth_enable = yes
        """, master))
    found = {int(one["address"].rpartition(":")[2]) - 3000: one for one in yaml.safe_load(text)["listeners"]}
    for i, (sets, trusted) in enumerate(RESTRICTIONS):
        assert (found[i]["auth"], found[i].get("trusted")) == (("optional", ["10.0.0.0/8"]) if trusted else ("required", None)), sets
    assert text.count("relay without a login, not mynetworks") == sum(not trusted for _, trusted in RESTRICTIONS)


@pytest.fixture
def etc(tmp_path, authority, pair):
    """etc(main.cf, master.cf): a folder like /etc/postfix; its two files."""
    folder = tmp_path / "postfix"
    folder.mkdir()
    for name, text in TABLES.items():
        (folder / name).write_text(text)
    (tmp_path / "files").mkdir()

    def make(main, master=None):
        main = textwrap.dedent(main)
        for mark, path in (("@CERT@", pair.certificate), ("@KEY@", pair.key), ("@CA@", authority.file)):
            main = main.replace(mark, str(path))
        main = main.replace("/etc/postfix/networks", str(folder / "networks"))
        (folder / "main.cf").write_text(main)
        (folder / "master.cf").write_text(master or "")
        return [folder / "main.cf"] + ([folder / "master.cf"] if master else [])
    return make


def convert(files, *options, code=0):
    result = subprocess.run([BINARY, "import", "postfix", *map(str, files), *map(str, options)], capture_output=True, text=True,
                            timeout=120)
    assert result.returncode == code, result.stderr + result.stdout
    return result.stdout


def settings(text):
    """{name: value} of the parameters that the comments name, and how often each is named."""
    found = re.findall(r"^ *# ([A-Za-z0-9_]+) = ?(.*)$", text, re.M)
    assert len(found) == len(dict(found)), found
    return dict(found)


@pytest.mark.parametrize("name", CASES)
def test_import(name, etc, tmp_path):
    """What it has, what its comments say, each parameter once; check-config takes it."""
    main, master, wanted, words = CASES[name]
    files = etc(main, master)
    text = convert(files, "--files", tmp_path / "files")
    conf = yaml.safe_load(text)
    for key, value in wanted.items():
        if key == "listeners":
            assert [(one["address"], one["tls"], one["auth"]) for one in conf["listeners"]] == \
                [(a, tls or "none", auth) for a, tls, auth in value]
        elif key == "trusted":
            assert conf["listeners"][0]["trusted"] == value
        elif key == "routes":
            for route in conf["routes"]:
                for file in (route.pop("password_file", None), route.pop("recipients", None)):
                    assert file is None or pathlib.Path(file).stat().st_mode & 0o777 in (0o600, 0o640)
            assert conf["routes"] == value
        elif isinstance(value, dict):
            assert value.items() <= conf[key].items(), (key, conf[key])
        else:
            assert conf[key] == value
    for word in words:
        assert word in text, word
    set_there = set(re.findall(r"^ *([A-Za-z0-9_]+)\s*(?:=|$)", textwrap.dedent(main), re.M)) - {""}
    assert set_there <= set(settings(text)), set_there - set(settings(text))
    path = tmp_path / "posthaste.yaml"
    path.write_text(text)
    checked = subprocess.run([BINARY, "check-config", "--config", path], capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stderr + text


def test_aliases_refuse_nobody_whom_postfix_knew(etc, tmp_path):
    """Only a domain of aliases alone has nobody else; what stays here goes by its alias first, virtual ones before local."""
    text = convert(etc(*CASES["smarthost_of_a_company"][:2]), "--files", tmp_path / "files")
    table = pathlib.Path(yaml.safe_load(text)["routes"][1]["recipients"]).read_text()
    assert table.splitlines() == [
        "option subaddress +",
        "sales@example.org: anna@example.org, bert@partner.example",
        "info@old.example: sales@example.org",
        "root@relay.example.org: it@example.org", "root@localhost: it@example.org",
        "help@intern.example.org: it@example.org",
        "postmaster@relay.example.org: root@relay.example.org", "postmaster@localhost: root@localhost",
        "www-data@relay.example.org: root@relay.example.org, bob@relay.example.org",
        "www-data@localhost: root@localhost, bob@localhost",
        "@example.org", "@relay.example.org", "@localhost", "@intern.example.org"]


def test_arguments_of_programs_are_no_users(etc, tmp_path):
    """An alias for a program or a file is lost as a whole, with its arguments; addresses beside it stay."""
    files = etc("""
        myhostname = mx.example.org
        mydestination = example.org
        alias_maps = hash:/etc/postfix/with_programs
        """)
    programs = ['mailman: "|/var/lib/mailman/mail/mailman post mailman"', "bare: |/usr/bin/thing with arguments",
                "old: |\"/usr/bin/thing, x\" y", "file: /var/mail/a b", "list: :include:/etc/list of it", 'quoted: "john smith, x" y']
    table = files[0].parent / "with_programs"
    table.write_text("\n".join(programs + ['bob: \\bob, "|/usr/bin/vacation, \\" anna", carl dora']) + "\n")
    text = convert(files, "--files", tmp_path / "files")
    written = pathlib.Path(yaml.safe_load(text)["routes"][0]["recipients"]).read_text()
    assert written.splitlines() == ["bob@example.org: bob@example.org, carl@example.org, dora@example.org", "@example.org"]
    for line in range(1, 8):
        assert f"# line {line} has no counterpart here" in text
    table.write_text("\n".join(programs))  # none is left: they are told of all the same
    text = convert(files, "--files", tmp_path / "files")
    assert "recipients" not in yaml.safe_load(text)["routes"][0] and "# line 6 has no counterpart here: quoted" in text


def routes_of(text):
    """[(sender or recipients, via)]"""
    found = []
    for route in yaml.safe_load(text)["routes"]:
        match = route.get("match", {})
        found.append((match.get("recipient") or match.get("sender"), route["via"]))
    return found


MAILDIRS = "maildir:/var/mail/posthaste/%d/%u"


def test_null_transports_are_as_if_absent(etc, tmp_path):
    """transport(5): "my.domain :" keeps a domain out of what a broader entry says; without one it says nothing."""
    main = """
        myhostname = mx.my.domain
        mydestination = my.domain, localhost
        virtual_mailbox_domains = boxes.my.domain
        virtual_transport = lmtp:unix:/run/lmtp
        transport_maps = hash:/etc/postfix/with_null
        relayhost = [relay.example]
        """
    files = etc(main)
    table = files[0].parent / "with_null"
    table.write_text("my.domain :\n.my.domain :\nfar.example :\nlists.my.domain smtp:[lists.example]\nboss@far.example :\n"
                     "root@my.domain :\n.sub.example smtp:[sub.example]\nx.sub.example :\n* smtp:[out.example]\n")
    text = convert(files)
    assert routes_of(text) == [
        (["my.domain"], MAILDIRS), (["boxes.my.domain"], "lmtp:/run/lmtp"),
        ("far.example", "smtp://relay.example:25"), ("lists.my.domain", "smtp://lists.example:25"),
        ("x.sub.example", "smtp://relay.example:25"), ("*.sub.example", "smtp://sub.example:25"),
        ("*.my.domain", "smtp://relay.example:25"), ("*", "smtp://out.example:25")]
    assert "boss@far.example goes as if" in text and "root@my.domain goes as if" in text and "my.domain goes as if" in text
    table.write_text("my.domain :\nfar.example :\n* :\n")
    assert routes_of(convert(files)) == [(["my.domain", "localhost"], MAILDIRS), (["boxes.my.domain"], "lmtp:/run/lmtp"),
                                         (None, "smtp://relay.example:25")]
    files = etc(main.replace("relayhost = [relay.example]", "virtual_alias_maps = hash:/etc/postfix/virtual_of_mine"))
    (files[0].parent / "virtual_of_mine").write_text("anna@my.domain bob@far.example\n")
    table.write_text("my.domain :\n* smtp:[out.example]\n")
    text = convert(files, "--files", tmp_path / "files")
    route = yaml.safe_load(text)["routes"][-2]
    assert route["match"] == {"recipient": ["my.domain"]} and route["via"] == MAILDIRS
    assert "anna@my.domain: bob@far.example\n" in pathlib.Path(route["recipients"]).read_text()


def test_local_domains_by_default(etc):
    """Without mydestination mail for the host itself stays, as it did."""
    text = convert(etc("""
        myhostname = web.example.org
        relayhost = [relay.example]
        """))
    assert routes_of(text) == [(["web.example.org", "localhost.example.org", "localhost"], MAILDIRS), (None, "smtp://relay.example:25")]
    assert "main.cf has no mydestination: Postfix's default" in text


def test_local_domains_in_files_and_tables(etc, tmp_path):
    """Lists of domains name files, which may name more, and tables; what can't be read is told of."""
    files = etc("""
        myhostname = mx.example.org
        mydestination = $myhostname, /etc/postfix/local-domains, hash:/etc/postfix/more, pcre:/etc/postfix/p, !not.example
        virtual_mailbox_domains = /etc/postfix/absent
        virtual_alias_domains = /etc/postfix/alias-domains
        virtual_alias_maps = hash:/etc/postfix/virtual
        relayhost = [relay.example]
        """)
    for name, content in (("local-domains", "# ours\nexample.org, example.net\n  /etc/postfix/even-more\n"), ("even-more", "example.com"),
                          ("more", "Example.EDU OK\nx@y.example OK\n"), ("alias-domains", "alias.example"),
                          ("virtual", "info@alias.example anna@example.org\nroot anna@example.com\n")):
        (files[0].parent / name).write_text(content)
    text = convert(files, "--files", tmp_path / "files")
    own = ["mx.example.org", "example.org", "example.net", "example.com", "example.edu"]
    assert routes_of(text) == [(["alias.example"], "mx"), (own, MAILDIRS), (None, "smtp://relay.example:25")]
    table = pathlib.Path(yaml.safe_load(text)["routes"][1]["recipients"]).read_text().splitlines()
    assert {f"root@{domain}: anna@example.com" for domain in own} | {f"@{domain}" for domain in own} <= set(table)
    assert "@alias.example" not in table
    assert "add them to a route's match: pcre:/etc/postfix/p, !not.example\n" in text
    assert "add them to a route's match: /etc/postfix/absent\n" in text


@pytest.mark.parametrize("settings, nowhere", [
    ("default_transport = error\nrelay_transport = error\n", [None]),  # Debian's "Local only"
    ("default_transport = error:5.1.1 nobody\nrelayhost = [relay.example]\n", [None]),
    ("default_transport = uucp:there\n", [None]),
    ("relayhost = [relay.example]:99999\n", [None]),
    ("default_transport = relay\n", []),
    ("local_transport = error:not here\n", [["localhost"]]),
    ("relay_domains = a.example b.example\nrelay_transport = error:no more\n", [["a.example", "b.example"]]),
])
def test_what_went_nowhere_does_not_go_to_the_internet(settings, nowhere, etc):
    """The result is refused until somebody says where that mail shall go."""
    text = convert(etc("myhostname = web.example.org\nmydestination = localhost\n" + settings), code=65 if nowhere else 0)
    assert [match for match, via in routes_of(text) if via == "nowhere"] == nowhere


def test_long_lists(etc):
    """No line is cut."""
    names = [f"domain-{i}.example" for i in range(1500)]
    text = convert(etc("myhostname = mx.example.org\nmydestination = " + " ".join(names) + "\n"))
    assert routes_of(text) == [(names, MAILDIRS), (None, "mx")]


def test_empty_table(etc):
    """As alias_maps are of a host that has none."""
    files = etc("myhostname = mx.example.org\nmydestination = example.org\nalias_maps = hash:/etc/postfix/aliases\n")
    (files[0].parent / "aliases").write_text("")
    assert routes_of(convert(files)) == [(["example.org"], MAILDIRS), (None, "mx")]


def test_list_that_names_itself(etc):
    """What is in it is taken, and the import ends."""
    files = etc("""
        myhostname = mx.example.org
        mydestination = /etc/postfix/list
        mynetworks = /etc/postfix/networks
        """)
    for name, word in (("list", "example.org"), ("networks", "192.0.2.0/24")):
        (files[0].parent / name).write_text(f"{word}\n{files[0].parent}/{name} {files[0].parent}/{name}\n")
    text = convert(files)
    assert "192.0.2.0/24" in text and routes_of(text)[0][1] == MAILDIRS


def test_no_file_is_overwritten(etc, tmp_path):
    """--files where the aliases are that it reads; the same again is no fault."""
    files = etc("""
        myhostname = mx.example.org
        mydestination = example.org
        alias_maps = hash:/etc/postfix/aliases
        """)
    aliases = files[0].parent / "aliases"
    result = subprocess.run([BINARY, "import", "postfix", files[0], "--files", files[0].parent], capture_output=True, text=True, timeout=120)
    assert result.returncode == 75 and f"{aliases}: error: exists, with other content" in result.stderr
    assert aliases.read_text() == TABLES["aliases"]
    assert convert(files, "--files", tmp_path / "files") == convert(files, "--files", tmp_path / "files")


def test_secrets_stay_in_their_files(etc, tmp_path):
    """A password is never printed; with --files it is in a file of its own, the whole of it."""
    files = etc(CASES["smarthost_with_login"][0])
    text = convert(files, "--files", tmp_path / "files")
    assert "s3cret" not in text
    path = yaml.safe_load(text)["routes"][0]["password_file"]
    assert pathlib.Path(path).read_text() == "s3cret:with:colons\n"
    plain = convert(files)
    assert "s3cret" not in plain and "--files DIR does it" in plain
    convert(files, "--files", tmp_path / "absent", code=75)
    aliases = convert(etc(CASES["mail_host_with_dovecot"][0]), "--files", tmp_path / "files")
    table = pathlib.Path(yaml.safe_load(aliases)["routes"][0]["recipients"]).read_text()
    assert table == ("option subaddress +\ninfo@alias.example: anna@example.org, bob@mx.example.org\n"
                     "@catch.example: all@example.org\n@alias.example\n")


@pytest.mark.parametrize("name", CASES)
def test_j_postconf_reads_the_same(name, etc, start_peer, tmp_path):
    """The parameters and values that Postfix itself sees in these files; and what they expand to."""
    files = etc(*CASES[name][:2])
    peer = start_peer(Shell)
    target = peer.folder / "cf"
    target.mkdir()
    for file in files[0].parent.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    if not (target / "master.cf").read_text():
        (target / "master.cf").write_text(MASTER)
    said = peer.run("postconf", "-c", "/test/cf", "-n").stdout
    theirs = {}
    for line in said.splitlines():
        key, _, value = line.partition(" =")
        theirs[key] = " ".join(value.split())
    theirs.pop("config_directory", None)
    text = convert(files, "--files", tmp_path / "files")
    ours = {key: " ".join(value.split()) for key, value in settings(text).items()}
    for key, value in theirs.items():  # -n leaves out names that nothing knows; values are shown escaped, cut at 100 bytes
        assert key in ours, key
        assert ours[key].removesuffix("...") == value[:len(ours[key].removesuffix("..."))], key
    extra = set(ours) - set(theirs)
    assert extra <= {"my_own", "frobnicate", "slow_destination_concurrency_limit", "slow_destination_rate_delay"}, extra
    host = peer.run("postconf", "-c", "/test/cf", "-xh", "smtp_helo_name").stdout.strip()
    assert yaml.safe_load(text)["hostname"] == host


class Shell(peers.Peer):
    def __init__(self, folder):
        super().__init__(folder, ["sh", "-c", "touch /test/ready; exec sleep 600"])
        wait_until((self.folder / "ready").exists, 20, "the root")


def test_bad_input(etc, tmp_path):
    """Errors with file and line; bombs of names; a host without a name."""
    path = tmp_path / "main.cf"

    def refused(text, words, code=65):
        path.write_text(text)
        result = subprocess.run([BINARY, "import", "postfix", path], capture_output=True, text=True, timeout=120, errors="replace")
        assert result.returncode == code and words in result.stderr, result.stderr
        return result.stdout

    refused("myhostname = a.example\nnonsense\n", f"{path}:2: error: expected NAME = VALUE")
    refused("  \n = x\n", "expected NAME = VALUE")
    refused("a b = x\n", "expected NAME = VALUE")
    convert([tmp_path / "absent"], code=66)
    convert([tmp_path], code=75)
    convert([], code=64)
    (tmp_path / "master.cf").write_text("smtp inet n - y\n")
    path.write_text("myhostname = a.example\n")
    convert([path, tmp_path / "master.cf"], code=65)
    bomb = "myhostname = $a20\n" + "".join(f"a{n} = $a{n - 1}$a{n - 1}${{a{n - 1}?{{x}}:{{$a{n - 1}}}}}\n" for n in range(1, 21))
    path.write_text(bomb + "a0 = \nmyorigin = $myorigin\nmydomain = $myhostname\n")
    assert "hostname:" in convert([path])
    path.write_text("myhostname = bad_host name\nmydestination = " + "a" * 5000 + "\nrelayhost = [" + "h" * 400 + "]:99999\n")
    assert yaml.safe_load(convert([path], code=65))["hostname"] == "mail.example.org"
    path.write_bytes(b"myhostname = h.example\nsmtpd_banner = \xff\x1b[31m\nmynetworks = \x00\n")
    assert "\x1b" not in convert([path])
