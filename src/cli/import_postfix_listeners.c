// SPDX-License-Identifier: MIT
//
// import_postfix_listeners - the smtpd services of master.cf, mynetworks and the certificate
#include "base/check.h"
#include "cli/import_postfix.h"
#include "conf/conf_value.h"
#include "route/route_file.h"
#include "sys/sys.h"

#define LISTENERS_MAX 100

// ---- certificate -------------------------------------------------------------------------------------

static void take_pair(struct import *im, const char *certificate, const char *key)
{
    struct bytes file = postfix_get(&im->cf, NULL, certificate);
    struct bytes key_file = postfix_get(&im->cf, NULL, key);
    if (im->has_certificate || !file.len || bytes_eq(file, BYTES("none")))
        return;
    im->has_certificate = true;
    import_line(im, "\ntls:");
    import_from(im, certificate, 2);
    import_line(im, "  certificate: %.*s", BYTES_FMT(import_yaml(im, file)));
    import_from(im, key, 2);
    import_line(im, "  key: %.*s", BYTES_FMT(import_yaml(im, key_file.len ? key_file : file)));
}

// The first file of smtpd_tls_chain_files has a key and its chain.
static void take_chain(struct import *im)
{
    struct bytes list = postfix_get(&im->cf, NULL, "smtpd_tls_chain_files"), file, next;
    if (!postfix_word(&list, &file))
        return;
    bool apart = postfix_word(&list, &next) && bytes_search(file, BYTES("key")) >= 0;
    im->has_certificate = true;
    import_line(im, "\ntls:");
    import_from(im, "smtpd_tls_chain_files", 2);
    import_line(im, "  certificate: %.*s", BYTES_FMT(import_yaml(im, apart ? next : file)));
    import_line(im, "  key: %.*s", BYTES_FMT(import_yaml(im, file)));
}

static void import_tls(struct import *im)
{
    struct bytes authorities = postfix_get(&im->cf, NULL, "smtp_tls_CAfile");
    struct bytes clients = postfix_get(&im->cf, NULL, "smtpd_tls_CAfile");
    take_chain(im);
    take_pair(im, "smtpd_tls_cert_file", "smtpd_tls_key_file");
    take_pair(im, "smtpd_tls_eccert_file", "smtpd_tls_eckey_file");
    import_left(im, "smtpd_tls_eccert_file", "one certificate is used, the one above");
    import_left(im, "smtpd_tls_eckey_file", "one certificate is used, the one above");
    if (!im->has_certificate && im->needs_certificate) {
        import_line(im, "\ntls:\n  # Postfix had no certificate, and logins need TLS: get one, and "
                        "set certificate and key");
        import_line(im, "  self_signed: yes");
    }
    if (!authorities.len && !clients.len)
        return;
    if (!im->has_certificate && !im->needs_certificate)
        import_line(im, "\ntls:");
    if (clients.len) {
        import_from(im, "smtpd_tls_CAfile", 2);
        import_line(im, "  client_authorities: %.*s", BYTES_FMT(import_yaml(im, clients)));
    }
    if (!authorities.len)
        return;
    import_from(im, "smtp_tls_CAfile", 2);
    import_line(im, "  authorities: %.*s", BYTES_FMT(import_yaml(im, authorities)));
}

// ---- mynetworks --------------------------------------------------------------------------------------

