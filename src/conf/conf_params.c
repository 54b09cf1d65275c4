// SPDX-License-Identifier: MIT
#include "conf/conf_params.h"

#include "base/check.h"
#include "conf/conf_value.h"

static const char *const role_words[] = {"submission", "bounces", NULL};
static const char *const tls_words[] = {"none", "starttls", "implicit", NULL};
static const char *const auth_words[] = {"required", "optional", "none", NULL};
static const char *const client_certificate_words[] = {"none", "ask", "login", NULL};
static const char *const dkim_words[] = {"txt", "cname", NULL};
static const char *const dkim_key_words[] = {"both", "rsa", "ed25519", NULL};
static const char *const submission_words[] = {"fix", "strict", "off", NULL};
static const char *const route_tls_words[] = {"may", "none", "verify", "encrypt", NULL};
static const char *const format_words[] = {"text", "json", NULL};
static const char *const level_words[] = {"error", "warn", "info", "debug", NULL};

#define SECOND 1000ull
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define MILLION 1000000ull

// Where the field is: in struct conf, or in an entry of a list.
#define AT(of, field) .offset = offsetof(struct of, field), .width = sizeof(((struct of *)0)->field)
#define LIST(of, field)                                                                            \
    .offset = offsetof(struct of, field), .width = sizeof(*((struct of *)0)->field),               \
    .count_offset = offsetof(struct of, field##_count)
#define ANY(of, field) .any_offset = offsetof(struct of, field)
#define RELOAD .reloadable = true
#define NOT_BOUNCES .not_bounces = true

// clang-format off
const struct conf_param conf_params[] = {
{"hostname", "this host's name, in greeting, EHLO, Received fields and reports", CONF_HOSTNAME, AT(conf, hostname), .shown_default = "its own full name, where it has one (`hostname -f`)", RELOAD},
{"spool", "folder of the journal: accepted messages", CONF_PATH, AT(conf, spool), .initial = "/var/spool/posthaste"},
{"state", "folder of the databases: accounts, credentials, domains, events", CONF_PATH, AT(conf, state), .initial = "/var/lib/posthaste"},
{"control", "Unix socket that the commands talk to", CONF_PATH, AT(conf, control), .shown_default = "STATE/control.sock"},
{"user", "the relay process becomes this user when started as root", CONF_NAME, AT(conf, user), .none = true, .shown_default = "none"},
{"workers", "threads that hold connections; 0: one per core", CONF_COUNT, AT(conf, workers), .min = 0, .max = 64, .initial = "0"},
{"shutdown_grace", "how long a stop waits for running transactions", CONF_DURATION, AT(conf, shutdown_grace_ms), .min = SECOND, .max = HOUR, .initial = "30s", RELOAD},

{"roles", "who may use the control socket, besides root and the user that the service runs as", CONF_MAP, RELOAD},
{"roles.operators", "members of this group may do all that root may there", CONF_NAME, AT(conf, roles.operators), .none = true, .shown_default = "none", RELOAD},
{"roles.readers", "members of this group may look at everything there and change nothing", CONF_NAME, AT(conf, roles.readers), .none = true, .shown_default = "none", RELOAD},

{"audit", "the log of who did what (`posthaste audit`)", CONF_MAP, RELOAD},
{"audit.keep", "entries older than this are removed", CONF_DURATION, AT(conf, audit.keep_ms), .min = DAY, .max = 36500 * DAY, .initial = "365d", RELOAD},

{"listeners", "where mail comes in", CONF_ENTRIES, LIST(conf, listeners), .shown_default = "with a certificate *:587 and *:465, else 127.0.0.1:587", RELOAD},
{"listeners[].name", "what routes and logs call it", CONF_NAME, AT(conf_listener, name), .required = true, RELOAD},
{"listeners[].address", "address and port; *:PORT is every address, port 0 lets the system choose", CONF_ENDPOINT, AT(conf_listener, address), ANY(conf_listener, any_family), .required = true, RELOAD},
{"listeners[].role", "submission takes mail from programs and people, bounces only what comes back about our mail", CONF_ENUM, AT(conf_listener, role), .words = role_words, .initial = "submission", RELOAD},
{"listeners[].tls", "none (trusted networks only), starttls, or implicit from the first byte", CONF_ENUM, AT(conf_listener, tls), .words = tls_words, .initial = "starttls", RELOAD},
{"listeners[].auth", "whether clients must log in; without a login only `trusted` ones may send", CONF_ENUM, AT(conf_listener, auth), .words = auth_words, .initial = "required", NOT_BOUNCES, RELOAD},
{"listeners[].trusted", "networks that may log in without TLS and, unless auth is required, send without a login", CONF_CIDRS, LIST(conf_listener, trusted), NOT_BOUNCES, RELOAD},
{"listeners[].account", "the account that clients without a login act as", CONF_NAME, AT(conf_listener, account), .none = true, .shown_default = "none", NOT_BOUNCES, RELOAD},
{"listeners[].submission", "repair messages (fix), refuse those that need it (strict), or leave them (off)", CONF_ENUM, AT(conf_listener, submission), .words = submission_words, .initial = "fix", NOT_BOUNCES, RELOAD},
{"listeners[].hide_client", "leave the client's address out of the Received field", CONF_BOOL, AT(conf_listener, hide_client), .initial = "no", RELOAD},
{"listeners[].proxy", "networks of proxies that tell each client's address by the PROXY protocol, version 1 or 2; nobody else may connect then", CONF_CIDRS, LIST(conf_listener, proxy), RELOAD},
{"listeners[].xclient", "networks of proxies that may tell by XCLIENT who the client is that they speak for", CONF_CIDRS, LIST(conf_listener, xclient), RELOAD},
{"listeners[].xclient_login", "believe the login that XCLIENT tells: the client has that login's rights, without a password", CONF_BOOL, AT(conf_listener, xclient_login), .initial = "no", NOT_BOUNCES, RELOAD},
{"listeners[].client_certificates", "ask TLS clients for a certificate: ask: a known one can log in (AUTH EXTERNAL); login: it needs no AUTH", CONF_ENUM, AT(conf_listener, client_certificates), .words = client_certificate_words, .initial = "none", NOT_BOUNCES, RELOAD},

{"tls", "certificate of the listeners, and whom to believe", CONF_MAP},
{"tls.certificate", "PEM file: our certificate, then its chain; read again when it changes", CONF_PATH, AT(conf, tls.certificate), RELOAD},
{"tls.key", "PEM file: the certificate's private key", CONF_PATH, AT(conf, tls.key), RELOAD},
{"tls.authorities", "PEM file: authorities to believe when a route verifies", CONF_PATH, AT(conf, tls.authorities), .shown_default = "the system's", RELOAD},
{"tls.client_authorities", "PEM file: authorities to believe about names in clients' certificates; those known by fingerprint need none", CONF_PATH, AT(conf, tls.client_authorities), .shown_default = "none", RELOAD},
{"tls.self_signed", "make a certificate of our own; for trials only", CONF_BOOL, AT(conf, tls.self_signed), .initial = "no", RELOAD},

{"dkim", "signatures on mail, and the keys that make them", CONF_MAP, RELOAD},
{"dkim.master_key", "file of the key that DKIM's private keys are encrypted with; made at the first start, readable to its owner only. Keep a copy apart from the backups: without it all DKIM keys are lost", CONF_PATH, AT(conf, dkim.master_key), .shown_default = "STATE.key"},
{"dkim.keys", "which keys a domain gets: RSA-2048, Ed25519, or both, then each mail has two signatures", CONF_ENUM, AT(conf, dkim.keys), .words = dkim_key_words, .initial = "both", RELOAD},
{"dkim.rotate_after", "a new key follows one that has signed for so long; it signs once it is seen in the DNS", CONF_DURATION, AT(conf, dkim.rotate_after_ms), .min = SECOND, .max = 3650 * DAY, .none = true, .initial = "180d", RELOAD},
{"dkim.grace", "how long a key stays published after the last mail that it signed", CONF_DURATION, AT(conf, dkim.grace_ms), .min = SECOND, .max = 365 * DAY, .initial = "7d", RELOAD},
{"dkim.check_every", "how often the DNS is asked whether new keys are published", CONF_DURATION, AT(conf, dkim.check_every_ms), .min = SECOND, .max = DAY, .initial = "10m", RELOAD},
{"dkim.service_domain", "domain of ours that signs all mail, too", CONF_HOSTNAME, AT(conf, dkim.service_domain), .none = true, .shown_default = "none", RELOAD},

{"dns", "how names are resolved", CONF_MAP},
{"dns.servers", "resolvers to ask, as IP@PORT; none: resolve from the root ourselves", CONF_SERVERS, LIST(conf, dns.servers), .shown_default = "[]"},
{"dns.trust_anchor", "file with the DNSSEC trust anchor, or none: no validation", CONF_PATH, AT(conf, dns.trust_anchor), .none = true, .initial = "none"},
{"dns.loopback", "mail may go to MX hosts at loopback addresses (127.0.0.0/8, ::1); for trials only", CONF_BOOL, AT(conf, dns.loopback), .initial = "no", RELOAD},

{"routes", "where mail goes; the first that matches holds, at the end stands {via: mx}", CONF_ENTRIES, LIST(conf, routes), .shown_default = "{via: mx}", RELOAD},
{"routes[].match", "what mail it is for; all that is named must match", CONF_MAP, RELOAD},
{"routes[].match.recipient", "recipient addresses or domains", CONF_PATTERNS, AT(conf_route, match.recipient), .shown_default = "any", RELOAD},
{"routes[].match.sender", "reverse-path addresses or domains", CONF_PATTERNS, AT(conf_route, match.sender), .shown_default = "any", RELOAD},
{"routes[].match.account", "accounts", CONF_NAMES, AT(conf_route, match.account), .shown_default = "any", RELOAD},
{"routes[].match.listener", "listeners it came in by", CONF_NAMES, AT(conf_route, match.listener), .shown_default = "any", RELOAD},
{"routes[].via", "how it is delivered", CONF_VIA, AT(conf_route, via), .required = true, RELOAD},
{"routes[].tls", "TLS with the next host: may (where it is offered and does not keep failing; with a login and via smtps:// it is required), none, encrypt (required), verify (required, its name proven)", CONF_ENUM, AT(conf_route, tls), .words = route_tls_words, .initial = "may", RELOAD},
{"routes[].recipients", "file: the recipients that exist in these domains, with aliases", CONF_PATH, AT(conf_route, recipients), RELOAD},
{"routes[].login", "login at the next host", CONF_TEXT, AT(conf_route, login), .min = 1, .max = 255, RELOAD},
{"routes[].password_file", "file whose first line is the password for `login`", CONF_PATH, AT(conf_route, password_file), RELOAD},

{"lanes", "how fast a site is served; the first that matches holds", CONF_ENTRIES, LIST(conf, lanes), .shown_default = "{match: \"*\"}", RELOAD},
{"lanes[].match", "domains of recipients, or names of their mail hosts", CONF_PATTERNS, AT(conf_lane, match), .initial = "*", RELOAD},
{"lanes[].connections", "connections at once", CONF_COUNT, AT(conf_lane, connections), .min = 1, .max = 1000, .initial = "20", RELOAD},
{"lanes[].messages_per_second", "messages started per second", CONF_DECIMAL, AT(conf_lane, messages_per_second_milli), .min = 1, .max = MILLION * 1000, .none = true, .initial = "none", RELOAD},
{"lanes[].messages_per_hour", "messages started in any hour", CONF_COUNT, AT(conf_lane, messages_per_hour), .min = 1, .max = 1000 * MILLION, .none = true, .initial = "none", RELOAD},
{"lanes[].messages_per_day", "messages started in any day", CONF_COUNT, AT(conf_lane, messages_per_day), .min = 1, .max = 1000 * MILLION, .none = true, .initial = "none", RELOAD},
{"lanes[].bytes_per_second", "bytes sent per second", CONF_SIZE, AT(conf_lane, bytes_per_second), .min = KIB, .max = 100 * GIB, .none = true, .initial = "none", RELOAD},
{"lanes[].messages_per_connection", "messages before a connection is closed", CONF_COUNT, AT(conf_lane, messages_per_connection), .min = 1, .max = MILLION, .initial = "100", RELOAD},
{"lanes[].recipients_per_transaction", "recipients of one message in one transaction", CONF_COUNT, AT(conf_lane, recipients_per_transaction), .min = 1, .max = 1000, .initial = "100", RELOAD},

{"sendmail", "mail from programs of this host: sendmail(1) and the pickup directory", CONF_MAP, RELOAD},
{"sendmail.socket", "Unix socket that sendmail(1) hands mail to; who connects is known by user id", CONF_PATH, AT(conf, sendmail.socket), .none = true, .shown_default = "none", RELOAD},
{"sendmail.pickup", "folder whose files are sent: programs move them in; sendmail(1) does while the service is down. Mode 3733 lets all users drop and nobody look", CONF_PATH, AT(conf, sendmail.pickup), .none = true, .shown_default = "none"},
{"sendmail.accounts", "as which account users of this host send; the first that matches holds, who is not named may not", CONF_ENTRIES, LIST(conf, sendmail.accounts), .shown_default = "[]", RELOAD},
{"sendmail.accounts[].user", "user name, user id, or * for everybody", CONF_TEXT, AT(conf_user, user), .min = 1, .max = 64, .required = true, RELOAD},
{"sendmail.accounts[].account", "the account", CONF_NAME, AT(conf_user, account), .required = true, RELOAD},

{"retry", "when a delivery that failed for now is tried again", CONF_MAP, RELOAD},
{"retry.first", "pause after the first failure", CONF_DURATION, AT(conf, retry.first_ms), .min = SECOND, .max = DAY, .initial = "5m", RELOAD},
{"retry.factor", "each pause is this much longer than the last", CONF_DECIMAL, AT(conf, retry.factor_milli), .min = 1000, .max = 10000, .initial = "2", RELOAD},
{"retry.max", "the longest pause", CONF_DURATION, AT(conf, retry.max_ms), .min = SECOND, .max = 7 * DAY, .initial = "4h", RELOAD},
{"retry.lifetime", "after this the message fails; fixed when it is accepted", CONF_DURATION, AT(conf, retry.lifetime_ms), .min = SECOND, .max = 30 * DAY, .initial = "5d", RELOAD},
{"retry.warn_after", "its sender hears of the delay after this", CONF_DURATION, AT(conf, retry.warn_after_ms), .min = SECOND, .max = 30 * DAY, .none = true, .initial = "4h", RELOAD},

{"limits", "what is too much", CONF_MAP, RELOAD},
{"limits.message_size", "bytes of one message", CONF_SIZE, AT(conf, limits.message_size), .min = 64 * KIB, .max = 2 * GIB, .initial = "50MiB", RELOAD},
{"limits.header_size", "bytes of a message's header", CONF_SIZE, AT(conf, limits.header_size), .min = 16 * KIB, .max = MIB, .initial = "256KiB", RELOAD},
{"limits.recipients", "recipients of one message", CONF_COUNT, AT(conf, limits.recipients), .min = 100, .max = 50000, .initial = "1000", RELOAD},
{"limits.session_messages", "messages over one connection of a client (MAIL commands), told as MAILMAX", CONF_COUNT, AT(conf, limits.session_messages), .min = 1, .max = 999999, .none = true, .initial = "none", RELOAD},
{"limits.spool_segment", "size of the journal's files; a message's envelope, header and short body must fit in half of one", CONF_SIZE, AT(conf, limits.spool_segment), .min = 4 * MIB, .max = GIB, .none = true, .initial = "none", .shown_default = "64MiB, less on a small disk"},
{"limits.memory", "memory that the relay may take; beyond it new mail is refused with 452 until enough is given back", CONF_SIZE, AT(conf, limits.memory), .min = 64 * MIB, .max = 1024 * 1024 * GIB, .none = true, .initial = "none", .shown_default = "nine tenths of what the machine, or its control group, has", RELOAD},
{"limits.trace_memory", "memory for the dialogues of last attempts (message trace); the oldest are forgotten", CONF_SIZE, AT(conf, limits.trace_memory), .min = MIB, .max = 4 * GIB, .initial = "32MiB"},
{"limits.received", "Received fields before a message is a loop", CONF_COUNT, AT(conf, limits.received), .min = 10, .max = 1000, .initial = "50", RELOAD},
{"limits.sessions", "clients connected at once", CONF_COUNT, AT(conf, limits.sessions), .min = 1, .max = MILLION, .initial = "10000", RELOAD},
{"limits.sessions_per_address", "clients connected at once from one address (IPv6: /64)", CONF_COUNT, AT(conf, limits.sessions_per_address), .min = 1, .max = MILLION, .initial = "100", RELOAD},
{"limits.connections", "outgoing connections at once, all lanes together", CONF_COUNT, AT(conf, limits.connections), .min = 1, .max = 100000, .initial = "1000", RELOAD},
{"limits.command_timeout", "how long a client may be silent, or not take its replies", CONF_DURATION, AT(conf, limits.command_timeout_ms), .min = SECOND, .max = HOUR, .initial = "5m", RELOAD},
{"limits.deliver_by", "the least time that a message may ask to be delivered in or returned (DELIVERBY)", CONF_DURATION, AT(conf, limits.deliver_by_ms), .min = SECOND, .max = DAY, .initial = "10s", RELOAD},
{"limits.auth_failures", "failed logins from an address (IPv6: /64) before it is blocked", CONF_COUNT, AT(conf, limits.auth_failures), .min = 1, .max = 1000, .initial = "10", RELOAD},
{"limits.auth_window", "the time in which failed logins are counted", CONF_DURATION, AT(conf, limits.auth_window_ms), .min = SECOND, .max = DAY, .initial = "10m", RELOAD},
{"limits.auth_block", "how long a blocked address must wait", CONF_DURATION, AT(conf, limits.auth_block_ms), .min = SECOND, .max = DAY, .initial = "15m", RELOAD},

{"domains", "what sender domains are to publish; `domain add` prints it, `domain check` looks for it", CONF_MAP, RELOAD},
{"domains.spf_include", "name whose SPF record lists our addresses, for `include:`", CONF_HOSTNAME, AT(conf, domains.spf_include), .none = true, .shown_default = "none: the addresses themselves are printed", RELOAD},
{"domains.bounce_host", "host that takes bounces, which each domain's `bounces` CNAME points to", CONF_HOSTNAME, AT(conf, domains.bounce_host), .none = true, .shown_default = "none: no return paths", RELOAD},
{"domains.dkim", "how DKIM keys are published: txt in the domain, or cname to our own zone, so that new keys need nothing of the domain's owner", CONF_ENUM, AT(conf, domains.dkim), .words = dkim_words, .initial = "txt", RELOAD},
{"domains.dkim_zone", "our zone that the CNAMEs of `dkim: cname` point into", CONF_HOSTNAME, AT(conf, domains.dkim_zone), .shown_default = "dkim.HOSTNAME", RELOAD},
{"domains.dmarc_reports", "mail address that the proposed DMARC record asks reports for", CONF_MAILBOX, AT(conf, domains.dmarc_reports), .none = true, .shown_default = "none", RELOAD},
{"domains.addresses", "addresses that mail leaves from, as receivers see them", CONF_IPS, LIST(conf, domains.addresses), .shown_default = "those of `hostname` in the DNS", RELOAD},

{"bounce", "what refusals mean, and what comes back", CONF_MAP, RELOAD},
{"bounce.rules", "file: rules that come before the built-in ones (docs/BOUNCES.md)", CONF_PATH, AT(conf, bounce.rules), .none = true, .shown_default = "none", RELOAD},
{"bounce.domain", "domain of return paths, where none of the sender's own is known to lead here; its mail must come to a listener with role: bounces", CONF_HOSTNAME, AT(conf, bounce.domain), .none = true, .shown_default = "none: MAIL FROM stays as it is", RELOAD},
{"bounce.complaints", "addresses that mailbox providers send complaints to (feedback loops)", CONF_PATTERNS, AT(conf, bounce.complaints), .shown_default = "[]", RELOAD},
{"bounce.message_size", "bytes of one report", CONF_SIZE, AT(conf, bounce.message_size), .min = 64 * KIB, .max = GIB, .initial = "25MiB", RELOAD},
{"bounce.rate", "reports a minute from one address (IPv6: /64)", CONF_COUNT, AT(conf, bounce.rate), .min = 1, .max = MILLION, .initial = "600", RELOAD},
{"bounce.cfbl", "ask for complaints in bulk mail: CFBL-Address (RFC 9477)", CONF_BOOL, AT(conf, bounce.cfbl), .initial = "no", RELOAD},

{"unsubscribe", "links in bulk mail by which its readers take themselves off, for accounts that ask for it", CONF_MAP, RELOAD},
{"unsubscribe.url", "where the links lead: this, then a token; https, answered by unsubscribe.address behind a web server that has the certificate", CONF_TEXT, AT(conf, unsubscribe.url), .min = 1, .max = 300, .none = true, .shown_default = "none: no links are made", RELOAD},
{"unsubscribe.address", "address and port that answers the links, in plain HTTP; all paths that end in a token", CONF_ENDPOINT, AT(conf, unsubscribe.address), ANY(conf, unsubscribe.any_family), .none = true, .shown_default = "none"},

{"events", "the history of deliveries", CONF_MAP},
{"events.keep", "day files older than this are deleted", CONF_DURATION, AT(conf, events.keep_ms), .min = DAY, .max = 3650 * DAY, .initial = "30d"},
{"events.size", "bytes of all day files; where there are more, the oldest are deleted, but never the last", CONF_SIZE, AT(conf, events.size_bytes), .min = 64 * MIB, .max = 1024 * 1024 * GIB, .none = true, .initial = "none"},

{"suppress", "the suppression list: addresses that no mail may go to", CONF_MAP, RELOAD},
{"suppress.hard_bounces", "an address that a server refuses for good, or that bounces so, is suppressed for the account", CONF_BOOL, AT(conf, suppress.hard_bounces), .initial = "yes", RELOAD},
{"suppress.bounce_keep", "for how long", CONF_DURATION, AT(conf, suppress.bounce_keep_ms), .min = SECOND, .max = 3650 * DAY, .none = true, .initial = "90d", RELOAD},

{"http", "metrics and health", CONF_MAP},
{"http.address", "address and port", CONF_ENDPOINT, AT(conf, http.address), ANY(conf, http.any_family), .none = true, .initial = "127.0.0.1:8025"},

{"alerts", "what goes wrong while the service runs is logged, is a metric, and told to a command", CONF_MAP, RELOAD},
{"alerts.command", "shell command that is told of each alert, raised and over: one line of JSON on its standard input; run as `user`, for at most 30 s", CONF_TEXT, AT(conf, alerts.command), .min = 1, .max = 1000, .none = true, .secret = true, .shown_default = "none", RELOAD},
{"alerts.look_every", "how often is looked", CONF_DURATION, AT(conf, alerts.look_every_ms), .min = SECOND, .max = HOUR, .initial = "10s", RELOAD},
{"alerts.certificate", "the certificate is to last longer than this", CONF_DURATION, AT(conf, alerts.certificate_ms), .min = SECOND, .max = 365 * DAY, .initial = "7d", RELOAD},
{"alerts.stuck_after", "a lane with mail that no connection could be made for, for so long", CONF_DURATION, AT(conf, alerts.stuck_ms), .min = SECOND, .max = 7 * DAY, .initial = "1h", RELOAD},

{"log", "one line an event on standard error", CONF_MAP, RELOAD},
{"log.format", "text or json", CONF_ENUM, AT(conf, log.format), .words = format_words, .initial = "text", RELOAD},
{"log.level", "error, warn, info or debug", CONF_ENUM, AT(conf, log.level), .words = level_words, .initial = "info", RELOAD},
};
// clang-format on
const uint32_t conf_params_count = COUNT_OF(conf_params);

_Static_assert(sizeof(enum conf_tls) == 4 && sizeof(enum log_level) == 4,
               "enums are stored as int");

const struct conf_param *conf_param_find(struct bytes name)
{
    for (uint32_t i = 0; i < conf_params_count; i++)
        if (bytes_eq(bytes_cstr(conf_params[i].name), name))
            return &conf_params[i];
    return NULL;
}

bool conf_param_is_child(const struct conf_param *param, struct bytes section)
{
    struct bytes name = bytes_cstr(param->name);
    return bytes_starts(name, section) && bytes_find(bytes_skip(name, section.len), '.') < 0;
}

struct bytes conf_param_key(const struct conf_param *param)
{
    struct bytes name = bytes_cstr(param->name);
    ptrdiff_t dot = bytes_find_last(name, '.');
    return dot < 0 ? name : bytes_skip(name, (size_t)dot + 1);
}

// ---- what a row accepts ------------------------------------------------------------------------------

static void describe_number(const struct conf_param *param, const char *what,
                            void (*format)(uint64_t, struct buf *), struct buf *out)
{
    buf_printf(out, "%s from ", what);
    format(param->min, out);
    buf_add_cstr(out, " to ");
    format(param->max, out);
}

static void format_count(uint64_t value, struct buf *out)
{
    buf_add_u64(out, value);
}

static void format_duration(uint64_t value, struct buf *out)
{
    conf_format_duration((int64_t)value, out);
}

static void describe_words(const struct conf_param *param, struct buf *out)
{
    for (uint32_t i = 0; param->words[i]; i++)
        buf_printf(out, "%s%s", i == 0 ? "" : param->words[i + 1] ? ", " : " or ", param->words[i]);
}

static const char *describe_fixed(enum conf_type type)
{
    switch (type) {
    case CONF_MAP:
        return "a section of keys";
    case CONF_ENTRIES:
        return "a list of sections, each starting with '- '";
    case CONF_BOOL:
        return "yes or no";
    case CONF_NAME:
        return "a name of letters, digits, '.', '_' and '-', at most 64";
    case CONF_HOSTNAME:
        return "a host name in ASCII, such as mail.example.org (xn-- for others)";
    case CONF_PATH:
        return "a path, at most 4095 bytes";
    case CONF_ENDPOINT:
        return "an address with port, such as 192.0.2.1:587, [2001:db8::1]:587 or *:587";
    case CONF_VIA:
        return "mx, mx:PORT, smtp://HOST:PORT, smtps://HOST:PORT, lmtp:HOST:PORT, lmtp:/path, "
               "maildir:/path/%d/%u or discard";
    case CONF_CIDRS:
        return "a list of networks, such as [192.0.2.0/24, \"2001:db8::/32\"]";
    case CONF_MAILBOX:
        return "a mail address, such as dmarc@example.org";
    case CONF_IPS:
        return "a list of addresses, such as [192.0.2.1, \"2001:db8::1\"]";
    case CONF_SERVERS:
        return "a list of resolvers, such as [192.0.2.53, \"127.0.0.1@5301\"]";
    case CONF_PATTERNS:
        return "one or a list of *, example.org, \"*.example.org\" or user@example.org";
    case CONF_NAMES:
        return "one name or a list of names, or *";
    default:
        CHECK(!"a type without a description");
        return "";
    }
}

void conf_param_describe(const struct conf_param *param, struct buf *out)
{
    switch (param->type) {
    case CONF_DURATION:
        describe_number(param, "a duration", format_duration, out);
        buf_add_cstr(out, ", such as 10s, 1h30m or 5d");
        break;
    case CONF_SIZE:
        describe_number(param, "a size", conf_format_size, out);
        buf_add_cstr(out, ", such as 25MiB or 200MB");
        break;
    case CONF_COUNT:
        describe_number(param, "a whole number", format_count, out);
        break;
    case CONF_DECIMAL:
        describe_number(param, "a number", conf_format_decimal, out);
        break;
    case CONF_ENUM:
        describe_words(param, out);
        break;
    case CONF_TEXT:
        buf_printf(out, "text without control characters, %llu to %llu bytes",
                   (unsigned long long)param->min, (unsigned long long)param->max);
        break;
    default:
        buf_add_cstr(out, describe_fixed(param->type));
    }
    if (param->none)
        buf_add_cstr(out, ", or none");
}

// ---- the nearest key ---------------------------------------------------------------------------------

#define KEY_MAX 40 // longer ones are near to nothing

static uint32_t min3(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t least = a < b ? a : b;
    return least < c ? least : c;
}

// Insertions, deletions, replacements and swaps of neighbours that turn a into b (optimal string
// alignment).
static uint32_t edit_distance(struct bytes a, struct bytes b)
{
    uint32_t d[KEY_MAX + 1][KEY_MAX + 1];
    for (uint32_t i = 0; i <= a.len; i++)
        d[i][0] = i;
    for (uint32_t j = 0; j <= b.len; j++)
        d[0][j] = j;
    for (uint32_t i = 1; i <= a.len; i++) {
        for (uint32_t j = 1; j <= b.len; j++) {
            char x = ascii_lower(a.at[i - 1]), y = ascii_lower(b.at[j - 1]);
            x = x == '-' ? '_' : x;
            d[i][j] = min3(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (x != y));
            if (i > 1 && j > 1 && x == ascii_lower(b.at[j - 2]) && y == ascii_lower(a.at[i - 2]) &&
                d[i - 2][j - 2] + 1 < d[i][j])
                d[i][j] = d[i - 2][j - 2] + 1;
        }
    }
    return d[a.len][b.len];
}

struct bytes conf_param_nearest(struct bytes section, struct bytes key)
{
    if (key.len > KEY_MAX)
        return BYTES_NONE;
    struct bytes nearest = BYTES_NONE;
    uint32_t least = 1 + (uint32_t)(key.len < 4 ? 1 : key.len < 8 ? 2 : 3);
    for (uint32_t i = 0; i < conf_params_count; i++) {
        struct bytes candidate = conf_param_key(&conf_params[i]);
        if (!conf_param_is_child(&conf_params[i], section) || candidate.len > KEY_MAX)
            continue;
        uint32_t distance = edit_distance(key, candidate);
        if (distance < least) {
            least = distance;
            nearest = candidate;
        }
    }
    if (nearest.len)
        return nearest;
    for (uint32_t i = 0; i < conf_params_count; i++) // it may have gone astray from another section
        if (bytes_eq(conf_param_key(&conf_params[i]), key))
            return bytes_cstr(conf_params[i].name);
    return BYTES_NONE;
}
