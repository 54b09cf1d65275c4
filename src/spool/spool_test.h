// SPDX-License-Identifier: MIT
//
// spool_test - for tests: messages and outcomes made from a number, and what they must look like
// again
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "spool/frame.h"
#include "spool/spool.h"

static inline struct message_id test_id(uint32_t n)
{
    return message_id_make((struct wall){1700000000000000 + (int64_t)n * 1000}, 1, 1, n);
}

// Message n: two recipients more than n % 3, a body of `body_bytes` that can be checked.
static inline struct stored_message *test_message(uint32_t n, size_t body_bytes)
{
    struct stored_message *m = stored_message_new();
    struct envelope *e = m->envelope;
    e->id = test_id(n);
    e->accepted_at.us = 1700000000000000 + n;
    e->expires_at.us = 1800000000000000 + n;
    e->reverse_path = arena_printf(&m->arena, "sender%u@example.org", n);
    e->account = n;
    e->class = (enum mail_class)(n % MAIL_CLASSES);
    e->tag = arena_printf(&m->arena, "tag%u", n);
    e->client = BYTES("192.0.2.1:4711");
    e->recipients_count = 1 + n % 3;
    e->recipients = arena_new(&m->arena, e->recipients_count * sizeof(*e->recipients));
    for (uint32_t i = 0; i < e->recipients_count; i++) {
        e->recipients[i].number = i + 1;
        e->recipients[i].address = arena_printf(&m->arena, "r%u.%u@d%u.example", n, i, n);
        e->recipients[i].domain = arena_printf(&m->arena, "d%u.example", n);
        e->recipients[i].notify = NOTIFY_FAILURE;
    }
    m->header = arena_printf(&m->arena, "Subject: message %u\r\n\r\n", n);
    e->header_bytes = m->header.len;
    char line[32];
    while (m->body.len < body_bytes) {
        int len = snprintf(line, sizeof(line), "%u:%zu\r\n", n, m->body.len);
        size_t left = body_bytes - m->body.len;
        chain_add(&m->body, bytes_of(line, left < (size_t)len ? left : (size_t)len));
    }
    e->body_bytes = m->body.len;
    return m;
}

static inline bool test_same_message(const struct stored_message *a, const struct stored_message *b)
{
    const struct envelope *x = a->envelope, *y = b->envelope;
    if (!message_id_eq(x->id, y->id) || !bytes_eq(x->reverse_path, y->reverse_path) ||
        !bytes_eq(x->tag, y->tag) || !bytes_eq(x->client, y->client) || x->account != y->account ||
        x->class != y->class || x->recipients_count != y->recipients_count ||
        x->accepted_at.us != y->accepted_at.us || x->expires_at.us != y->expires_at.us ||
        !bytes_eq(a->header, b->header) || a->body.len != b->body.len)
        return false;
    for (uint32_t i = 0; i < x->recipients_count; i++)
        if (!bytes_eq(x->recipients[i].address, y->recipients[i].address) ||
            !bytes_eq(x->recipients[i].domain, y->recipients[i].domain) ||
            x->recipients[i].notify != y->recipients[i].notify)
            return false;
    char *p = mem_new(a->body.len + 1), *q = mem_new(a->body.len + 1);
    bool same =
        chain_read(&a->body, 0, p, a->body.len) == chain_read(&b->body, 0, q, a->body.len) &&
        memcmp(p, q, a->body.len) == 0;
    free(p);
    free(q);
    return same;
}

static inline struct spool_outcome test_outcome(uint32_t n, uint32_t recipient,
                                                enum recipient_state state)
{
    return (struct spool_outcome){
        .id = test_id(n),
        .recipient = recipient,
        .state = state,
        .event = recipient_state_is_live(state) ? SPOOL_EVENT_DEFERRED : SPOOL_EVENT_DELIVERED,
        .attempts = 1,
        .at = {1700000001000000},
        .next_attempt_at = {recipient_state_is_live(state) ? 1700000060000000 : 0},
        .mx = BYTES("mx.example"),
        .code = 250,
        .text = BYTES("Ok"),
    };
}
