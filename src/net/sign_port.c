// SPDX-License-Identifier: MIT
#include "net/sign_port.h"

#include <string.h>

#include "base/check.h"

// One for each loop: OpenSSL's methods have nothing else to find it by.
static _Thread_local struct {
    const struct sign_port *port;
    struct list waiting, under_way; // sign_request
    size_t under_way_count;
    uint64_t last_id;
    bool begun, lost;
} own;

static void begin(void)
{
    if (own.begun)
        return;
    own.begun = true;
    list_init(&own.waiting);
    list_init(&own.under_way);
}

static struct sign_request *first_of(const struct list *head)
{
    return list_get(list_first(head), struct sign_request, link);
}

static void send_waiting(void)
{
    while (own.port && !own.lost && !list_is_empty(&own.waiting) &&
           own.under_way_count < SIGN_UNDER_WAY_MAX) {
        struct sign_request *r = first_of(&own.waiting);
        if (!own.port->send(own.port->ctx, r, r->with_key))
            return;
        list_remove(&r->link);
        list_push_back(&own.under_way, &r->link);
        own.under_way_count++;
    }
}

bool sign_ask(struct sign_request *r)
{
    begin();
    if (!own.port)
        return false;
    r->id = ++own.last_id;
    r->tries = 1;
    r->with_key = false;
    list_push_back(&own.waiting, &r->link);
    send_waiting();
    if (own.under_way_count || own.lost)
        return true;
    list_remove(&r->link); // nothing will end that it could wait for
    return false;
}

void sign_forget(struct sign_request *r)
{
    if (!list_is_linked(&r->link))
        return;
    list_each(link, &own.under_way)
    {
        if (link == &r->link)
            own.under_way_count--;
    }
    list_remove(&r->link);
    send_waiting();
}

static void end(struct sign_request *r, struct bytes answer)
{
    list_remove(&r->link);
    r->done(r, answer);
}

// Sends a request again, with its key, or has it wait before all others for the room; false: nothing will make any.
static bool send_key(struct sign_request *r)
{
    if (!r->sealed.len || r->sealed.len > SIGN_SEALED_MAX || !own.port)
        return false;
    r->with_key = true;
    if (own.port->send(own.port->ctx, r, true))
        return true;
    if (own.under_way_count == 1)
        return false;
    own.under_way_count--;
    list_remove(&r->link);
    list_push_front(&own.waiting, &r->link);
    return true;
}

static struct sign_request *find_under_way(uint64_t id)
{
    list_each(link, &own.under_way)
    {
        struct sign_request *r = list_get(link, struct sign_request, link);
        if (r->id == id)
            return r;
    }
    return NULL; // its asker is gone
}

void sign_port_answer(uint64_t id, enum sign_state state, struct bytes answer)
{
    begin();
    struct sign_request *r = find_under_way(id);
    if (r && state == SIGN_NO_KEY && send_key(r))
        return;
    if (r) {
        own.under_way_count--;
        end(r, state == SIGN_DONE ? answer : BYTES_NONE);
    }
    send_waiting(); // there is room in the line, whoever the answer was for
}

// ---- the line ------------------------------------------------------------------------------------------

// What is under way goes back to where it waits, in its order; what was so once too often is refused.
static void take_back(void)
{
    while (!list_is_empty(&own.under_way)) {
        struct sign_request *r = list_get(own.under_way.prev, struct sign_request, link);
        own.under_way_count--;
        if (r->tries++ < SIGN_TRIES_MAX) {
            list_remove(&r->link);
            list_push_front(&own.waiting, &r->link);
        } else {
            end(r, BYTES_NONE);
        }
    }
}

void sign_port_use(const struct sign_port *port)
{
    begin();
    own.port = port;
    own.lost = false;
    while (!port && !list_is_empty(&own.under_way)) {
        own.under_way_count--;
        end(first_of(&own.under_way), BYTES_NONE);
    }
    while (!port && !list_is_empty(&own.waiting))
        end(first_of(&own.waiting), BYTES_NONE);
}

void sign_port_lost(void)
{
    begin();
    own.lost = true;
    take_back();
}

void sign_port_found(void)
{
    begin();
    own.lost = false;
    send_waiting();
}

// ---- what both ends know of keys -----------------------------------------------------------------------

#define SEALED_NUMBER_AT 9 // behind its kind and the master key's number (daemon/key_seal.c)

uint64_t sign_sealed_number(struct bytes sealed)
{
    uint64_t number;
    if (sealed.len < SEALED_NUMBER_AT + sizeof number)
        return 0;
    memcpy(&number, sealed.at + SEALED_NUMBER_AT, sizeof number);
    return number | UINT64_C(1) << 63; // certificates' keys count from 1
}

int sign_made_parse(struct bytes answer, struct bytes *out_record, struct bytes *out_sealed)
{
    uint16_t len;
    if (answer.len < sizeof len)
        return E_SYNTAX;
    memcpy(&len, answer.at, sizeof len);
    if (answer.len - sizeof len <= len)
        return E_SYNTAX;
    *out_record = bytes_mid(answer, sizeof len, len);
    *out_sealed = bytes_skip(answer, sizeof len + len);
    return OK;
}
