// SPDX-License-Identifier: MIT
#include "book.h"

#include <openssl/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/map.h"
#include "spool/stored_message.h"

#define BODY_END 200 // bytes

static struct {
    struct book_message *messages[BOOK_MESSAGES_MAX];
    uint32_t count, violations, rots; // bits that have explained nothing yet
    struct map by_token, by_id;
    const char *first_law;
    struct sim_disk *disk;
    int64_t lifetime_ms, last_trouble_us, last_crash_us;
} book;

void book_open(void)
{
    memset(&book, 0, sizeof book);
    book.last_trouble_us = book.last_crash_us = INT64_MIN / 2;
}

void book_close(void)
{
    for (uint32_t i = 0; i < book.count; i++) {
        struct book_message *m = book.messages[i];
        free((char *)(uintptr_t)m->sender.at);
        free((char *)(uintptr_t)m->content.at);
        for (uint32_t k = 0; k < m->recipients_count; k++)
            free((char *)(uintptr_t)m->recipients[k].address.at);
        free(m);
    }
    map_done(&book.by_token);
    map_done(&book.by_id);
}

void book_watch_disk(struct sim_disk *disk)
{
    book.disk = disk;
}

void book_set_lifetime_ms(int64_t ms)
{
    book.lifetime_ms = ms;
}

void book_violation(const char *law, const char *format, ...)
{
    if (!book.first_law)
        book.first_law = law;
    if (book.violations++ >= BOOK_VIOLATIONS_SHOWN)
        return;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    printf("# %s at %.3f s: %s\n", law, (double)sim_now_us() / 1e6, text);
    sim_note(law, book.violations, 0);
}

uint32_t book_violations(void)
{
    return book.violations;
}

const char *book_first_law(void)
{
    return book.first_law;
}

void book_rotten(void)
{
    book.rots++;
}

static bool rot_explains(struct book_message *m)
{
    if (!m->rotten && book.rots > 0) {
        book.rots--;
        m->rotten = true;
    }
    return m->rotten;
}

// ---- clients
// -------------------------------------------------------------------------------------

static struct bytes own(struct bytes s)
{
    char *copy = mem_new(s.len + 1);
    if (s.len)
        memcpy(copy, s.at, s.len);
    return bytes_of(copy, s.len);
}

void book_token(char out[32])
{
    snprintf(out, 32, "t%llx-%u", (unsigned long long)sim_seed(), book.count + 1);
}

struct book_message *book_send(const char *token, struct bytes sender, struct bytes content,
                               const struct bytes *recipients, uint32_t count)
{
    CHECK(book.count < BOOK_MESSAGES_MAX && count <= BOOK_RECIPIENTS_MAX);
    struct book_message *m = mem_new(sizeof *m);
    snprintf(m->token, sizeof m->token, "%s", token);
    m->sender = own(sender);
    m->content = own(content);
    m->keeps_bytes = true;
    m->sent_us = sim_now_us();
    SHA256((const unsigned char *)content.at, content.len, m->sha256);
    for (uint32_t i = 0; i < count; i++)
        m->recipients[i].address = own(recipients[i]);
    m->recipients_count = count;
    book.messages[book.count++] = m;
    CHECK(!map_set(&book.by_token, bytes_cstr(m->token), m));
    return m;
}

void book_refused_recipient(struct book_message *m, uint32_t recipient)
{
    m->recipients[recipient].refused = true;
}

// The relay still needs it: a message that went out before its 250 arrived may be gone from the disk already.
static bool is_awaited(const struct book_message *m)
{
    for (uint32_t i = 0; i < m->recipients_count; i++)
        if (!m->recipients[i].refused && !m->recipients[i].taken && !m->recipients[i].failed)
            return true;
    return false;
}

// Looking through the whole disk takes its time: of very many messages only some.
static bool is_checked(void)
{
    return book.count < 2000 || book.count % 100 == 0;
}

// Its header and the end of its body, which may be in a file of its own.
static bool is_durable(const struct book_message *m)
{
    struct bytes end =
        m->content.len > BODY_END ? bytes_skip(m->content, m->content.len - BODY_END) : m->content;
    return sim_disk_has_durable(book.disk, bytes_cstr(m->token)) &&
           (m->content.len < STORED_INLINE_MAX || sim_disk_has_durable(book.disk, end));
}

