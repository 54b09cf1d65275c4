// SPDX-License-Identifier: MIT
//
// How it works: a transaction builds the stored message from MAIL on: its envelope lives in the message's arena.
// It belongs to its session until the commit begins; from then on it lives until the journal has answered, with
// or without the session, because what is being made durable can't be called back.
#include <stdlib.h>

#include "base/map.h"
#include "intake/intake_private.h"
#include "intake/submission.h"
#include "mail/mail_address.h"
#include "mail/mail_encode.h"
#include "route/local_recipients.h"
#include "route/route.h"
#include "smtp/smtp_xtext.h"
#include "store/suppress.h"

#define NOT_KEPT_QUIET_MS 2000 // without a failure, before it is said to be over
#define UNANSWERED_MAX 5 // domains waited for in vain, then a message's others are not asked about

struct transaction {
    struct list link; // in intake->transactions
    struct intake *intake;
    struct session *session; // NULL: gone
    struct conf_snapshot *snapshot;
    struct stored_message *message;
    struct intake_content content;
    bool has_content, expecting, committing;
    const struct store_account *account; // of the snapshot; NULL: none
    uint32_t *routes;
    uint32_t recipients_cap;
    struct map addresses; // of recipients, when there are many
    struct bytes named;   // the one address of all RCPTs so far, as received
    bool several;         // there were others
    bool may_relay;       // to any domain
    // a RCPT that waits for DNS
    struct dns_ask ask;
    bool asking;
    struct mono ask_until;
    uint32_t unanswered; // domains that were waited for in vain
    struct recipient pending;
    uint32_t pending_route;
    struct inspection *inspection; // NULL: the account wants none
    struct wall mail_at;           // of MAIL
    int64_t by_s;                  // BY= (RFC 2852)
    struct bytes hold_reason;      // of a message that comes in held
    struct suppress_ask
        *listing; // the suppression list is asked: a RCPT waits, or the whole message; NULL: no
};

static struct envelope *envelope_of(struct transaction *t)
{
    return t->message->envelope;
}

static struct arena *arena_of(struct transaction *t)
{
    return &t->message->arena;
}

static void answer(struct transaction *t, enum smtp_reply_id reply, struct bytes slot)
{
    if (t->session)
        session_answer(t->session, reply, slot);
}

// ---- life ------------------------------------------------------------------------------------------------

static void no_more_expecting(struct transaction *t)
{
    if (t->expecting)
        spool_expect(t->intake->options.port->spool, -1);
    t->expecting = false;
}

static void transaction_free(struct transaction *t)
{
    if (t->session)
        t->session->current = NULL;
    if (t->asking)
        dns_cache_cancel(&t->ask);
    if (t->listing)
        suppress_cancel(t->listing);
    no_more_expecting(t);
    if (t->has_content)
        intake_content_drop(&t->content);
    inspection_free(t->inspection);
    stored_message_unref(t->message);
    conf_snapshot_release(t->snapshot);
    list_remove(&t->link);
    map_done(&t->addresses);
    free(t->routes);
    free(t);
}

bool transaction_is_committing(const struct session *s)
{
    return s->current && s->current->committing;
}

void transaction_drop(struct session *s)
{
    struct transaction *t = s->current;
    if (!t)
        return;
    if (!t->committing) {
        transaction_free(t);
        return;
    }
    t->session = NULL;
    s->current = NULL;
}

struct bytes transaction_sender(const struct session *s)
{
    return s->current ? envelope_of(s->current)->reverse_path : BYTES_NONE;
}

// ---- MAIL ------------------------------------------------------------------------------------------------

// The account of a user of this host; NULL: sendmail.accounts does not name them.
static const struct store_account *find_users(const struct session *s,
                                              const struct conf_snapshot *snapshot,
                                              enum smtp_reply_id *out_refusal)
{
    const struct conf *conf = snapshot->conf;
    *out_refusal = SMTP_REPLY_USER_WITHOUT_ACCOUNT;
    for (uint32_t i = 0; i < conf->sendmail.accounts_count; i++) {
        const struct conf_user *u = &conf->sendmail.accounts[i];
        if (!u->is_any && !(u->has_uid && u->uid == s->uid))
            continue;
        const struct store_account *found = store_directory_account(snapshot->accounts, u->account);
        if (found)
            *out_refusal = SMTP_REPLY_ACCOUNT_SUSPENDED;
        else
            log_warn("sendmail.accounts names an account that does not exist",
                     LOG_STR("account", u->account), LOG_INT("uid", s->uid),
                     LOG_CSTR("remedy", "posthaste account add"));
        return found;
    }
    return NULL;
}

