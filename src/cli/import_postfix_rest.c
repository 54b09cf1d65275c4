// SPDX-License-Identifier: MIT
//
// import_postfix_rest - what is known of the parameters that nothing was made of
//
// A name that ends in "*" stands for all that begin so; the first row that fits holds.
#include "base/check.h"
#include "cli/import_postfix.h"

enum fate { REPLACED, LEFT, GONE }; // GONE: has no meaning here, nothing to do

static const struct row {
    const char *name;
    enum fate fate;
    const char *text;
} ROWS[] = {
    {"compatibility_level", GONE, "of Postfix's own house"},
    {"setgid_group", GONE, "of Postfix's own house"},
    {"mail_owner", GONE, "`user` names the service's user"},
    {"mail_name", GONE, "of Postfix's own house"},
    {"mail_version", GONE, "of Postfix's own house"},
    {"biff", GONE, "nothing here notifies logged-in users"},
    {"append_dot_mydomain", REPLACED,
     "addresses are taken as the client writes them, with their domain"},
    {"append_at_myorigin", REPLACED,
     "addresses are taken as the client writes them, with their domain"},
    {"myorigin", REPLACED, "addresses are taken as the client writes them, with their domain"},
    {"mydomain", REPLACED, "only used in other values, which have it"},
    {"masquerade_*", LEFT,
     "senders are not rewritten: have the clients send as the domain that is to be seen"},
    {"alias_database", REPLACED, "a recipient table is text, read at SIGHUP (routes[].recipients)"},
    {"alias_maps", LEFT,
     "aliases of local mail: write a recipient table, lines \"user@domain: target\" "
     "(routes[].recipients)"},
    {"local_recipient_maps", LEFT,
     "who exists: write a recipient table, an address a line (routes[].recipients)"},
    {"relay_recipient_maps", LEFT,
     "who exists: write a recipient table, an address a line (routes[].recipients)"},
    {"virtual_mailbox_maps", LEFT,
     "who exists: write a recipient table, an address a line (routes[].recipients)"},
    {"virtual_mailbox_base", LEFT,
     "set the folder in via: maildir:BASE/%d/%u if mailboxes are written here"},
    {"virtual_*", LEFT, "mailboxes are Maildirs of one user, or a server's by LMTP (routes[].via)"},
    {"relay_domains", LEFT,
     "mail for other hosts is taken from logins and trusted networks only; a domain with a way of "
     "its own needs a route"},
    {"relay_transport", LEFT, "write a route for the domains that went by it"},
    {"default_transport", LEFT, "write a route: via: smtp://HOST:PORT"},
    {"home_mailbox", LEFT,
     "mail is not put into users' homes: a folder of its own (via: maildir:) or LMTP"},
    {"mail_spool_directory", LEFT, "mail is not put into mbox files: via: maildir: or LMTP"},
    {"mailbox_command*", LEFT, "the relay starts no program: deliver by LMTP"},
    {"mailbox_*", LEFT, "mailboxes are Maildirs without a limit, or a server's by LMTP"},
    {"local_*", LEFT, "mailboxes are Maildirs of one user, or a server's by LMTP (routes[].via)"},
    {"luser_relay", LEFT, "a recipient table can have \"@domain: target\" for everybody else"},
    {"fallback_relay", LEFT, "there is no second way when all hosts fail: mail waits"},
    {"smtp_fallback_relay", LEFT, "there is no second way when all hosts fail: mail waits"},
    {"recipient_delimiter", REPLACED,
     "a line \"option subaddress +\" at the top of a recipient table"},
    {"canonical_*", LEFT, "addresses are not rewritten: have the clients write them right"},
    {"sender_canonical_maps", LEFT, "senders are not rewritten: have the clients write them right"},
    {"recipient_canonical_maps", LEFT,
     "recipients are not rewritten, but by aliases of local domains"},
    {"smtp_generic_maps", LEFT,
     "senders are not rewritten on the way out: have the clients write them right"},
    {"sender_bcc_maps", LEFT, "no copies are made: have the sender add a recipient"},
    {"recipient_bcc_maps", LEFT, "no copies are made: have the sender add a recipient"},
    {"always_bcc", LEFT, "no copies are made; `posthaste events` has what was sent to whom"},
    {"header_checks", LEFT,
     "mail is not changed or refused by patterns; preflight finds common faults (account set NAME "
     "preflight)"},
    {"body_checks", LEFT,
     "mail is not changed or refused by patterns; preflight finds common faults (account set NAME "
     "preflight)"},
    {"mime_header_checks", LEFT,
     "mail is not changed or refused by patterns; preflight finds common faults"},
    {"nested_header_checks", LEFT,
     "mail is not changed or refused by patterns; preflight finds common faults"},
    {"smtp_header_checks", LEFT,
     "header fields are not removed on the way out; hide_client of a listener hides the client's "
     "address"},
    {"content_filter", LEFT, "no filter sees the mail: filter before it is handed in"},
    {"receive_override_options", REPLACED, "nothing here to be switched off"},
    {"smtpd_milters", LEFT,
     "milters are not called; for OpenDKIM: mail is signed here, posthaste dkim import takes its "
     "key over"},
    {"non_smtpd_milters", LEFT,
     "milters are not called; for OpenDKIM: mail is signed here, posthaste dkim import takes its "
     "key over"},
    {"milter_*", LEFT, "milters are not called"},
    {"smtpd_proxy_*", LEFT, "no filter sees the mail: filter before it is handed in"},
    {"smtpd_sasl_type", REPLACED,
     "logins are accounts' own: posthaste account add, credential add"},
    {"smtpd_sasl_path", REPLACED,
     "logins are accounts' own: posthaste account add, credential add"},
    {"smtpd_sasl_*", REPLACED,
     "logins are accounts' own, by PLAIN and LOGIN under TLS, and SCRAM-SHA-256"},
    {"broken_sasl_auth_clients", REPLACED, "EHLO says AUTH in one form"},
    {"smtpd_sender_login_maps", REPLACED,
     "an account sends as its verified domains: posthaste domain add"},
    {"smtpd_relay_restrictions", REPLACED, "only logins and trusted networks may relay"},
    {"smtpd_recipient_restrictions", REPLACED,
     "only logins and trusted networks may relay; recipients' domains are looked up"},
    {"smtpd_sender_restrictions", REPLACED, "accounts send as their verified domains only"},
    {"smtpd_client_restrictions", REPLACED, "only logins and trusted networks may send"},
    {"smtpd_helo_restrictions", REPLACED,
     "only logins and trusted networks may send, whatever they call themselves"},
    {"smtpd_data_restrictions", REPLACED, "only logins and trusted networks may send"},
    {"smtpd_end_of_data_restrictions", REPLACED, "only logins and trusted networks may send"},
    {"smtpd_etrn_restrictions", GONE, "there is no ETRN"},
    {"smtpd_restriction_classes", REPLACED, "only logins and trusted networks may relay"},
    {"smtpd_helo_required", REPLACED, "HELO or EHLO is always required"},
    {"smtpd_delay_reject", REPLACED, "each command is answered for itself"},
    {"smtpd_reject_*", REPLACED, "unknown recipients and domains are refused at RCPT"},
    {"smtpd_banner", REPLACED, "the greeting has the hostname, and no product"},
    {"smtpd_tls_auth_only", REPLACED, "logins need TLS, but from trusted networks"},
    {"smtpd_tls_loglevel", REPLACED,
     "each session's TLS is in the log at log.level: debug, failures always"},
    {"smtpd_tls_received_header", REPLACED, "the Received field says ESMTPS, and how"},
    {"smtpd_tls_session_cache_*", REPLACED, "sessions are resumed by tickets"},
    {"smtpd_tls_*protocols", REPLACED, "TLS 1.2 and 1.3, nothing older"},
    {"smtpd_tls_*ciphers", REPLACED, "ciphers with forward secrecy and authentication only"},
    {"smtpd_tls_dh*", REPLACED, "parameters are chosen by the key's size"},
    {"smtpd_tls_CApath", LEFT,
     "authorities of clients' certificates are one file: tls.client_authorities"},
    {"smtpd_tls_ccert_verifydepth", REPLACED,
     "chains of certificates are as long as OpenSSL allows"},
    {"smtpd_tls_fingerprint_digest", REPLACED, "certificates are known by SHA-256"},
    {"smtpd_tls_dcert_file", GONE, "nobody has DSA any more"},
    {"smtpd_tls_dkey_file", GONE, "nobody has DSA any more"},
    {"smtpd_tls_*", REPLACED, "settings of TLS are fixed: TLS 1.2 and 1.3, modern ciphers"},
    {"tls_*", REPLACED, "settings of TLS are fixed: TLS 1.2 and 1.3, modern ciphers"},
    {"smtp_tls_CApath", REPLACED,
     "the system's authorities are believed, or tls.authorities, one file"},
    {"smtp_tls_session_cache_*", REPLACED, "sessions are resumed"},
    {"smtp_tls_loglevel", REPLACED, "`message show` says which TLS each attempt had"},
    {"smtp_tls_note_starttls_offer", REPLACED,
     "TLS is used wherever it is offered (routes[].tls: may)"},
    {"smtp_tls_wrappermode", LEFT,
     "hosts found by MX have STARTTLS; a host with TLS from the first byte is via: "
     "smtps://HOST:PORT"},
    {"smtp_tls_policy_maps", LEFT,
     "with a relayhost the domains' own hosts are not met: set tls: of its route"},
    {"smtp_tls_cert_file", LEFT, "no certificate of ours is shown to servers"},
    {"smtp_tls_key_file", LEFT, "no certificate of ours is shown to servers"},
    {"smtp_tls_*", REPLACED,
     "settings of TLS are fixed: TLS 1.2 and 1.3 where offered, else as routes[].tls says"},
    {"smtp_sasl_security_options", REPLACED, "passwords are sent under TLS only"},
    {"smtp_sasl_tls_security_options", REPLACED, "passwords are sent under TLS only"},
    {"smtp_sasl_mechanism_filter", REPLACED, "the strongest that the server offers of those known"},
    {"smtp_sasl_password_maps", LEFT,
     "no entry of it is for a host that mail goes to, or it can't be read: set login and "
     "password_file of a route"},
    {"smtp_sasl_*", REPLACED, "a route has login and password_file"},
    {"smtp_sender_dependent_authentication", LEFT,
     "a login belongs to a route: write one for each sender (match: {sender: ...})"},
    {"sender_dependent_*", LEFT, "write a route for each sender (match: {sender: ...})"},
    {"smtp_bind_address*", LEFT, "mail leaves by the address that the host's routing chooses"},
    {"smtp_address_preference", REPLACED, "both families take turns"},
    {"smtp_connection_cache_*", REPLACED,
     "connections are reused by themselves: lanes[].messages_per_connection"},
    {"smtp_*_timeout", REPLACED, "time-outs are those of RFC 5321"},
    {"smtp_*", REPLACED, "how servers are spoken to needs no settings"},
    {"lmtp_*", REPLACED, "how LMTP is spoken needs no settings"},
    {"smtpd_*_timeout", REPLACED, "limits.command_timeout"},
    {"smtpd_timeout", REPLACED, "limits.command_timeout"},
    {"smtpd_*_error_limit", REPLACED, "sessions with too many errors are ended"},
    {"smtpd_error_sleep_time", REPLACED, "sessions with too many errors are ended"},
    {"smtpd_client_*", REPLACED, "limits.sessions_per_address, limits.auth_failures"},
    {"anvil_*", REPLACED, "limits.*"},
    {"smtpd_forbid_*", REPLACED,
     "only CRLF.CRLF ends a message; commands sent too early are refused"},
    {"smtpd_discard_ehlo_*", LEFT, "what EHLO offers can't be changed"},
    {"smtpd_authorized_xforward_hosts", GONE, "nobody filters mail behind us"},
    {"smtpd_*", REPLACED,
     "only logins and trusted networks may send; what else it set needs no setting"},
    {"disable_vrfy_command", REPLACED, "VRFY is always answered 252"},
    {"strict_rfc821_envelopes", REPLACED, "addresses have to be those of RFC 5321"},
    {"smtputf8_enable", REPLACED, "SMTPUTF8 is offered"},
    {"postscreen_*", GONE, "only known senders may send: no tests for strangers"},
    {"default_process_limit", REPLACED, "limits.sessions, limits.connections"},
    {"qmgr_*", REPLACED,
     "the queue needs no such limits; memory is bounded by the disk's mail, 100 bytes a message"},
    {"default_destination_*", REPLACED, "lanes[]; a limit of its own for smtp was taken"},
    {"initial_destination_concurrency", REPLACED,
     "connections are opened as mail waits, up to lanes[].connections"},
    {"*_destination_*", LEFT, "limits of a transport that no table sends mail by: see lanes[]"},
    {"*_recipient_limit", LEFT, "see lanes[].recipients_per_transaction"},
    {"mailq_*", GONE, "posthaste queue list"},
    {"notify_classes", REPLACED, "posthaste doctor, metrics and log say what is wrong"},
    {"bounce_notice_recipient", REPLACED, "metrics and `posthaste events` tell of bounces"},
    {"2bounce_notice_recipient", REPLACED,
     "what can't be returned is in the log and in `posthaste events`"},
    {"error_notice_recipient", REPLACED, "posthaste doctor, metrics and log say what is wrong"},
    {"delay_notice_recipient", REPLACED, "metrics and `posthaste queue lanes` tell of delays"},
    {"bounce_*", REPLACED, "notifications are those of RFC 3464"},
    {"soft_bounce", LEFT,
     "refusals can't be made temporary: hold mail instead (posthaste queue hold)"},
    {"defer_transports", LEFT, "hold mail: posthaste queue hold --domain D, or --all"},
    {"transport_maps", LEFT, "write a route for each entry"},
    {"mynetworks_style", REPLACED, "without mynetworks this host alone is trusted"},
    {"parent_domain_matches_subdomains", REPLACED,
     "*.example.org are the subdomains, example.org the domain itself"},
    {"proxy_*", LEFT, "the relay asks no other program; write routes in the configuration"},
    {"maillog_file*", REPLACED, "the log is standard error: the service manager keeps it"},
    {"syslog_*", REPLACED, "the log is standard error: the service manager keeps it"},
    {"debug_peer_*", REPLACED, "log.level: debug"},
    {"debugger_command", GONE, "for developers of Postfix"},
    {"enable_long_queue_ids", REPLACED, "ids are long and never used again"},
    {"swap_bangpath", GONE, "nobody writes bang paths any more"},
    {"allow_percent_hack", GONE, "nobody writes such addresses any more"},
    {"unknown_*_code", REPLACED, "codes are those of docs/REPLIES.md"},
    {"multi_instance_*", LEFT,
     "run one service for each instance, with spool, state and ports of its own"},
    {"header_size_limit", REPLACED, "limits.header_size"},
    {"line_length_limit", REPLACED, "lines have at most 998 bytes, as RFC 5322 says"},
    {"rbl_*", GONE, "only known senders may send"},
    {"address_verify_*", GONE, "recipients are not probed"},
    {"default_privs", GONE, "the relay starts no program"},
    {"authorized_*", REPLACED, "root and the service's user may use the commands"},
    {"*_directory", GONE, "of Postfix's own house"},
    {"*_path", GONE, "of Postfix's own house"},
};