// "192.168.1.5/24" as we want it, without bits behind the prefix; "[::1]/128" without brackets.
static bool take_network(struct import *im, struct bytes word, struct bytes *out)
{
    struct bytes text = word, ip_text, bits_text = BYTES_NONE;
    struct conf_cidr net;
    uint64_t bits;
    bool mapped = bytes_starts_nocase(text, BYTES("[::ffff:"));
    if (mapped || !text.len || text.at[0] == '!')
        return false;
    ptrdiff_t slash = bytes_find_last(text, '/');
    ip_text = slash < 0 ? text : bytes_first(text, (size_t)slash);
    if (slash >= 0)
        bits_text = bytes_skip(text, (size_t)slash + 1);
    if (ip_text.len > 1 && ip_text.at[0] == '[' && ip_text.at[ip_text.len - 1] == ']')
        ip_text = bytes_mid(ip_text, 1, ip_text.len - 2);
    if (conf_value_ip(ip_text, net.ip, &net.ip6) != OK)
        return false;
    uint64_t most = net.ip6 ? 128 : 32;
    if (!bits_text.len)
        bits = most;
    else if (bytes_to_u64(bits_text, most, &bits) != OK || !bits)
        return false; // /0: everybody
    for (uint64_t i = bits; i < most; i++)
        net.ip[i / 8] &= (uint8_t) ~(0x80u >> i % 8);
    struct sys_addr addr = {.kind = net.ip6 ? SYS_ADDR_IP6 : SYS_ADDR_IP4};
    memcpy(addr.ip, net.ip, sizeof net.ip);
    char formatted[SYS_ADDR_TEXT];
    struct bytes shown = arena_printf(
        &im->cf.arena, "%s/%llu", sys_addr_format_ip(&addr, formatted), (unsigned long long)bits);
    *out = import_yaml(im, shown);
    return true;
}

static void add_networks(struct import *im, struct bytes words, uint32_t *files, struct buf *out,
                         struct buf *lost)
{
    struct bytes word, net;
    while (postfix_word(&words, &word)) {
        struct buf text;
        buf_init(&text, POSTFIX_FILE_MAX);
        if (take_network(im, word, &net))
            buf_printf(out, "%s%.*s", out->len ? ", " : "", BYTES_FMT(net));
        else if (word.at[0] == '/' && (*files)++ < IMPORT_LIST_FILES_MAX &&
                 route_file_read(arena_cstr(&im->cf.arena, word), &text) == OK)
            add_networks(im, buf_bytes(&text), files, out, lost); // a file of them
        else if (!bytes_starts_nocase(word, BYTES("[::ffff:"))) // IPv4, which stands there as such
            buf_printf(lost, "%s%.*s", lost->len ? ", " : "", BYTES_FMT(word));
        buf_done(&text);
    }
}

// The list in YAML; empty: nobody.
static struct bytes trusted_of(struct import *im, const struct postfix_service *s)
{
    struct buf list = {0}, lost = {0};
    uint32_t files = 0;
    bool set = postfix_is_set(&im->cf, s, "mynetworks");
    add_networks(im, set ? postfix_get(&im->cf, s, "mynetworks") : BYTES("127.0.0.0/8 [::1]/128"),
                 &files, &list, &lost);
    if (lost.len)
        import_line(
            im, "    # of mynetworks not taken over, as it is no network that could be trusted: %s",
            buf_cstr(&lost));
    struct bytes kept = arena_dup(&im->cf.arena, buf_bytes(&list));
    buf_done(&list);
    buf_done(&lost);
    return kept;
}

// ---- a service ---------------------------------------------------------------------------------------

enum verdict { SILENT, PERMITS, REFUSES };

// What a list of restrictions says of a client that is in mynetworks and has not logged in, of mail to other hosts.
// smtpd reads it word by word; what looks something up (check_client_access, reject_rbl_client) refuses some, not all.
static enum verdict verdict_on_networks(struct bytes list)
{
    static const struct {
        const char *word;
        enum verdict verdict;
    } words[] = {{"permit_mynetworks", PERMITS},
                 {"permit", PERMITS},
                 {"reject", REFUSES},
                 {"defer", REFUSES},
                 {"defer_if_permit", REFUSES},
                 {"reject_unauth_destination", REFUSES},
                 {"defer_unauth_destination", REFUSES}};
    struct bytes word;
    bool warns = false; // warn_if_reject: the next word only logs
    while (postfix_word(&list, &word)) {
        for (size_t i = 0; i < COUNT_OF(words); i++)
            if (bytes_eq_nocase(word, bytes_cstr(words[i].word)) &&
                !(warns && words[i].verdict == REFUSES))
                return words[i].verdict;
        warns = bytes_eq_nocase(word, BYTES("warn_if_reject"));
    }
    return SILENT;
}