// The account that a session acts as, and the credential that it has of it: its login's, its network's or its
// certificate's, or the listener's account for clients without one. False: refused.
static bool find_account(struct session *s, struct conf_snapshot *snapshot,
                         const struct store_account **out, struct bytes *out_credential,
                         enum smtp_reply_id *out_refusal)
{
    if (s->gate->conf->is_local) {
        *out = find_users(s, snapshot, out_refusal);
        *out_credential = buf_bytes(&s->login);
        return store_account_is_active(*out);
    }
    const struct store_credential *known = session_known_as(s, snapshot);
    bool has_login = smtp_server_is_authenticated(s->server);
    *out = NULL;
    *out_credential = has_login ? buf_bytes(&s->login) : known ? known->login : BYTES_NONE;
    *out_refusal = SMTP_REPLY_AUTH_REQUIRED;
    if (has_login)
        known = store_directory_login(snapshot->accounts, buf_bytes(&s->login), s->login_mark);
    if (known)
        *out = known->account;
    else if (has_login)
        return false; // what is removed counts no more
    else if (s->gate->conf->auth == CONF_AUTH_REQUIRED)
        return false; // it was known when the session began
    else if (s->gate->conf->account.len)
        *out = store_directory_account(snapshot->accounts, s->gate->conf->account);
    else
        return true;
    *out_refusal = SMTP_REPLY_ACCOUNT_SUSPENDED;
    return store_account_is_active(*out);
}

static enum submission_ownership ownership(void *ctx, struct bytes domain)
{
    struct transaction *t = ctx;
    switch (store_directory_domain(t->snapshot->accounts, t->account, domain)) {
    case STORE_DOMAIN_VERIFIED:
        return SUBMISSION_OWNED;
    case STORE_DOMAIN_UNVERIFIED:
        return SUBMISSION_UNVERIFIED;
    case STORE_DOMAIN_FOREIGN:
        break;
    }
    return SUBMISSION_NOT_OWNED;
}

static bool is_restricted(const struct transaction *t)
{
    return t->account && !t->account->any_sender;
}

// Law 3, first half: the reverse-path. The null sender has no domain; its From fields are still checked.
static enum smtp_reply_id check_sender(struct transaction *t, struct bytes reverse_path,
                                       struct buf *slot)
{
    if (!is_restricted(t) || reverse_path.len == 0)
        return SMTP_REPLY_NONE;
    struct mail_address address;
    if (mail_address_parse(reverse_path, &address) != OK)
        return SMTP_REPLY_PATH_SENDER;
    if (mail_domain_route(address.domain, slot) != OK) {
        buf_add(slot, address.domain);
        return SMTP_REPLY_SENDER_NOT_OWNED;
    }
    switch (ownership(t, buf_bytes(slot))) {
    case SUBMISSION_OWNED:
        return SMTP_REPLY_NONE;
    case SUBMISSION_UNVERIFIED:
        return SMTP_REPLY_SENDER_UNVERIFIED;
    case SUBMISSION_NOT_OWNED:
        break;
    }
    return SMTP_REPLY_SENDER_NOT_OWNED;
}

static struct transaction *transaction_new(struct session *s, const struct store_account *account)
{
    struct intake *in = s->gate->intake;
    struct transaction *t = mem_new(sizeof *t);
    t->intake = in;
    t->session = s;
    t->snapshot = conf_snapshot_hold(in->snapshot);
    t->account = account;
    t->message = stored_message_new();
    s->current = t;
    list_push_back(&in->transactions, &t->link);
    return t;
}

static void fill_envelope(struct transaction *t, const struct smtp_mail *mail,
                          struct bytes credential)
{
    struct session *s = t->session;
    struct arena *arena = arena_of(t);
    struct envelope *e = envelope_of(t);
    char client[SYS_ADDR_TEXT];
    e->id = spool_next_id(t->intake->options.port->spool, sys_wall());
    e->reverse_path = arena_dup(arena, mail->reverse_path);
    e->account = t->account ? t->account->number : 0;
    e->account_name = t->account ? arena_dup(arena, t->account->name) : BYTES_NONE;
    e->class = t->account ? t->account->class : MAIL_PERSONAL;
    e->credential = arena_dup(arena, credential);
    e->listener = arena_dup(arena, s->gate->conf->name);
    e->client = s->gate->conf->is_local
                    ? BYTES("unix")
                    : arena_dup(arena, bytes_cstr(sys_addr_format(net_conn_peer(s->conn), client)));
    e->helo = arena_dup(arena, smtp_server_helo(s->server));
    e->envid = arena_dup(arena, mail->envid);
    e->origin = s->gate->conf->is_local ? ORIGIN_SENDMAIL : ORIGIN_SMTP;
    e->body = mail->body;
    e->ret = mail->ret;
    e->smtputf8 = mail->smtputf8;
    e->by_mode = mail->by_mode;
    e->by_trace = mail->by_trace;
    e->not_before = mail->hold_until;
    if (mail->hold.len)
        e->release = arena_printf(arena, "%s; %.*s", mail->hold_is_for ? "for" : "until",
                                  BYTES_FMT(mail->hold));
    t->by_s = mail->by_s;
    t->mail_at = sys_wall();
    e->tls = net_conn_proof(s->conn) != NET_TLS_NONE;
}