// "2.0.0 Ok: queued as ID"
static void accepted(struct book_message *m, struct bytes text)
{
    m->state = BOOK_ACCEPTED;
    m->accepted_us = sim_now_us();
    ptrdiff_t space = bytes_find_last(text, ' ');
    struct bytes id = bytes_skip(text, (size_t)(space + 1));
    snprintf(m->id, sizeof m->id, "%.*s", BYTES_FMT(bytes_first(id, 31)));
    struct book_message *other = map_set(&book.by_id, bytes_cstr(m->id), m);
    if (other)
        book_violation("ID", "%s is the id of %s and of %s", m->id, other->token, m->token);
    if (book.disk && is_checked() && is_awaited(m) && !is_durable(m))
        book_violation("FLUSH", "%s got its 250, but is not on the platter", m->token);
}

void book_answered(struct book_message *m, uint16_t code, struct bytes text)
{
    CHECK(m->state == BOOK_SENDING);
    if (code >= 200 && code < 300)
        accepted(m, text);
    else
        m->state = BOOK_REFUSED;
}

void book_broken(struct book_message *m)
{
    CHECK(m->state == BOOK_SENDING);
    m->state = BOOK_UNKNOWN;
}

// ---- receivers
// -----------------------------------------------------------------------------------

static struct book_recipient *find_recipient(struct book_message *m, struct bytes address)
{
    for (uint32_t i = 0; i < m->recipients_count; i++)
        if (bytes_eq(m->recipients[i].address, address))
            return &m->recipients[i];
    return NULL;
}

static void check_speed(const struct book_message *m, const struct book_recipient *r)
{
    int64_t now = sim_now_us(), waited = now - m->accepted_us;
    int64_t quiet_since = book.last_trouble_us + BOOK_SLOW_MS * 1000;
    if (!bytes_ends(r->address, BYTES("@good.test")) || m->state != BOOK_ACCEPTED)
        return;
    if (waited > BOOK_SLOW_MS * 1000 && quiet_since < m->accepted_us)
        book_violation("SLOW", "%s to %.*s waited %.1f s", m->token, BYTES_FMT(r->address),
                       (double)waited / 1e6);
}

static void take_for(struct book_message *m, struct bytes address, const struct sink_message *got)
{
    struct book_recipient *r = find_recipient(m, address);
    if (!r || r->refused) {
        book_violation("GHOST", "%s went to %.*s, %s", m->token, BYTES_FMT(address),
                       r ? "who was refused" : "who was not asked for");
        return;
    }
    if (r->failed && !rot_explains(m))
        book_violation("BOTH", "%s to %.*s was reported as failed", m->token, BYTES_FMT(address));
    // Over a connection from before a crash: the restarted relay could not know.
    bool late = got->began.us < book.last_crash_us;
    r->taken++;
    r->excused += late;
    r->last_taken_us = sim_now_us();
    if (r->taken > 1 + r->excused && !rot_explains(m))
        book_violation("DUP", "%s to %.*s was taken %u times, %u excused", m->token,
                       BYTES_FMT(address), r->taken, r->excused);
    r->excused += got->is_lost && !late;
    r->last_excused = late || got->is_lost;
    if (r->taken == 1)
        check_speed(m, r);
}

// The value of a field in a notification's text; the search goes on behind it.
static struct bytes next_field(struct bytes *text, const char *name)
{
    ptrdiff_t at = bytes_search(*text, bytes_cstr(name));
    if (at < 0)
        return BYTES_NONE;
    struct bytes rest = bytes_skip(*text, (size_t)at + strlen(name)), line;
    *text = rest;
    bytes_cut(&rest, '\n', &line);
    return bytes_trim(line);
}

static void check_expiry(const struct book_message *m)
{
    int64_t age_ms = (sim_now_us() - m->sent_us) / 1000;
    if (book.lifetime_ms && age_ms < book.lifetime_ms)
        book_violation("EXPIRED", "%s was given up after %.1f s", m->token, (double)age_ms / 1000);
}

static void note_action(struct book_message *m, struct bytes address, struct bytes action,
                        struct bytes status)
{
    ptrdiff_t semicolon = bytes_find(address, ';');
    struct book_recipient *r =
        find_recipient(m, bytes_trim(bytes_skip(address, (size_t)(semicolon + 1))));
    if (!r) {
        book_violation("GHOST", "a notice about %s names %.*s", m->token, BYTES_FMT(address));
        return;
    }
    if (bytes_eq_nocase(action, BYTES("delayed"))) {
        r->delayed++;
        return;
    }
    if (!bytes_eq_nocase(action, BYTES("failed")))
        return;
    r->failed++;
    if (r->taken > r->excused && !rot_explains(m))
        book_violation("BOTH", "%s to %.*s was taken, then reported as failed", m->token,
                       BYTES_FMT(r->address));
    if (bytes_eq(status, BYTES("5.4.7")))
        check_expiry(m);
}