// May mynetworks relay through the service without a login? A permit ends its own list only, so none of them may refuse;
// and the list that guards relaying has to permit them: smtpd_relay_restrictions, whose default does; where that
// says nothing, smtpd_recipient_restrictions.
static bool wants_networks(struct import *im, const struct postfix_service *s)
{
    static const char *const names[] = {
        "smtpd_client_restrictions",      "smtpd_helo_restrictions",  "smtpd_sender_restrictions",
        "smtpd_recipient_restrictions",   "smtpd_relay_restrictions", "smtpd_data_restrictions",
        "smtpd_end_of_data_restrictions",
    };
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (verdict_on_networks(postfix_get(&im->cf, s, names[i])) == REFUSES)
            return false;
    if (!postfix_is_set(&im->cf, s, "smtpd_relay_restrictions"))
        return true;
    enum verdict verdict = verdict_on_networks(postfix_get(&im->cf, s, "smtpd_relay_restrictions"));
    if (verdict == SILENT)
        verdict = verdict_on_networks(postfix_get(&im->cf, s, "smtpd_recipient_restrictions"));
    return verdict == PERMITS;
}

static uint16_t port_of(struct bytes name)
{
    static const struct {
        const char *name;
        uint16_t port;
    } ports[] = {
        {"smtp", 25}, {"submission", 587}, {"smtps", 465}, {"submissions", 465}, {"urd", 465}};
    uint64_t port;
    if (bytes_to_u64(name, 65535, &port) == OK)
        return (uint16_t)port;
    for (size_t i = 0; i < COUNT_OF(ports); i++)
        if (bytes_eq(name, bytes_cstr(ports[i].name)))
            return ports[i].port;
    return 0;
}

struct listener {
    const struct postfix_service *service; // NULL: there is no master.cf
    struct bytes name, tls, trusted;
    struct bytes proxy, xclient; // networks; empty: none
    const char *certificates;    // client_certificates; NULL: not asked for
    const char *auth;
    uint16_t port;
};

// Is a listener of that name among those that were printed?
static bool is_name_taken(struct import *im, struct bytes name)
{
    struct bytes line =
        arena_printf(&im->cf.arena, "  - name: %.*s\n", BYTES_FMT(import_yaml(im, name)));
    return bytes_search(buf_bytes(&im->out), line) >= 0;
}

static void print_listener(struct import *im, const struct listener *l, struct bytes address)
{
    struct bytes name = l->name;
    for (int n = 2; is_name_taken(im, name) && n < LISTENERS_MAX; n++)
        name = arena_printf(&im->cf.arena, "%.*s-%d", BYTES_FMT(l->name), n);
    import_line(im, "  - name: %.*s", BYTES_FMT(import_yaml(im, name)));
    import_line(im, "    address: %.*s", BYTES_FMT(import_yaml(im, address)));
    import_line(im, "    tls: %.*s", BYTES_FMT(l->tls));
    import_line(im, "    auth: %s", l->auth);
    if (l->trusted.len)
        import_line(im, "    trusted: [%.*s]", BYTES_FMT(l->trusted));
    if (l->proxy.len) {
        import_line(im,
                    "    # Postfix believed every client that began with a PROXY header: put the "
                    "proxies' own addresses here");
        import_line(im, "    proxy: [%.*s]", BYTES_FMT(l->proxy));
    }
    if (l->xclient.len)
        import_line(im, "    xclient: [%.*s]", BYTES_FMT(l->xclient));
    if (l->certificates)
        import_line(im, "    client_certificates: %s", l->certificates);
}