// RFC 6710 section 4.1: what the account may not ask for is lowered, and the client told.
static int8_t allowed_priority(const struct store_account *account, int8_t wanted)
{
    uint8_t may = account ? account->options[STORE_OPTION_PRIORITY] : (uint8_t)STORE_PRIORITY_ANY;
    if (may == STORE_PRIORITY_OFF || (may == STORE_PRIORITY_NORMAL && wanted > 0))
        return 0;
    return wanted;
}

static void answer_mail(struct transaction *t, const struct smtp_mail *mail)
{
    struct envelope *e = envelope_of(t);
    e->priority = allowed_priority(t->account, mail->priority);
    if (e->priority == mail->priority)
        answer(t, SMTP_REPLY_MAIL_OK, BYTES_NONE);
    else
        answer(t, SMTP_REPLY_PRIORITY_LOWERED, BYTES("0"));
}

void transaction_on_mail(struct session *s, const struct smtp_mail *mail)
{
    struct intake *in = s->gate->intake;
    const struct store_account *account;
    struct bytes credential;
    enum smtp_reply_id refusal;
    if (!find_account(s, in->snapshot, &account, &credential, &refusal)) {
        session_answer(s, refusal, s->gate->conf->is_local ? buf_bytes(&s->login) : BYTES_NONE);
        return;
    }
    if (!intake_port_accepts(in->options.port)) {
        session_answer(s, SMTP_REPLY_DISK_FULL, BYTES_NONE);
        return;
    }
    struct transaction *t = transaction_new(s, account);
    struct buf slot = {0};
    refusal = check_sender(t, mail->reverse_path, &slot);
    if (refusal == SMTP_REPLY_NONE) {
        t->may_relay = s->trusted || credential.len > 0;
        fill_envelope(t, mail, credential);
        answer_mail(t, mail);
    } else {
        intake_count(&in->options.counters->messages_refused, 1);
        transaction_free(t);
        session_answer(s, refusal, buf_bytes(&slot));
    }
    buf_done(&slot);
}

// ---- RCPT ------------------------------------------------------------------------------------------------

#define FEW_RECIPIENTS 32 // are compared one by one

static bool has_recipient(struct transaction *t, struct bytes address)
{
    struct envelope *e = envelope_of(t);
    if (e->recipients_count > FEW_RECIPIENTS)
        return map_find(&t->addresses, address);
    for (uint32_t i = 0; i < e->recipients_count; i++)
        if (bytes_eq(e->recipients[i].address, address))
            return true;
    return false;
}

static void note_address(struct transaction *t)
{
    const struct envelope *e = envelope_of(t);
    if (e->recipients_count == FEW_RECIPIENTS + 1)
        for (uint32_t i = 0; i < e->recipients_count; i++)
            map_set(&t->addresses, e->recipients[i].address, t);
    else if (e->recipients_count > FEW_RECIPIENTS)
        map_set(&t->addresses, e->recipients[e->recipients_count - 1].address, t);
}

// A recipient named twice gets one copy.
static void add_recipient(struct transaction *t, const struct recipient *r, uint32_t route)
{
    struct envelope *e = envelope_of(t);
    if (has_recipient(t, r->address))
        return;
    if (e->recipients_count == t->recipients_cap) {
        t->recipients_cap = t->recipients_cap ? 2 * t->recipients_cap : 4;
        struct recipient *more = arena_new(arena_of(t), t->recipients_cap * sizeof *more);
        if (e->recipients_count)
            memcpy(more, e->recipients, e->recipients_count * sizeof *more);
        e->recipients = more;
        t->routes = mem_resize(t->routes, t->recipients_cap * sizeof *t->routes);
    }
    t->routes[e->recipients_count] = route;
    e->recipients[e->recipients_count] = *r;
    e->recipients[e->recipients_count].number = e->recipients_count + 1;
    e->recipients_count++;
    note_address(t);
}

static const struct route *pick_route(struct transaction *t, const struct recipient *r)
{
    const struct envelope *e = envelope_of(t);
    struct route_question question = {.recipient = r->address,
                                      .domain = r->domain,
                                      .sender = e->reverse_path,
                                      .account = e->account_name,
                                      .listener = e->listener};
    return route_pick(t->snapshot->routes, &question);
}

// Fills in address and routing domain; E_SYNTAX when it is no address.
static int set_address(struct transaction *t, struct recipient *r, struct bytes address)
{
    struct mail_address parsed;
    int err = mail_address_parse(address, &parsed);
    if (err)
        return err;
    struct buf domain = {0};
    err = mail_domain_route(parsed.domain, &domain);
    if (!err) {
        r->address = arena_dup(arena_of(t), parsed.text);
        r->domain = arena_dup(arena_of(t), buf_bytes(&domain));
    }
    buf_done(&domain);
    return err;
}