// A notification: its third part has the header of the message it is about.
static void take_notice(const struct sink_message *got)
{
    struct bytes text = got->body, rest = got->body, address;
    struct bytes token = next_field(&rest, "X-Load-Id:");
    struct book_message *m = map_find(&book.by_token, token);
    if (!m) {
        book_violation("GHOST", "a notice about '%.*s', which nobody sent", BYTES_FMT(token));
        return;
    }
    while ((address = next_field(&text, "Final-Recipient:")).len) {
        struct bytes block = text;
        struct bytes action = next_field(&block, "Action:");
        struct bytes status = next_field(&block, "Status:");
        note_action(m, address, action, status);
    }
}

void book_taken(const struct sink_message *got)
{
    struct book_message *m = map_find(&book.by_token, got->id);
    sim_note("taken", got->size, got->recipients_count);
    if (!got->sender.len && !m) {
        take_notice(got);
        return;
    }
    if (bytes_starts(got->sender, BYTES("smuggled")))
        book_violation("CRLF", "a message smuggled behind a bare newline was relayed");
    else if (!m)
        book_violation("GHOST", "a message '%.*s' that nobody sent", BYTES_FMT(got->id));
    if (!m)
        return;
    if (m->state == BOOK_REFUSED)
        book_violation("GHOST", "%s was refused, but delivered", m->token);
    if (got->bare_newlines)
        book_violation("CRLF", "%s came with bare newlines", m->token);
    if (m->keeps_bytes && memcmp(m->sha256, got->sha256, 32) != 0)
        book_violation("BYTES", "%s is not what was sent", m->token);
    for (size_t i = 0; i < got->recipients_count; i++)
        take_for(m, got->recipients[i], got);
}

// ---- crashes
// -------------------------------------------------------------------------------------

void book_trouble(void)
{
    book.last_trouble_us = sim_now_us();
}

void book_crashed(void)
{
    int64_t now = sim_now_us(), window = BOOK_IN_FLIGHT_MS * 1000;
    // While outcomes can't be written, nothing starts; but what runs may end unrecorded.
    if (now - book.last_trouble_us < 60 * INT64_C(1000000))
        window += now - book.last_trouble_us;
    for (uint32_t i = 0; i < book.count; i++)
        for (uint32_t k = 0; k < book.messages[i]->recipients_count; k++) {
            struct book_recipient *r = &book.messages[i]->recipients[k];
            if (!r->taken || r->last_excused || now - r->last_taken_us > window)
                continue;
            r->excused++;
            r->last_excused = true;
        }
    book.last_crash_us = now;
    book_trouble();
}

// ---- the end
// -------------------------------------------------------------------------------------

static bool is_missing(const struct book_message *m, const struct book_recipient *r)
{
    return m->state == BOOK_ACCEPTED && !r->refused && !r->taken && !r->failed;
}

void book_count(struct book_counts *out)
{
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < book.count; i++) {
        const struct book_message *m = book.messages[i];
        out->sent++;
        out->accepted += m->state == BOOK_ACCEPTED;
        out->refused += m->state == BOOK_REFUSED;
        out->unknown += m->state == BOOK_UNKNOWN;
        for (uint32_t k = 0; k < m->recipients_count; k++) {
            const struct book_recipient *r = &m->recipients[k];
            out->recipients++;
            out->taken += r->taken;
            out->excused += r->excused;
            out->failed += r->failed;
            out->delayed += r->delayed;
            out->missing += is_missing(m, r) && !m->rotten;
            out->rotten += is_missing(m, r) && m->rotten;
        }
    }
}

bool book_is_settled(void *ctx)
{
    for (uint32_t i = 0; i < book.count; i++) {
        const struct book_message *m = book.messages[i];
        if (m->state == BOOK_SENDING)
            return false;
        for (uint32_t k = 0; k < m->recipients_count; k++)
            if (is_missing(m, &m->recipients[k]))
                return false;
    }
    return true;
}

void book_check_end(void)
{
    for (uint32_t i = 0; i < book.count; i++) {
        struct book_message *m = book.messages[i];
        for (uint32_t k = 0; k < m->recipients_count; k++)
            if (is_missing(m, &m->recipients[k]) && !rot_explains(m))
                book_violation("LOST", "%s (%s, accepted at %.3f s) to %.*s", m->token, m->id,
                               (double)m->accepted_us / 1e6, BYTES_FMT(m->recipients[k].address));
    }
}