// One listener for each of inet_interfaces.
static void print_addresses(struct import *im, const struct listener *l)
{
    struct bytes list = postfix_get(&im->cf, l->service, "inet_interfaces"), word;
    struct bytes protocols = postfix_get(&im->cf, l->service, "inet_protocols");
    bool only4 = bytes_eq(protocols, BYTES("ipv4")), only6 = bytes_eq(protocols, BYTES("ipv6"));
    struct arena *arena = &im->cf.arena;
    while (postfix_word(&list, &word)) {
        struct bytes bare = word;
        uint8_t ip[16];
        bool ip6,
            loopback = bytes_eq(word, BYTES("loopback-only")) || bytes_eq(word, BYTES("localhost"));
        if (bare.len > 1 && bare.at[0] == '[')
            bare = bytes_mid(bare, 1, bare.len - 2);
        if (loopback && !only6)
            print_listener(im, l, arena_printf(arena, "127.0.0.1:%u", l->port));
        if (loopback && !only4)
            print_listener(im, l, arena_printf(arena, "[::1]:%u", l->port));
        if (loopback)
            continue;
        if (conf_value_ip(bare, ip, &ip6) == OK) {
            print_listener(
                im, l,
                arena_printf(arena, ip6 ? "[%.*s]:%u" : "%.*s:%u", BYTES_FMT(bare), l->port));
            continue;
        }
        if (!bytes_eq(word, BYTES("all")))
            import_line(im, "  # inet_interfaces names %.*s: put its address instead of all",
                        BYTES_FMT(word));
        print_listener(im, l,
                       arena_printf(arena,
                                    only4   ? "0.0.0.0:%u"
                                    : only6 ? "[::]:%u"
                                            : "*:%u",
                                    l->port));
        return;
    }
}

// The part of a service's name before its port is an address of its own.
static void print_service(struct import *im, const struct listener *l, struct bytes host)
{
    struct bytes bare = host;
    uint8_t ip[16];
    bool ip6;
    if (bare.len > 1 && bare.at[0] == '[')
        bare = bytes_mid(bare, 1, bare.len - 2);
    if (bytes_eq(host, BYTES("localhost")))
        bare = BYTES("127.0.0.1");
    if (conf_value_ip(bare, ip, &ip6) == OK)
        print_listener(
            im, l,
            arena_printf(&im->cf.arena, ip6 ? "[%.*s]:%u" : "%.*s:%u", BYTES_FMT(bare), l->port));
    else
        print_addresses(im, l);
}

static struct bytes tls_of(struct import *im, const struct postfix_service *s, bool has_tls)
{
    struct bytes level = postfix_get(&im->cf, s, "smtpd_tls_security_level");
    if (!has_tls)
        return BYTES("none");
    if (postfix_flag(&im->cf, s, "smtpd_tls_wrappermode", false))
        return BYTES("implicit");
    bool on = postfix_flag(&im->cf, s, "smtpd_use_tls", false) ||
              postfix_flag(&im->cf, s, "smtpd_enforce_tls", false);
    return (level.len && !bytes_eq(level, BYTES("none"))) || on ? BYTES("starttls") : BYTES("none");
}

// Who may tell of clients: those whom a PROXY header is expected from, and those who may say XCLIENT.
static void take_tellers(struct import *im, struct listener *l)
{
    struct buf list = {0}, lost = {0};
    uint32_t files = 0;
    bool screened = l->service && bytes_eq(l->service->command, BYTES("postscreen"));
    struct bytes proxied = postfix_get(&im->cf, l->service,
                                       screened ? "postscreen_upstream_proxy_protocol"
                                                : "smtpd_upstream_proxy_protocol");
    if (proxied.len)
        l->proxy = l->trusted.len ? l->trusted : BYTES("\"127.0.0.0/8\"");
    add_networks(im, postfix_get(&im->cf, l->service, "smtpd_authorized_xclient_hosts"), &files,
                 &list, &lost);
    l->xclient = arena_dup(&im->cf.arena, buf_bytes(&list));
    if (lost.len)
        import_line(
            im, "    # of smtpd_authorized_xclient_hosts not taken over, as it is no network: %s",
            buf_cstr(&lost));
    buf_done(&list);
    buf_done(&lost);
}

