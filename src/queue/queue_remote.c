// SPDX-License-Identifier: MIT
//
// queue_remote - what a server says that it takes (RFC 9422), beside the limits of its lane
//
// How it works: a connection carries its server's limits. Messages and recipients are the smaller of both numbers. A
// connection that has been to as many domains as its server allows goes on with these, and is closed where the account
// whose turn it is has mail for others only: whoever comes next opens another one.
#include "queue/queue_inside.h"

#include <stdio.h>

#define FLOWS_LOOKED_AT 64 // of one turn; a step of the queue is short

void queue_limit_connection(struct queue *q, struct queue_connection *c,
                            const struct queue_remote *remote)
{
    queue_lock(q);
    CHECK(c->lane && c->messages == 0);
    c->remote = c->lane->remote = *remote;
    queue_unlock(q, NULL, NULL);
}

void queue_limit_recipients(struct queue *q, struct queue_connection *c, uint32_t max)
{
    queue_lock(q);
    CHECK(c->lane && max > 0);
    c->remote.recipients_per_transaction = queue_tighter(c->remote.recipients_per_transaction, max);
    queue_unlock(q, NULL, NULL);
}

static uint64_t domain_key(const struct queue_domain *d)
{
    return map_hash(bytes_of(d->name, d->name_len));
}

static bool has_domain(const struct queue_connection *c, const struct queue_domain *d)
{
    uint64_t key = domain_key(d);
    for (uint32_t i = 0; i < c->domains_count; i++)
        if (c->domains[i] == key)
            return true;
    return false;
}

// The most urgent mail first.
struct queue_flow *queue_remote_flow(struct queue_turn *t, const struct queue_connection *c)
{
    uint32_t max = queue_tighter(QUEUE_REMOTE_DOMAINS, c->remote.domains_per_connection),
             looked = 0;
    bool any = !c->remote.domains_per_connection || c->domains_count < max;
    for (int level = 0; level < QUEUE_LEVELS; level++) {
        list_each(link, &t->flows[level])
        {
            struct queue_flow *f = list_get(link, struct queue_flow, of_turn);
            if (any || has_domain(c, f->domain))
                return f;
            if (++looked == FLOWS_LOOKED_AT)
                return NULL;
        }
    }
    return NULL;
}

void queue_remote_note(struct queue_connection *c, const struct queue_domain *d)
{
    if (c->remote.domains_per_connection && !has_domain(c, d))
        c->domains[c->domains_count++] = domain_key(d);
}

bool queue_remote_binds(const struct queue_lane *l, const struct queue_bundle *b, bool full,
                        char text[QUEUE_TEXT_MAX])
{
    const struct queue_remote *r = &l->remote;
    uint32_t messages = l->limits->messages_per_connection;
    uint32_t recipients = l->limits->recipients_per_transaction;
    if (r->recipients_per_transaction && b->message->leases > 0 &&
        (!recipients || r->recipients_per_transaction < recipients))
        snprintf(text, QUEUE_TEXT_MAX,
                 "the server of %.100s takes %u recipients at once (RCPTMAX); others of this "
                 "message go first",
                 l->name, r->recipients_per_transaction);
    else if (full && r->messages_per_connection &&
             (!messages || r->messages_per_connection < messages))
        snprintf(text, QUEUE_TEXT_MAX,
                 "all connections to %.100s are in use, and its server takes %u messages over each "
                 "(MAILMAX)",
                 l->name, r->messages_per_connection);
    else if (full && r->domains_per_connection)
        snprintf(text, QUEUE_TEXT_MAX,
                 "all connections to %.100s are in use, and its server takes %u domains over each "
                 "(RCPTDOMAINMAX)",
                 l->name, r->domains_per_connection);
    else
        return false;
    return true;
}
