// SPDX-License-Identifier: MIT
//
// conf - the configuration: one immutable value, read from a YAML file checked against
// conf_params.c
//
// Everything here has been checked: ranges hold, enums are valid, names are unique, `via` is
// parsed, relative paths are made absolute against the file's folder, and each list that decides
// something ends in a catch-all. Whoever reads it need not check again. docs/INTERFACE.md has the
// keys' meaning.
//
// Owner:    a struct conf owns all it points to; conf_free() frees it. Slices are NUL-terminated
// behind
//           their end, so `.at` may go to libc; "not set" is len == 0.
// Thread:   any, once loaded: nobody writes to it.
// Limits:   CONF_FILE_MAX bytes, CONF_ITEMS_MAX entries in one list, CONF_ERRORS_MAX errors shown.
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "conf/conf_host.h"

#define CONF_FILE_MAX ((size_t)4 << 20)
#define CONF_ITEMS_MAX 10000
#define CONF_ERRORS_MAX 50
#define CONF_FACTOR_ONE 1000 // decimals (retry.factor, rates) are kept in thousandths

// An address prefix: 192.0.2.0/24, 2001:db8::/32.
struct conf_cidr {
    bool ip6;
    uint8_t bits;
    uint8_t ip[16]; // 4 or 16 bytes, network order; bits behind the prefix are zero
};

enum conf_tls { CONF_TLS_NONE, CONF_TLS_STARTTLS, CONF_TLS_IMPLICIT };
enum conf_auth { CONF_AUTH_REQUIRED, CONF_AUTH_OPTIONAL, CONF_AUTH_NONE };
enum conf_dkim { CONF_DKIM_TXT, CONF_DKIM_CNAME };
enum conf_dkim_keys { CONF_DKIM_BOTH, CONF_DKIM_RSA, CONF_DKIM_ED25519 };
enum conf_role { CONF_ROLE_SUBMISSION, CONF_ROLE_BOUNCES };
enum conf_client_certificates {
    CONF_CLIENT_CERTIFICATES_NONE,
    CONF_CLIENT_CERTIFICATES_ASK,
    CONF_CLIENT_CERTIFICATES_LOGIN
};
enum conf_submission { CONF_SUBMISSION_FIX, CONF_SUBMISSION_STRICT, CONF_SUBMISSION_OFF };

struct conf_listener {
    struct bytes name;
    struct bytes
        address; // "192.0.2.1:587" or "[::]:587"; sys_addr_parse() reads it; port 0: the kernel's
    bool any_family; // written "*:PORT": both families; IPv4 alone where there is no IPv6
    uint16_t port;
    enum conf_role
        role; // BOUNCES: no logins; only reports about our mail, to whoever holds a token
    enum conf_tls tls;
    enum conf_auth auth;
    // Clients that may use AUTH without TLS and, unless auth is required, relay without a login.
    struct conf_cidr *trusted;
    uint32_t trusted_count;
    struct bytes account; // the account that clients without a login act as; not set: none
    enum conf_submission submission;
    bool hide_client; // leave the client's address out of Received
    // Proxies that tell each client's address by a PROXY header; set: nobody else may connect.
    struct conf_cidr *proxy;
    uint32_t proxy_count;
    // Who may say, by XCLIENT, who the client is that it speaks for; and as what that has logged in.
    struct conf_cidr *xclient;
    uint32_t xclient_count;
    bool xclient_login;
    enum conf_client_certificates client_certificates;
    bool is_local; // the Unix socket of sendmail(1): its clients are who the kernel says
};

// Whose mail is which account's, at the Unix socket and in the pickup directory. The first entry that matches holds.
struct conf_user {
    struct bytes user; // a name, a number, or "*"
    struct bytes account;
    bool is_any;
    // What the name stands for on this host; not known: nobody. Set by who may ask (daemon/guard_users.h), before
    // anybody reads it.
    bool has_uid;
    uint32_t uid;
};
#define CONF_LOCAL_LISTENER "sendmail" // what routes and logs call the Unix socket