// For the Received field: what the client said, not what an alias made of it.
static void note_named(struct transaction *t, struct bytes address)
{
    t->several = t->several || (t->named.len && !bytes_eq(t->named, address));
    t->named = address;
}

static void accept_recipient(struct transaction *t, const struct recipient *r, uint32_t route)
{
    add_recipient(t, r, route);
    note_named(t, r->address);
    answer(t, SMTP_REPLY_RCPT_OK, BYTES_NONE);
}

static void refuse_recipient(struct transaction *t, enum smtp_reply_id reply, struct bytes slot)
{
    intake_count(&t->intake->options.counters->recipients_refused, 1);
    answer(t, reply, slot);
}

static void on_domain_known(struct dns_ask *ask, struct dns_mx *mx)
{
    struct transaction *t = container_of(ask, struct transaction, ask);
    t->asking = false;
    enum dns_verdict verdict = dns_verdict_of(mx);
    dns_mx_free(mx);
    t->unanswered += mono_reached(t->ask_until, sys_mono());
    if (verdict == DNS_NO_DOMAIN)
        refuse_recipient(t, SMTP_REPLY_UNKNOWN_DOMAIN, t->pending.domain);
    else if (verdict == DNS_NULL_MX)
        refuse_recipient(t, SMTP_REPLY_NULL_MX, t->pending.domain);
    else
        accept_recipient(t, &t->pending, t->pending_route);
}

// What can't be told now is accepted, and told when it is delivered: a thousand such domains must not take as many waits.
static void ask_domain(struct transaction *t, const struct recipient *r, uint32_t route)
{
    if (t->unanswered >= UNANSWERED_MAX) {
        accept_recipient(t, r, route);
        return;
    }
    t->pending = *r;
    t->pending_route = route;
    t->ask.done = on_domain_known;
    t->asking = true;
    t->ask_until = mono_add_ms(sys_mono(), DNS_VERDICT_BUDGET_MS);
    dns_cache_ask(t->intake->options.dns, &t->ask, r->domain, DNS_BY_MX, t->ask_until);
}

// RFC 3461 section 4.2: bounces, the next hop and whoever looks for it are told the name that the sender knows.
static struct bytes original_of(struct transaction *t, const struct recipient *alias)
{
    struct buf text = {0};
    buf_add_cstr(&text, "rfc822;");
    mail_xtext_encode(alias->address, &text);
    bool valid = bytes_is_ascii(alias->address) && smtp_orcpt_is_valid(buf_bytes(&text), false);
    struct bytes orcpt = valid ? arena_dup(arena_of(t), buf_bytes(&text)) : BYTES_NONE;
    buf_done(&text);
    return orcpt;
}

// A recipient of a domain with a recipient table: unknown, a mailbox, or an alias for others, who may be anywhere.
static void add_local(struct transaction *t, struct recipient *r, const struct route *route)
{
    struct bytes *targets;
    size_t count;
    enum local_answer found =
        local_recipients_find(route->locals, r->address, arena_of(t), &targets, &count);
    if (found == LOCAL_UNKNOWN) {
        refuse_recipient(t, SMTP_REPLY_UNKNOWN_USER, r->address);
        return;
    }
    uint32_t taken = envelope_of(t)->recipients_count, max = t->snapshot->conf->limits.recipients;
    if (taken && taken + count > max) { // one alias alone is bounded by its table
        refuse_recipient(t, SMTP_REPLY_TOO_MANY_RECIPIENTS, arena_printf(arena_of(t), "%u", max));
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct recipient target = *r;
        if (set_address(t, &target, targets[i]) != OK) {
            log_error("alias target is no address", LOG_STR("alias", r->address),
                      LOG_STR("target", targets[i]));
            continue;
        }
        if (!target.orcpt.len && !bytes_eq(target.address, r->address))
            target.orcpt = original_of(t, r);
        add_recipient(t, &target, route_key(t->snapshot->routes, pick_route(t, &target)));
    }
    note_named(t, r->address);
    answer(t, SMTP_REPLY_RCPT_OK, BYTES_NONE);
}

static void route_recipient(struct transaction *t, struct recipient *r, const struct route *route)
{
    if (route->locals)
        add_local(t, r, route);
    else if (route->conf->via.kind == CONF_VIA_MX && r->domain.at[0] == '[')
        refuse_recipient(t, SMTP_REPLY_ADDRESS_LITERAL, BYTES_NONE);
    else if (route->conf->via.kind == CONF_VIA_MX)
        ask_domain(t, r, route_key(t->snapshot->routes, route));
    else
        accept_recipient(t, r, route_key(t->snapshot->routes, route));
}

// ---- suppression -----------------------------------------------------------------------------------------

