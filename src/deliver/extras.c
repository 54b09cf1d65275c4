// SPDX-License-Identifier: MIT
#include "deliver/extras.h"

#include "bounce/unsubscribe_token.h"
#include "mail/mail_address.h"
#include "store/store_directory.h"

static const struct store_account *account_of(const struct extras *x)
{
    return x->envelope->account
               ? store_directory_account_number(x->snapshot->accounts, x->envelope->account)
               : NULL;
}

// The routing domain that the message is from.
static bool sender_domain(const struct envelope *e, struct buf *out)
{
    struct mail_address address;
    return e->reverse_path.len && mail_address_parse(e->reverse_path, &address) == OK &&
           mail_domain_route(address.domain, out) == OK;
}

// The sender's domain or the nearest one above it that has a return path of its own: aligned either way (RFC 7489
// 3.1.2). False: none.
static bool own_return_domain(const struct extras *x, struct buf *out)
{
    const struct store_account *account = account_of(x);
    struct buf name = {0};
    bool found = false;
    if (account && sender_domain(x->envelope, &name)) {
        struct bytes domain = buf_bytes(&name);
        for (ptrdiff_t dot = 0; dot != -1 && !found; dot = bytes_find(domain, '.')) {
            domain = bytes_skip(domain, dot ? (size_t)dot + 1 : 0);
            found = store_directory_has_return_path(x->snapshot->accounts, account, domain);
        }
        if (found)
            buf_add_all(out, BYTES("bounces."), domain);
    }
    buf_done(&name);
    return found;
}

static bool return_domain(const struct extras *x, struct buf *out)
{
    struct bytes common = x->snapshot->conf->bounce.domain;
    if (own_return_domain(x, out))
        return true;
    buf_add(out, common);
    return common.len > 0;
}

static uint32_t lowest_number(const struct extras *x)
{
    uint32_t lowest = x->recipients[0]->number;
    for (uint32_t i = 1; i < x->count; i++)
        if (x->recipients[i]->number < lowest)
            lowest = x->recipients[i]->number;
    return lowest;
}

static void token_of(const struct extras *x, enum return_kind kind,
                     char out[RETURN_LOCAL_CHARS + 1])
{
    struct return_token token = {kind, x->envelope->id, lowest_number(x), x->count > 1};
    return_token_format(x->key, &token, out);
}

static bool wants_reports(const struct extras *x)
{
    for (uint32_t i = 0; i < x->count; i++)
        if (x->recipients[i]->notify & NOTIFY_SUCCESS)
            return true;
    return false;
}

void extras_reverse_path(const struct extras *x, struct buf *out)
{
    const struct envelope *e = x->envelope;
    struct buf domain = {0};
    if (e->return_path && !wants_reports(x) && return_domain(x, &domain)) {
        char local[RETURN_LOCAL_CHARS + 1];
        token_of(x, RETURN_BOUNCE, local);
        buf_add_all(out, bytes_cstr(local), BYTES("@"), buf_bytes(&domain));
    } else {
        buf_add(out, e->reverse_path);
    }
    buf_done(&domain);
}

static void add_unsubscribe(const struct extras *x, struct buf *out)
{
    const struct envelope *e = x->envelope;
    ptrdiff_t at = bytes_find_last(e->reverse_path, '@');
    struct unsubscribe_token token = {
        .id = e->id,
        .recipient = x->recipients[0]->number,
        .account = e->account,
        .tag = e->tag,
        .sender = at == -1 ? BYTES_NONE : bytes_skip(e->reverse_path, (size_t)at + 1),
        .address = x->recipients[0]->address};
    buf_add_all(out, BYTES("List-Unsubscribe: <"), x->snapshot->conf->unsubscribe.url);
    unsubscribe_token_format(x->key, &token, out);
    buf_add_cstr(out, ">\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n");
}

static void add_cfbl(const struct extras *x, struct buf *out)
{
    struct buf domain = {0};
    char local[RETURN_LOCAL_CHARS + 1];
    token_of(x, RETURN_COMPLAINT, local);
    if (return_domain(x, &domain))
        buf_printf(out, "CFBL-Address: %s@%.*s; report=arf\r\nCFBL-Feedback-ID: %s\r\n", local,
                   BYTES_FMT(buf_bytes(&domain)), local);
    buf_done(&domain);
}

void extras_header(const struct extras *x, struct buf *out)
{
    const struct envelope *e = x->envelope;
    const struct conf *conf = x->snapshot->conf;
    if (e->unsubscribe && x->count == 1 && conf->unsubscribe.url.len)
        add_unsubscribe(x, out);
    if (conf->bounce.cfbl && e->class == MAIL_BULK && e->return_path)
        add_cfbl(x, out);
}