static bool fits(struct bytes pattern, struct bytes name)
{
    ptrdiff_t star = bytes_find(pattern, '*');
    if (star < 0)
        return bytes_eq(pattern, name);
    struct bytes before = bytes_first(pattern, (size_t)star),
                 after = bytes_skip(pattern, (size_t)star + 1);
    if (bytes_find(after, '*') >= 0) // "a*b*": the rest somewhere behind
        return bytes_starts(name, before) &&
               bytes_search(name, bytes_first(after, (size_t)bytes_find(after, '*'))) >= 0;
    return name.len >= before.len + after.len && bytes_starts(name, before) &&
           bytes_ends(name, after);
}

static const struct row *row_of(struct bytes name)
{
    for (size_t i = 0; i < COUNT_OF(ROWS); i++)
        if (fits(bytes_cstr(ROWS[i].name), name))
            return &ROWS[i];
    return NULL;
}

// Does some value of main.cf or master.cf use it as $name?
static bool is_used(const struct import *im, struct bytes name)
{
    for (const struct postfix_param *p = im->cf.params; p; p = p->next) {
        ptrdiff_t at = bytes_search(p->value, name);
        if (at > 0 && (p->value.at[at - 1] == '$' || p->value.at[at - 1] == '{' ||
                       p->value.at[at - 1] == '('))
            return true;
    }
    return false;
}