enum conf_via_kind {
    CONF_VIA_MX,        // mx, mx:PORT
    CONF_VIA_SMTP,      // smtp://HOST:PORT
    CONF_VIA_SMTPS,     // smtps://HOST:PORT, TLS from the first byte (RFC 8314 section 3.3)
    CONF_VIA_LMTP,      // lmtp:HOST:PORT
    CONF_VIA_LMTP_UNIX, // lmtp:/path
    CONF_VIA_MAILDIR,   // maildir:/path/%d/%u
    CONF_VIA_DISCARD,
};
struct conf_via {
    enum conf_via_kind kind;
    struct bytes text; // as written
    struct bytes host; // SMTP, SMTPS, LMTP: lower-case name, or address without []
    uint16_t port;     // MX, SMTP, SMTPS, LMTP
    struct bytes path; // LMTP_UNIX, MAILDIR (with %d, %u and %% as written)
};

// Unverified TLS if offered; never; certificate must match the name; TLS required, unverified. Via
// SMTPS there is always TLS: MAY is ENCRYPT, and NONE an error.
enum conf_route_tls {
    CONF_ROUTE_TLS_MAY,
    CONF_ROUTE_TLS_NONE,
    CONF_ROUTE_TLS_VERIFY,
    CONF_ROUTE_TLS_ENCRYPT
};

// Patterns: "*", "example.org", "*.example.org" (subdomains only), "user@example.org"; lower case,
// domains as A-labels wherever they were ASCII. count == 0: not asked, matches all.
struct conf_patterns {
    struct bytes *at;
    uint32_t count;
};

struct conf_route {
    struct {
        struct conf_patterns recipient, sender, account, listener;
    } match; // all that are set must match; one pattern of each suffices
    struct conf_via via;
    enum conf_route_tls tls;
    struct bytes recipients;    // file: the recipient table of a local domain
    struct bytes login;         // AUTH to a smarthost
    struct bytes password_file; // its first line is the password
};

// Limits of a lane; 0: no limit. The first entry that matches holds.
struct conf_lane {
    struct conf_patterns match; // of the site's MX hosts and the recipient's domain
    uint32_t connections;
    uint64_t messages_per_second_milli; // thousandths of a message per second
    uint64_t messages_per_hour, messages_per_day;
    uint64_t bytes_per_second;
    uint32_t messages_per_connection;
    uint32_t recipients_per_transaction;
};

struct conf_node;
struct conf {
    struct arena arena;
    struct bytes file;             // where it was read from; "default" for the embedded one
    struct bytes source;           // its text
    const struct conf_node *given; // the file's own tree (conf_yaml.h), for conf_show.h

    struct bytes hostname; // our name in greeting, EHLO, Received, DSNs; lower case
    struct bytes spool, state;
    struct bytes control; // Unix socket of the control interface; default: STATE/control.sock
    struct {
        struct bytes operators, readers; // groups that may act, and read, there; not set: none
    } roles;
    struct {
        int64_t keep_ms; // rows older than this are removed
    } audit;
    struct bytes user; // the relay process becomes this user when started as root; not set: stays
    uint32_t workers;  // 0: one per core
    int64_t shutdown_grace_ms;