// Who sends as an account hears it at once, unless the account chose otherwise; whatever gets in is looked at again
// before it is delivered.
static bool refuses_suppressed(const struct transaction *t)
{
    return t->account && t->account->options[STORE_OPTION_SUPPRESSED] == STORE_SUPPRESSED_REFUSE;
}

static bool may_be_suppressed(struct transaction *t, struct bytes address)
{
    return suppress_may_hit(t->intake->options.port->suppress, envelope_of(t)->account,
                            envelope_of(t)->tag, address);
}

static struct bytes words_of(struct transaction *t, const struct suppress_hit *hit)
{
    struct buf text = {0};
    suppress_hit_format(hit, envelope_of(t)->account_name, &text);
    struct bytes words = arena_dup(arena_of(t), buf_bytes(&text));
    buf_done(&text);
    return words;
}

static void on_recipient_looked_up(void *ctx, int err, const struct suppress_hit *hits)
{
    struct transaction *t = ctx;
    t->listing = NULL;
    if (err) {
        refuse_recipient(t, SMTP_REPLY_LOCAL_ERROR, BYTES_NONE);
    } else if (hits[0].found) {
        intake_count(&t->intake->options.counters->recipients_suppressed, 1);
        refuse_recipient(t, SMTP_REPLY_SUPPRESSED, words_of(t, &hits[0]));
    } else {
        route_recipient(t, &t->pending, pick_route(t, &t->pending));
    }
}

static void look_up_recipient(struct transaction *t, const struct recipient *r)
{
    t->pending = *r;
    t->listing = suppress_ask(t->intake->options.port->suppress, envelope_of(t)->account,
                              BYTES_NONE, &t->pending.address, 1, on_recipient_looked_up, t);
}

void transaction_on_rcpt(struct session *s, const struct smtp_rcpt *rcpt)
{
    struct transaction *t = s->current;
    struct arena *arena = arena_of(t);
    // RFC 5321 4.5.1: postmaster without a domain is ours.
    struct bytes path = bytes_find(rcpt->path, '@') != -1
                            ? rcpt->path
                            : arena_printf(arena, "%.*s@%.*s", BYTES_FMT(rcpt->path),
                                           BYTES_FMT(s->gate->config.hostname));
    struct recipient r = {.notify = rcpt->notify, .orcpt = arena_dup(arena, rcpt->orcpt)};
    if (set_address(t, &r, path) != OK) {
        refuse_recipient(t, SMTP_REPLY_PATH_RECIPIENT, BYTES_NONE);
        return;
    }
    const struct route *route = pick_route(t, &r);
    if (!t->may_relay && !route_is_local(route))
        refuse_recipient(t, SMTP_REPLY_RELAY_DENIED, r.domain);
    else if (refuses_suppressed(t) && may_be_suppressed(t, r.address))
        look_up_recipient(t, &r);
    else
        route_recipient(t, &r, route);
}

// ---- content ---------------------------------------------------------------------------------------------

static void on_content_drained(void *ctx)
{
    struct transaction *t = ctx;
    if (!t->session)
        return;
    smtp_server_resume(t->session->server);
    session_resume(t->session);
}

void transaction_on_data(struct session *s)
{
    struct transaction *t = s->current;
    if (!intake_port_accepts(t->intake->options.port)) {
        answer(t, SMTP_REPLY_DISK_FULL, BYTES_NONE);
        return;
    }
    intake_content_init(&t->content, t->intake->options.port->spool, envelope_of(t)->id,
                        t->snapshot->conf->limits.header_size,
                        store_directory_signs(t->snapshot->accounts, envelope_of(t)->account),
                        on_content_drained, t);
    t->inspection =
        inspection_begin(t->snapshot->accounts, t->snapshot->conf->unsubscribe.url.len > 0,
                         t->account, t->intake->options.dns, &t->intake->memory);
    t->has_content = true;
    t->expecting = true;
    spool_expect(t->intake->options.port->spool, 1);
    answer(t, SMTP_REPLY_START_MAIL, BYTES_NONE);
}

void transaction_on_body(struct session *s, struct bytes piece)
{
    if (s->current->inspection)
        inspection_feed(s->current->inspection, piece);
    if (intake_content_add(&s->current->content, piece))
        smtp_server_pause(s->server);
}

// "ESMTPSA" and its kin (RFC 3848, 6531 4.3).
static struct bytes protocol_name(struct transaction *t)
{
    const struct envelope *e = envelope_of(t);
    struct session *s = t->session;
    bool extended = smtp_server_is_extended(s->server);
    return arena_printf(arena_of(t), "%s%s%s",
                        e->smtputf8 ? "UTF8SMTP"
                        : extended  ? "ESMTP"
                                    : "SMTP",
                        e->tls ? "S" : "", smtp_server_is_authenticated(s->server) ? "A" : "");
}

static struct bytes tls_words(struct transaction *t)
{
    struct net_tls_result tls;
    net_conn_tls_result(t->session->conn, &tls);
    return tls.proof == NET_TLS_NONE ? BYTES_NONE
                                     : arena_printf(arena_of(t), "%s %s", tls.protocol, tls.cipher);
}