static void tell_param(struct import *im, const char *name)
{
    const struct row *row = row_of(bytes_cstr(name));
    if (row && row->fate == LEFT)
        import_left(im, name, "%s", row->text);
    else if (row)
        import_replaced(im, name, "%s", row->text);
    else if (is_used(im, bytes_cstr(name)))
        import_replaced(im, name, "used in other values, which have it");
    else
        import_left(
            im, name,
            "not known here: see postconf(5) for what it does, and posthaste help configuration");
}

// Overrides of a listener that were read with it.
static bool is_of_listener(struct bytes name)
{
    static const char *const names[] = {"smtpd_tls_security_level",
                                        "smtpd_tls_wrappermode",
                                        "smtpd_sasl_auth_enable",
                                        "mynetworks",
                                        "inet_interfaces",
                                        "inet_protocols",
                                        "syslog_name",
                                        "smtpd_client_restrictions",
                                        "smtpd_relay_restrictions",
                                        "smtpd_recipient_restrictions",
                                        "smtpd_use_tls",
                                        "smtpd_upstream_proxy_protocol",
                                        "postscreen_upstream_proxy_protocol",
                                        "smtpd_authorized_xclient_hosts",
                                        "smtpd_tls_ask_ccert",
                                        "smtpd_tls_req_ccert",
                                        "smtpd_enforce_tls"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (bytes_eq(name, bytes_cstr(names[i])))
            return true;
    return false;
}

static void tell_service(struct import *im, const struct postfix_service *s)
{
    bool smtpd = bytes_eq(s->command, BYTES("smtpd"));
    for (const struct postfix_param *p = s->overrides; p; p = p->next) {
        const struct row *row = row_of(p->name);
        if (p->told || (smtpd && is_of_listener(p->name)))
            continue;
        struct buf *out = row && row->fate != LEFT ? &im->replaced : &im->left;
        import_add_override(s, p, out);
        buf_printf(out, "#     %s\n",
                   row ? row->text : "a setting of this service alone; not taken over");
    }
}

// Debian's master.cf has half a dozen of them that nobody uses: one comment for all.
static void tell_programs(struct import *im)
{
    struct buf names = {0};
    for (const struct postfix_service *s = im->cf.services; s; s = s->next)
        if (bytes_eq(s->command, BYTES("pipe")) || bytes_eq(s->command, BYTES("spawn")))
            buf_printf(&names, "%s%.*s (%.*s)", names.len ? ", " : "",
                       BYTES_FMT(bytes_first(s->name, 100)), BYTES_FMT(s->command));
    if (names.len)
        buf_printf(
            &im->left,
            "# master.cf: %s\n#     the relay starts no program: where one of these was in use, "
            "LMTP or SMTP to what it was\n",
            buf_cstr(&names));
    buf_done(&names);
}

void import_the_rest(struct import *im)
{
    for (struct postfix_param *p = im->cf.params; p; p = p->next)
        tell_param(im, p->name.at);
    for (const struct postfix_service *s = im->cf.services; s; s = s->next)
        tell_service(im, s);
    tell_programs(im);
}