    struct conf_listener *listeners;
    uint32_t listeners_count;
    struct {
        struct bytes certificate, key, authorities; // PEM files; authorities not set: the system's
        struct bytes client_authorities;            // PEM file; not set: no names are believed
        bool self_signed;                           // make a certificate at start; for trials only
    } tls;
    struct {
        struct bytes master_key; // file; default: STATE.key
        enum conf_dkim_keys keys;
        int64_t rotate_after_ms; // 0: never by itself
        int64_t grace_ms, check_every_ms;
        struct bytes service_domain; // signs all mail, too; not set: none
    } dkim;
    struct {
        struct bytes *servers; // "IP@PORT"; none: resolve from the root ourselves
        uint32_t servers_count;
        struct bytes trust_anchor; // file; not set: no validation
        bool loopback;             // may MX hosts be there?
    } dns;
    struct conf_route *routes; // the last one matches everything
    uint32_t routes_count;
    struct conf_lane *lanes; // the last one matches everything
    uint32_t lanes_count;
    struct {
        struct bytes socket; // Unix socket that sendmail(1) hands mail to; not set: none
        struct bytes pickup; // folder whose files are sent; not set: none
        struct conf_user *accounts;
        uint32_t accounts_count;
        struct conf_listener listener; // the socket as one
    } sendmail;
    struct {
        int64_t first_ms, max_ms, lifetime_ms;
        int64_t warn_after_ms; // 0: no delayed-DSNs
        uint32_t factor_milli; // CONF_FACTOR_ONE is 1.0
    } retry;
    struct {
        uint64_t message_size, header_size;
        uint64_t spool_segment;    // 0: by the size of the disk
        uint64_t memory;           // of the relay; 0: by what there is
        uint64_t trace_memory;     // for the dialogues of last attempts
        uint32_t recipients;       // of one message
        uint32_t session_messages; // MAIL commands of one client's connection; 0: any number
        uint32_t received;         // Received fields before a message is a loop
        uint32_t sessions, sessions_per_address;
        uint32_t connections; // outgoing, all lanes together
        int64_t command_timeout_ms;
        int64_t
            deliver_by_ms; // the least time that mail may be given to be delivered in or returned
        uint32_t auth_failures; // of one address (IPv6: /64) within auth_window before auth_block
        int64_t auth_window_ms, auth_block_ms;
    } limits;
    // What the domains of our customers are to publish, and what is checked there.
    struct {
        struct bytes spf_include;    // name whose SPF record has our sources; not set: none
        struct bytes bounce_host;    // what return-path CNAMEs point to; not set: none
        enum conf_dkim dkim;         // keys as TXT records, or as CNAMEs to dkim_zone
        struct bytes dkim_zone;      // set with CONF_DKIM_CNAME
        struct bytes dmarc_reports;  // mail address for aggregate reports; not set: none
        struct conf_cidr *addresses; // single addresses that mail leaves from, as receivers see it
        uint32_t addresses_count;    // 0: those that `hostname` has in the DNS
    } domains;
    struct {
        struct bytes rules; // file: classes of replies, before the built-in ones; not set: none
        struct bytes
            domain; // of return paths, where no domain of the sender's is known; not set: none
        struct conf_patterns complaints; // addresses that providers send complaints to
        uint64_t message_size;           // bytes of one report
        uint32_t rate;                   // reports a minute from one address
        bool cfbl;                       // ask for complaints in each bulk message (RFC 9477)
    } bounce;
    struct {
        struct bytes
            url; // "https://mail.example.org/u/": links are this and a token; not set: none are made
        struct bytes address; // as a listener's; not set: nobody answers them here
        bool any_family;
    } unsubscribe;
    struct {
        int64_t keep_ms;     // day files older than this are deleted
        uint64_t size_bytes; // the oldest are deleted until the rest is no larger; 0: no matter
    } events;
    struct {
        bool hard_bounces;      // bad addresses come onto the suppression list by themselves
        int64_t bounce_keep_ms; // for so long; 0: for ever
    } suppress;
    struct {
        struct bytes address; // as a listener's; not set: no HTTP
        bool any_family;
    } http;
    struct {
        struct bytes command; // of the guard, told of each alert; not set: none
        int64_t look_every_ms;
        int64_t certificate_ms; // it is to last longer
        int64_t stuck_ms;       // a lane may back off for so long
    } alerts;
    struct {
        enum log_format format;
        enum log_level level;
    } log;
};

// Reads and checks the file; NULL reads the embedded default. On failure *out is NULL and `errors`
// has all errors, each "file:line:col: error: text", the source line, a caret, and what would have
// been accepted. E_SYNTAX (errors in the file), E_NOT_FOUND, E_DENIED, E_IO, E_LIMIT (file too
// large).
int conf_load(const char *path, struct conf **out, struct buf *errors) MUST_USE;
// The same from memory; `name` stands in the errors, `folder` (absolute) is where relative paths
// start; a text without `hostname` is an error.
int conf_load_text(struct bytes text, const char *name, const char *folder, struct conf **out,
                   struct buf *errors) MUST_USE;
// The same; where `hostname` is left out it is the name of `host`, which is looked for if need be.
int conf_load_on(struct conf_host *host, struct bytes text, const char *name, const char *folder,
                 struct conf **out, struct buf *errors) MUST_USE;
// Can the files that it names be read by this process? E_DENIED with "FILE:LINE:COLUMN: error: KEY: PATH: why", the
// line and a caret for each that can't.
int conf_check_files(const struct conf *conf, struct buf *errors) MUST_USE;
void conf_free(struct conf *conf); // NULL is fine
// The embedded default configuration, in YAML.
struct bytes conf_default_text(void);

// Is the address (4 or 16 bytes, network order) within one of the prefixes? IPv4-mapped addresses
// count as IPv4.
bool conf_cidr_has(const struct conf_cidr *list, uint32_t count, const uint8_t *ip, bool ip6);
// Does one of the patterns match the address "user@domain", or the name or domain, given?
// Case-insensitive.
bool conf_patterns_match(const struct conf_patterns *patterns, struct bytes subject);