static void fill_submission(struct transaction *t, struct submission *sub)
{
    struct session *s = t->session;
    const struct conf_listener *listener = s->gate->conf;
    const struct envelope *e = envelope_of(t);
    char ip[SYS_ADDR_TEXT];
    bool single = !t->several && !listener->hide_client;
    struct bytes header = buf_bytes(&t->content.header);
    *sub = (struct submission){
        .mode = listener->submission,
        .header = bytes_first(header, header.len - 2), // without the empty line
        .smtputf8 = e->smtputf8,
        .authenticated = t->account != NULL,
        .received_max = t->snapshot->conf->limits.received,
        .header_bytes_max = t->snapshot->conf->limits.header_size,
        .now = sys_wall(),
        .hostname = s->gate->config.hostname, // as it was greeted, whatever a reload says
        .id = e->id,
        .helo = e->helo,
        .is_local = listener->is_local,
        .uid = s->uid,
        .client_ip = listener->hide_client || listener->is_local
                         ? BYTES_NONE
                         : arena_dup(arena_of(t),
                                     bytes_cstr(sys_addr_format_ip(net_conn_peer(s->conn), ip))),
        .protocol = protocol_name(t),
        .tls = tls_words(t),
        .priority = e->priority,
        .single_recipient = single ? t->named : BYTES_NONE,
        .owns = is_restricted(t) ? ownership : NULL,
        .owns_ctx = t,
    };
}

// What the account chose holds as of now, however late the message is sent. Reports about people's mail go to them,
// and the null sender is told nothing.
static void take_choices(struct transaction *t, const struct submission *sub)
{
    struct envelope *e = envelope_of(t);
    uint8_t path = t->account ? t->account->options[STORE_OPTION_RETURN_PATH]
                              : (uint8_t)STORE_RETURN_PATH_MESSAGE;
    bool links = t->account && t->snapshot->conf->unsubscribe.url.len &&
                 t->account->options[STORE_OPTION_UNSUBSCRIBE] == STORE_UNSUBSCRIBE_BULK;
    e->return_path =
        e->class != MAIL_PERSONAL && e->reverse_path.len && path != STORE_RETURN_PATH_OFF;
    e->unsubscribe = links && e->class == MAIL_BULK && !sub->list_unsubscribe;
    e->singly = e->unsubscribe || (e->return_path && path == STORE_RETURN_PATH_RECIPIENT);
}

// When it may go, and for how long it is tried. RFC 2852's time runs from MAIL; where X-Posthaste-Send-At holds the
// mail for longer than that (HOLDFOR is refused then, RFC 4865 5.2.2), from the release.
static void set_times(struct transaction *t, struct wall now, struct wall send_at)
{
    struct envelope *e = envelope_of(t);
    int64_t lifetime_ms = t->snapshot->conf->retry.lifetime_ms;
    if (send_at.us > e->not_before.us) // X-Posthaste-Send-At beside HOLDFOR: the later of both
        e->not_before = send_at;
    bool waits = e->not_before.us > now.us;
    e->expires_at = wall_add_ms(waits ? e->not_before : now, lifetime_ms);
    if (e->by_mode == BY_NONE)
        return;
    e->deliver_by = wall_add_ms(t->mail_at, t->by_s * 1000);
    if (waits && e->deliver_by.us < e->not_before.us)
        e->deliver_by = wall_add_ms(e->not_before, t->by_s * 1000);
    if (e->by_mode == BY_RETURN && e->deliver_by.us < e->expires_at.us)
        e->expires_at = e->deliver_by;
}

static void take_submission(struct transaction *t, struct submission *sub)
{
    struct envelope *e = envelope_of(t);
    t->message->header = arena_dup(arena_of(t), buf_bytes(&sub->out));
    e->header_bytes = sub->out.len;
    e->accepted_at = sub->now;
    e->wall_jumped_ms = wall_jumps_now(&t->intake->options.port->jumps, acceptance_now());
    set_times(t, sub->now, sub->send_at);
    e->message_id = sub->message_id;
    e->tag = sub->tag;
    if (sub->has_class)
        e->class = sub->class;
    take_choices(t, sub);
}

static void log_accepted(const struct transaction *t)
{
    const struct envelope *e = t->message->envelope;
    char id[MESSAGE_ID_CHARS + 1];
    message_id_format(e->id, id);
    log_info("message accepted", LOG_CSTR("id", id), LOG_STR("account", e->account_name),
             LOG_STR("from", e->reverse_path), LOG_INT("recipients", e->recipients_count),
             LOG_INT("size", e->header_bytes + e->body_bytes), LOG_STR("message_id", e->message_id),
             LOG_STR("client", e->client), LOG_STR("listener", e->listener));
}

