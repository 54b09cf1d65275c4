// SPDX-License-Identifier: MIT
//
// A request to the listener for links to unsubscribe (RFC 8058), from whoever: any path, method and body. Laws: a POST
// with a token of ours, and nothing else, makes one record, of whom the token says, whatever the body; the body only
// says whether it is for the stream or for all; it is not done before the record is, and not at all where that fails; one
// link makes no more records than its rate. What stands in a token does not become HTML.
//
// The first byte chooses method, token and fate of the record, the second the lengths of the token's parts; the rest is
// path or token's parts, and the body after an LF.
#include <stdlib.h>

#include "api/unsubscribe.h"
#include "api/unsubscribe_page.h"
#include "base/check.h"
#include "bounce/unsubscribe_token.h"
#include "fake_http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct return_key KEY = {{1, 2, 3}};

// ---- the journal, which takes the record or fails -------------------------------------------------------

static struct {
    struct sys_task *task;
    int err;
    unsigned records;
    struct unsubscribe_token want;
    bool stream_only;
    void (*done)(void *ctx, int err);
    void *done_ctx;
} journal;

void sys_post(struct sys_loop *to, struct sys_task *task)
{
    CHECK(!journal.task);
    journal.task = task;
}

struct wall sys_wall(void)
{
    return (struct wall){1795327200000000};
}

struct spool_frame *spool_frame_new(enum spool_kind kind)
{
    return NULL;
}

void spool_frame_add_feedback(struct spool_frame *frame, const struct spool_feedback *f)
{
    const struct unsubscribe_token *t = &journal.want;
    journal.records++;
    CHECK(f->kind == FEEDBACK_UNSUBSCRIBE && message_id_eq(f->id, t->id));
    CHECK(f->recipient == t->recipient && f->account == t->account);
    CHECK(bytes_eq(f->address, t->address) && bytes_eq(f->tag, t->tag));
    CHECK(f->stream_only == journal.stream_only);
}

void spool_commit(struct spool *spool, struct spool_frame *frame, void (*done)(void *ctx, int err),
                  void *ctx)
{
    journal.done = done;
    journal.done_ctx = ctx;
}

// ---- a request ------------------------------------------------------------------------------------------

// How many of each of what makes HTML, as one number.
static uint64_t marks(struct bytes s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += s.at[i] == '<'    ? 1
             : s.at[i] == '>'  ? 1 << 16
             : s.at[i] == '"'  ? UINT64_C(1) << 32
             : s.at[i] == '\'' ? UINT64_C(1) << 48
                               : 0;
    return n;
}

// The token with what could be HTML taken out.
static struct unsubscribe_token plain(const struct unsubscribe_token *t, struct buf *room)
{
    struct unsubscribe_token p = *t;
    buf_add_all(room, t->sender, t->address);
    for (size_t i = 0; i < room->len; i++)
        if (bytes_find(BYTES("<>&\"'"), room->at[i]) >= 0)
            room->at[i] = 'x';
    p.sender = bytes_first(buf_bytes(room), t->sender.len);
    p.address = bytes_skip(buf_bytes(room), t->sender.len);
    return p;
}

// It has the tags and attributes of one of our pages, whatever the token says.
static void check_page(struct bytes html)
{
    struct buf room = {0};
    struct unsubscribe_token token = plain(&journal.want, &room);
    bool same = false;
    for (int page = UNSUBSCRIBE_PAGE_ASK; page <= UNSUBSCRIBE_PAGE_LATER && !same; page++) {
        struct buf ours = {0};
        unsubscribe_page_format((enum unsubscribe_page)page, &token, &ours);
        same = marks(html) == marks(buf_bytes(&ours));
        buf_done(&ours);
    }
    CHECK(same && bytes_is_utf8(html));
    buf_done(&room);
}

// What came of it. `acts`: a POST with a token of ours. `before`: what came of the same before.
static unsigned request(struct MHD_Connection *c, bool acts, unsigned before)
{
    journal.records = 0;
    fake_http_run(c);
    CHECK(c->suspended == (journal.task != NULL) && (!c->suspended || acts));
    if (c->suspended) {
        struct sys_task *task = journal.task;
        journal.task = NULL;
        task->run(task);
        CHECK(journal.records == 1 && c->suspended); // not before it is flushed
        journal.done(journal.done_ctx, journal.err);
        fake_http_run(c);
        CHECK(c->status == (journal.err ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK));
    } else {
        CHECK(journal.records == 0 && (!acts || c->status == MHD_HTTP_TOO_MANY_REQUESTS));
    }
    if (c->status != before) // else it is the same page
        check_page(buf_bytes(&c->answer));
    unsigned status = c->status;
    fake_http_end(c);
    c->status = 0;
    c->answer = (struct buf){0};
    return status;
}

static void start(struct unsubscribe_counters *counters)
{
    static struct intake_port port;
    static struct unsubscribe *server;
    if (!server)
        CHECK(unsubscribe_start(
                  &(struct unsubscribe_options){.key = &KEY, .port = &port, .counters = counters},
                  &server) == OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const methods[] = {"POST", "GET", "HEAD", "PUT"};
    static struct unsubscribe_counters counters;
    static uint64_t links;
    if (size < 2)
        return 0;
    start(&counters);
    struct bytes body = bytes_of(data + 2, size - 2), given = BYTES_NONE;
    bool ours = data[0] & 4, many = data[0] & 16;
    unsigned method = data[0] & 3;
    bytes_cut(&body, '\n', &given);
    given = bytes_first(given, 200);
    struct unsubscribe_token *t = &journal.want;
    *t = (struct unsubscribe_token){.id = {1, ++links}, .recipient = data[1], .account = data[0]};
    t->tag = bytes_first(given, data[1] % 16u);
    t->address = bytes_skip(given, t->tag.len);
    t->sender = bytes_is_utf8(given) ? given : BYTES("shop.example"); // a domain of an account
    if (!t->address.len)
        t->address = BYTES("a@b.example");
    journal.err = data[0] & 8 ? E_FULL : OK;
    journal.stream_only = t->tag.len > 0 && bytes_search(bytes_first(body, UNSUBSCRIBE_BODY_MAX),
                                                         BYTES("scope=account")) < 0;

    struct buf path = {0};
    buf_add_cstr(&path, "/u/");
    if (ours)
        unsubscribe_token_format(&KEY, t, &path);
    else
        buf_add(&path, given);
    struct MHD_Connection c = {.method = methods[method],
                               .path = buf_cstr(&path),
                               .body = body,
                               .step = data[0] & 32   ? 1
                                       : data[0] & 64 ? 4000
                                                      : 0,
                               .fd = -1};
    unsigned done = 0, status = 0, times = many && ours ? UNSUBSCRIBE_RATE * 2 + 5 : 1;
    for (unsigned i = 0; i < times; i++) {
        status = request(&c, ours && method == 0, status);
        CHECK(ours || status == MHD_HTTP_NOT_FOUND || status == MHD_HTTP_METHOD_NOT_ALLOWED);
        CHECK(!ours || method == 0 ||
              status == (method == 3 ? MHD_HTTP_METHOD_NOT_ALLOWED : MHD_HTTP_OK));
        done += status == MHD_HTTP_OK;
    }
    CHECK(method != 0 || done <= 2 * UNSUBSCRIBE_RATE); // a minute may have ended meanwhile
    buf_done(&path);
    return 0;
}