// Certificates that may relay are logins here; which account each is must be said.
static const char *certificates_of(struct import *im, const struct postfix_service *s)
{
    bool asks = postfix_flag(&im->cf, s, "smtpd_tls_ask_ccert", false) ||
                postfix_flag(&im->cf, s, "smtpd_tls_req_ccert", false);
    return asks ? "login" : NULL;
}

static void take_service(struct import *im, const struct postfix_service *s, struct bytes name)
{
    ptrdiff_t colon = bytes_find_last(name, ':');
    struct bytes host = colon < 0 ? BYTES_NONE : bytes_first(name, (size_t)colon);
    struct bytes service = bytes_skip(name, colon < 0 ? 0 : (size_t)colon + 1);
    struct listener l = {.service = s, .port = port_of(service)};
    bool logins = postfix_flag(&im->cf, s, "smtpd_sasl_auth_enable", false);
    if (!l.port) {
        import_line(im, "  # master.cf: %.*s is no port known here; this listener is left out",
                    BYTES_FMT(name));
        return;
    }
    import_line(im, "  # master.cf: %.*s", BYTES_FMT(name));
    bool networks = wants_networks(im, s);
    l.trusted = networks ? trusted_of(im, s) : BYTES_NONE;
    if (!networks && postfix_is_set(&im->cf, s, "mynetworks"))
        import_line(im,
                    "  # its restrictions let nobody relay without a login, not mynetworks either");
    if (conf_value_name(service, &im->cf.arena, &l.name) != OK || ascii_is_digit(service.at[0]))
        l.name = arena_printf(&im->cf.arena, "port%u", l.port);
    if (!logins && !l.trusted.len) {
        import_line(im, "  # takes mail from strangers only, which posthaste does not: this "
                        "listener is left out");
        return;
    }
    l.tls = tls_of(im, s, im->has_certificate || im->needs_certificate);
    l.auth = !logins ? "none" : l.trusted.len ? "optional" : "required";
    if (!l.trusted.len && bytes_eq(l.tls, BYTES("none"))) {
        import_line(im, "    # Postfix took logins here without TLS");
        l.tls = BYTES("starttls");
    }
    take_tellers(im, &l);
    if (!bytes_eq(l.tls, BYTES("none")))
        l.certificates = certificates_of(im, s);
    print_service(im, &l, host);
}

static bool is_smtpd(const struct postfix_service *s)
{
    return bytes_eq(s->type, BYTES("inet")) &&
           (bytes_eq(s->command, BYTES("smtpd")) || bytes_eq(s->command, BYTES("postscreen")));
}