static void count_accepted(struct transaction *t)
{
    struct intake_counters *c = t->intake->options.counters;
    const struct envelope *e = envelope_of(t);
    histogram_add(&c->acceptance, sys_wall().us - e->accepted_at.us);
    intake_count(&c->messages_accepted, 1);
    intake_count(&c->recipients_accepted, e->recipients_count);
    intake_count(&c->bytes_accepted, e->header_bytes + e->body_bytes);
}

// While the disk fails, one line says so when it begins and one when it has ended, whatever number of messages that
// concerns; each of them is told as any other that is refused.
static void log_not_kept(const struct transaction *t, const char *id, int err)
{
    struct intake_counters *c = t->intake->options.counters;
    bool is_ours = err != E_LIMIT; // else the message is what it can't keep
    if (is_ours)
        atomic_store(&c->not_kept_last_us, sys_mono().us);
    if (is_ours && atomic_fetch_add(&c->not_kept, 1) == 0)
        log_error("messages are refused: the spool can't keep them", LOG_ERR(err));
    log_info("message refused", LOG_CSTR("id", id), LOG_STR("client", t->message->envelope->client),
             LOG_CSTR("because", "the spool can't keep it"), LOG_ERR(err));
}

static void log_kept_again(const struct transaction *t)
{
    struct intake_counters *c = t->intake->options.counters;
    if (atomic_load_explicit(&c->not_kept, memory_order_relaxed) == 0)
        return;
    struct mono quiet =
        mono_add_ms((struct mono){atomic_load(&c->not_kept_last_us)}, NOT_KEPT_QUIET_MS);
    if (!mono_reached(quiet, sys_mono()))
        return; // it may come and go
    uint64_t count = atomic_exchange(&c->not_kept, 0);
    if (count)
        log_warn("the spool keeps messages again", LOG_INT("refused", count));
}

// Law 1: the 250 is said here and nowhere else, once the journal has the message.
static void on_committed(void *ctx, int err)
{
    struct transaction *t = ctx;
    struct session *s = t->session;
    char id[MESSAGE_ID_CHARS + 1];
    message_id_format(envelope_of(t)->id, id);
    if (err) {
        log_not_kept(t, id, err);
        if (t->message->body_in_extent)
            spool_extent_remove(t->intake->options.port->spool, envelope_of(t)->id);
    } else {
        log_accepted(t);
        log_kept_again(t);
        count_accepted(t);
    }
    transaction_free(t);
    if (s)
        session_answer(s,
                       err == OK        ? SMTP_REPLY_ACCEPTED
                       : err == E_FULL  ? SMTP_REPLY_DISK_FULL
                       : err == E_LIMIT ? SMTP_REPLY_ENVELOPE_TOO_LARGE
                                        : SMTP_REPLY_LOCAL_ERROR,
                       err ? BYTES_NONE : bytes_cstr(id));
}

// Law 8: why a message is held stands in the journal beside its acceptance.
static void add_holds(struct transaction *t, struct spool_frame *frame)
{
    const struct envelope *e = envelope_of(t);
    for (uint32_t i = 0; i < e->recipients_count; i++)
        spool_frame_add_outcome(frame, &(struct spool_outcome){.id = e->id,
                                                               .recipient = e->recipients[i].number,
                                                               .state = RECIPIENT_HELD,
                                                               .event = SPOOL_EVENT_HELD,
                                                               .next_attempt_at = e->not_before,
                                                               .at = e->accepted_at,
                                                               .actor = BYTES("preflight"),
                                                               .reason = t->hold_reason});
}

static void on_body_stored(void *ctx, int err)
{
    struct transaction *t = ctx;
    if (err) {
        on_committed(t, err);
        return;
    }
    struct intake_port *port = t->intake->options.port;
    struct spool_frame *frame = spool_frame_new(SPOOL_INTAKE);
    spool_frame_add_message(frame, t->message);
    if (t->message->is_held)
        add_holds(t, frame);
    spool_frame_set_expected(frame);
    t->expecting = false; // the frame takes it back
    acceptance_commit(port, frame, stored_message_ref(t->message), t->routes, on_committed, t);
}

// The answer may end the session, and its slot may be of the transaction: so they part first, and what is left of the
// transaction goes last.
static void refuse_message(struct transaction *t, enum smtp_reply_id reply, struct bytes slot)
{
    struct session *s = t->session;
    intake_count(&t->intake->options.counters->messages_refused, 1);
    log_info("message refused", LOG_STR("account", envelope_of(t)->account_name),
             LOG_STR("from", envelope_of(t)->reverse_path),
             LOG_CSTR("reply", smtp_reply_row(reply)->name), LOG_STR("detail", slot),
             LOG_STR("client", envelope_of(t)->client));
    s->current = NULL;
    t->session = NULL;
    session_answer(s, reply, slot);
    transaction_free(t);
}

static void store_message(struct transaction *t)
{
    t->committing = true;
    intake_content_finish(&t->content, t->message, on_body_stored);
}

// There is one answer for all: refused is a message with nobody left; otherwise delivery removes who is suppressed.
static void on_message_looked_up(void *ctx, int err, const struct suppress_hit *hits)
{
    struct transaction *t = ctx;
    t->listing = NULL;
    bool all = !err;
    for (uint32_t i = 0; i < envelope_of(t)->recipients_count && all; i++)
        all = hits[i].found;
    if (!all) {
        store_message(t);
        return;
    }
    intake_count(&t->intake->options.counters->recipients_suppressed,
                 envelope_of(t)->recipients_count);
    refuse_message(t, SMTP_REPLY_SUPPRESSED_ALL, words_of(t, &hits[0]));
}

// Only now is the message's stream known.
static bool look_up_message(struct transaction *t)
{
    const struct envelope *e = envelope_of(t);
    if (!e->tag.len || !refuses_suppressed(t))
        return false;
    for (uint32_t i = 0; i < e->recipients_count; i++)
        if (!may_be_suppressed(t, e->recipients[i].address))
            return false;
    struct bytes *addresses = arena_new(arena_of(t), e->recipients_count * sizeof *addresses);
    for (uint32_t i = 0; i < e->recipients_count; i++)
        addresses[i] = e->recipients[i].address;
    t->listing = suppress_ask(t->intake->options.port->suppress, e->account, e->tag, addresses,
                              e->recipients_count, on_message_looked_up, t);
    return true;
}

static void pass_on(struct transaction *t)
{
    if (!look_up_message(t))
        store_message(t);
}

// "from_without_mx (From: shop.test)" of the first finding that counts.
static struct bytes worst_of(struct transaction *t, const struct preflight_result *result,
                             enum preflight_id *out_id)
{
    size_t i = 0;
    while (preflight_row(result->findings[i].id)->severity != result->verdict)
        i++;
    *out_id = result->findings[i].id;
    return arena_printf(arena_of(t), "%s (%s)", preflight_row(*out_id)->name,
                        result->findings[i].where);
}

static void note_findings(struct transaction *t, const struct preflight_result *result)
{
    struct envelope *e = envelope_of(t);
    if (!result->count)
        return;
    struct metadata *all =
        arena_new(arena_of(t), (e->metadata_count + result->count) * sizeof *all);
    if (e->metadata_count)
        memcpy(all, e->metadata, e->metadata_count * sizeof *all);
    e->metadata = all;
    for (size_t i = 0; i < result->count; i++)
        all[e->metadata_count++] = (struct metadata){
            BYTES("preflight"),
            arena_printf(arena_of(t), "%s %s", preflight_row(result->findings[i].id)->name,
                         result->findings[i].where)};
}

static bool is_about_content(enum preflight_id id)
{
    return id == PREFLIGHT_DANGEROUS_ATTACHMENT || id == PREFLIGHT_HTML_TOO_LARGE ||
           id == PREFLIGHT_LINK_TO_ADDRESS || id == PREFLIGHT_TEXT_PART_MISSING;
}

// All is known of the message: what preflight found decides what becomes of it.
static void on_inspected(void *ctx)
{
    struct transaction *t = ctx;
    const struct envelope *e = envelope_of(t);
    struct preflight_result result;
    enum preflight_id worst = 0;
    inspection_finish(t->inspection, e->class, e->reverse_path, &result);
    struct bytes words = result.count ? worst_of(t, &result, &worst) : BYTES_NONE;
    if (inspection_is_refused(t->inspection, &result)) {
        refuse_message(
            t, is_about_content(worst) ? SMTP_REPLY_PREFLIGHT_CONTENT : SMTP_REPLY_PREFLIGHT_POLICY,
            words);
        return;
    }
    note_findings(t, &result);
    t->message->is_held = inspection_is_held(t->inspection, &result);
    t->hold_reason = words;
    pass_on(t);
}

void transaction_on_body_end(struct session *s, const struct smtp_content_facts *facts)
{
    struct transaction *t = s->current;
    intake_content_end(&t->content);
    if (t->content.header_too_large) {
        struct bytes limit = arena_printf(arena_of(t), "%zu", t->content.header.max);
        refuse_message(t, SMTP_REPLY_HEADER_TOO_LARGE, limit);
        return;
    }
    if (facts->has_8bit && envelope_of(t)->body == BODY_7BIT)
        envelope_of(t)->body = BODY_8BITMIME; // whatever was declared
    struct submission sub;
    fill_submission(t, &sub);
    if (submission_check(&sub, arena_of(t))) {
        take_submission(t, &sub);
        if (!t->inspection)
            pass_on(t);
        else if (!inspection_waits(t->inspection, on_inspected, t))
            on_inspected(t);
    } else {
        refuse_message(t, sub.refusal, sub.slot);
    }
    buf_done(&sub.out);
}