static void tell_network_params(struct import *im)
{
    static const char *const names[] = {"mynetworks",
                                        "inet_interfaces",
                                        "inet_protocols",
                                        "smtpd_sasl_auth_enable",
                                        "smtpd_tls_security_level",
                                        "smtpd_use_tls",
                                        "smtpd_enforce_tls",
                                        "smtpd_tls_wrappermode",
                                        "smtpd_upstream_proxy_protocol",
                                        "postscreen_upstream_proxy_protocol",
                                        "smtpd_authorized_xclient_hosts",
                                        "smtpd_tls_ask_ccert",
                                        "smtpd_tls_req_ccert"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        import_from(im, names[i], 0);
}

// "posthaste credential add" for each certificate that could relay; hashes other than SHA-256 name none here.
static void tell_certificates(struct import *im)
{
    const char *why = NULL;
    struct buf text = {0};
    if (!postfix_is_set(&im->cf, NULL, "relay_clientcerts"))
        return;
    const struct import_entry *e =
        import_table(im, postfix_get(&im->cf, NULL, "relay_clientcerts"), &why);
    for (; e; e = e->next) {
        size_t digits = 0;
        for (size_t i = 0; i < e->key.len; i++)
            digits += e->key.at[i] != ':';
        buf_printf(&text,
                   digits == 64 ? "\n#     posthaste credential add ACCOUNT --certificate %.*s"
                                : "\n#     %.*s is no SHA-256: ask its owner for that",
                   BYTES_FMT(bytes_first(e->key, 200)));
    }
    import_left(im, "relay_clientcerts", "%s%s",
                why ? why : "a certificate is a login of an account:", buf_cstr(&text));
    buf_done(&text);
}

// "root, www-data", "static:anyone", "!news, static:all".
static bool print_user(struct import *im, struct bytes word)
{
    bool all = bytes_starts(word, BYTES("static:"));
    struct bytes name;
    if (!all && conf_value_name(word, &im->cf.arena, &name) != OK)
        return false;
    import_line(im, "    - {user: %.*s, account: local}",
                BYTES_FMT(all ? BYTES("\"*\"") : import_yaml(im, word)));
    return true;
}

void import_sendmail(struct import *im)
{
    bool set = postfix_is_set(&im->cf, NULL, "authorized_submit_users"), has = !im->cf.services;
    struct bytes list = postfix_get(&im->cf, NULL, "authorized_submit_users"), word;
    for (const struct postfix_service *s = im->cf.services; s; s = s->next)
        has = has || bytes_eq(s->command, BYTES("pickup"));
    if (!has || (set && !list.len)) {
        import_replaced(im, "authorized_submit_users", "without pickup nobody used sendmail(1)");
        return;
    }
    import_line(
        im, "\n# sendmail(1): users of this host send as the account named here (posthaste account "
            "add local --any-sender).\n# pickup has what they send while the service is down.");
    import_line(im, "sendmail:\n  socket: /run/posthaste/submit.sock\n"
                    "  pickup: /var/spool/posthaste-pickup");
    import_from(im, "authorized_submit_users", 2);
    import_line(im, "  accounts:");
    size_t before = im->out.len;
    for (list = set ? list : BYTES("static:anyone"); postfix_word(&list, &word);)
        if (!print_user(im, word))
            import_line(im, "    # not taken over: %.*s", BYTES_FMT(word));
    if (bytes_search(bytes_skip(buf_bytes(&im->out), before), BYTES("- {user")) < 0)
        import_line(im, "    - {user: root, account: local}");
}

static void find_needs(struct import *im)
{
    im->needs_certificate = postfix_flag(&im->cf, NULL, "smtpd_sasl_auth_enable", false);
    for (const struct postfix_service *s = im->cf.services; s; s = s->next)
        if (is_smtpd(s) && (postfix_flag(&im->cf, s, "smtpd_sasl_auth_enable", false) ||
                            postfix_flag(&im->cf, s, "smtpd_tls_wrappermode", false)))
            im->needs_certificate = true;
}

void import_listeners(struct import *im)
{
    size_t before;
    find_needs(im);
    tell_certificates(im);
    import_tls(im);
    buf_add_byte(&im->out, '\n');
    tell_network_params(im);
    import_line(im, "listeners:");
    before = im->out.len;
    if (!im->cf.services)
        take_service(im, NULL, BYTES("smtp"));
    for (const struct postfix_service *s = im->cf.services; s; s = s->next)
        if (is_smtpd(s))
            take_service(im, s, s->name);
    if (bytes_search(bytes_skip(buf_bytes(&im->out), before), BYTES("- name:")) < 0) {
        import_line(im,
                    "  # nothing of master.cf listens for senders: for programs on this host only");
        import_line(im, "  - {name: local, address: \"127.0.0.1:25\", tls: none, auth: none, "
                        "trusted: [\"127.0.0.0/8\"]}");
    }
}
