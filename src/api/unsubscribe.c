// SPDX-License-Identifier: MIT
//
// How it works: as api.c, but nobody is known here. A request is answered at once, but for a POST with a good token:
// that is suspended while its record is committed from the main loop.
#include "api/unsubscribe.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <time.h>

#include "api/unsubscribe_page.h"
#include "bounce/unsubscribe_token.h"
#include "intake/rate_groups.h"
#include "sys/sys_sockaddr.h"

#define CONNECTION_TIMEOUT_S 10
#define CONNECTION_MEMORY 16384
#define STOP_WAIT_MS 3000

struct unsubscribe {
    struct unsubscribe_options options;
    struct MHD_Daemon *daemon;
    struct rate_groups rates;
    atomic_int waiting; // suspended requests
    atomic_int open;    // requests begun and not yet answered to the last byte
    atomic_bool stopping;
};

struct request {
    struct unsubscribe *owner;
    struct MHD_Connection *connection;
    struct sys_task task;
    struct arena arena;
    struct buf body;
    struct unsubscribe_token token;
    struct bytes from;
    bool started, stream_only;
    int err; // of the commit
};

// ---- answers ---------------------------------------------------------------------------------------------

// Nothing is loaded, nothing is kept, and nobody who is linked to learns where the reader came from.
static const struct {
    const char *name, *value;
} HEADERS[] = {
    {"Content-Type", "text/html; charset=utf-8"},
    {"Content-Security-Policy",
     "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"},
    {"Cache-Control", "no-store"},
    {"Referrer-Policy", "no-referrer"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Robots-Tag", "noindex"},
};

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status,
                              enum unsubscribe_page page, const struct unsubscribe_token *token)
{
    struct buf html = {0};
    unsubscribe_page_format(page, token, &html);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(html.len, html.at, MHD_RESPMEM_MUST_COPY);
    for (size_t i = 0; i < COUNT_OF(HEADERS); i++)
        MHD_add_response_header(response, HEADERS[i].name, HEADERS[i].value);
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, "Allow", "GET, HEAD, POST");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    buf_done(&html);
    return result;
}

static void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

// ---- acting ----------------------------------------------------------------------------------------------

static void on_committed(void *ctx, int err)
{
    struct request *r = ctx;
    struct unsubscribe *u = r->owner;
    r->err = err;
    MHD_resume_connection(r->connection); // r may be gone after this
    atomic_fetch_sub(&u->waiting, 1);
}

static void on_main(struct sys_task *task)
{
    struct request *r = container_of(task, struct request, task);
    const struct unsubscribe_token *t = &r->token;
    struct spool_frame *frame = spool_frame_new(SPOOL_INTAKE);
    spool_frame_add_feedback(frame, &(struct spool_feedback){.id = t->id,
                                                             .recipient = t->recipient,
                                                             .kind = FEEDBACK_UNSUBSCRIBE,
                                                             .at = sys_wall(),
                                                             .account = t->account,
                                                             .address = t->address,
                                                             .tag = t->tag,
                                                             .stream_only = r->stream_only,
                                                             .from = r->from});
    spool_commit(r->owner->options.port->spool, frame, on_committed, r);
}

static struct bytes peer_of(struct request *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    struct sockaddr_storage sa = {0};
    struct sys_addr addr;
    char text[SYS_ADDR_TEXT];
    if (!info || !info->client_addr)
        return BYTES_NONE;
    bool ip6 = info->client_addr->sa_family == AF_INET6;
    socklen_t len = ip6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    memcpy(&sa, info->client_addr, len);
    sys_addr_from_sockaddr(&sa, len, &addr);
    return arena_dup(&r->arena, bytes_cstr(sys_addr_format(&addr, text)));
}

// From the stream it was sent in, if any, unless the page's second button was pressed (RFC 8058 3.1: the body says
// List-Unsubscribe=One-Click, whatever its form; what else it says is of no importance).
static enum MHD_Result act(struct request *r)
{
    struct unsubscribe *u = r->owner;
    char link[sizeof r->token.id + sizeof r->token.recipient]; // what the rate is of
    memcpy(link, &r->token.id, sizeof r->token.id);
    memcpy(link + sizeof r->token.id, &r->token.recipient, sizeof r->token.recipient);
    r->stream_only =
        r->token.tag.len > 0 && bytes_search(buf_bytes(&r->body), BYTES("scope=account")) == -1;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    struct mono now = {(int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000};
    if (atomic_load(&u->stopping))
        return answer(r->connection, MHD_HTTP_SERVICE_UNAVAILABLE, UNSUBSCRIBE_PAGE_LATER, NULL);
    // One that came too often stands there already.
    if (!rate_groups_take(&u->rates, bytes_of(link, sizeof link), UNSUBSCRIBE_RATE, now))
        return answer(r->connection, MHD_HTTP_TOO_MANY_REQUESTS, UNSUBSCRIBE_PAGE_LATER, NULL);
    r->from = peer_of(r);
    atomic_fetch_add(&u->waiting, 1);
    MHD_suspend_connection(r->connection);
    r->task.run = on_main;
    sys_post(u->options.main, &r->task);
    return MHD_YES;
}

static enum MHD_Result finish(struct request *r)
{
    if (r->err)
        return answer(r->connection, MHD_HTTP_SERVICE_UNAVAILABLE, UNSUBSCRIBE_PAGE_LATER, NULL);
    count(&r->owner->options.counters->done);
    return answer(r->connection, MHD_HTTP_OK,
                  r->stream_only ? UNSUBSCRIBE_PAGE_DONE_STREAM : UNSUBSCRIBE_PAGE_DONE, &r->token);
}

// ---- requests --------------------------------------------------------------------------------------------

static bool take_token(struct request *r, const char *path)
{
    struct bytes text = bytes_cstr(path);
    text = bytes_skip(text, (size_t)(bytes_find_last(text, '/') + 1));
    return unsubscribe_token_parse(r->owner->options.key, text, &r->arena, &r->token) == OK;
}

static enum MHD_Result handle(struct request *r, const char *path, const char *method)
{
    struct unsubscribe_counters *counters = r->owner->options.counters;
    bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    if (!get && strcmp(method, "POST") != 0) {
        count(&counters->refused);
        return answer(r->connection, MHD_HTTP_METHOD_NOT_ALLOWED, UNSUBSCRIBE_PAGE_UNKNOWN, NULL);
    }
    if (!take_token(r, path)) {
        count(&counters->refused);
        return answer(r->connection, MHD_HTTP_NOT_FOUND, UNSUBSCRIBE_PAGE_UNKNOWN, NULL);
    }
    if (!get)
        return act(r);
    count(&counters->shown);
    return answer(r->connection, MHD_HTTP_OK, UNSUBSCRIBE_PAGE_ASK, &r->token);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    (void)version;
    struct request *r = *state;
    if (!r) {
        r = *state = mem_new(sizeof *r);
        r->owner = cls;
        r->connection = connection;
        buf_init(&r->body, UNSUBSCRIBE_BODY_MAX);
        return MHD_YES;
    }
    if (*upload_size) {
        buf_add(&r->body,
                bytes_first(bytes_of(upload, *upload_size), UNSUBSCRIBE_BODY_MAX - r->body.len));
        *upload_size = 0;
        return MHD_YES;
    }
    if (r->started)
        return finish(r);
    r->started = true;
    atomic_fetch_add(&r->owner->open, 1);
    return handle(r, path, method);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    (void)cls;
    (void)connection;
    (void)code;
    struct request *r = *state;
    if (!r)
        return;
    if (r->started)
        atomic_fetch_sub(&r->owner->open, 1);
    arena_done(&r->arena);
    buf_done(&r->body);
    free(r);
    *state = NULL;
}

// ---- life ------------------------------------------------------------------------------------------------

int unsubscribe_start(const struct unsubscribe_options *options, struct unsubscribe **out)
{
    struct unsubscribe *u = mem_new(sizeof *u);
    u->options = *options;
    u->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ITC | MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0,
        NULL, NULL, on_request, u, MHD_OPTION_LISTEN_SOCKET, options->fd,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)CONNECTION_TIMEOUT_S, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)UNSUBSCRIBE_CONNECTIONS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_MEMORY, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
    if (!u->daemon) {
        free(u);
        return E_IO;
    }
    *out = u;
    return OK;
}

bool unsubscribe_stop(struct unsubscribe *u)
{
    struct timespec pause = {0, 5000000};
    if (!u)
        return true;
    atomic_store(&u->stopping, true);
    for (int waited = 0; atomic_load(&u->open) > 0 && waited < STOP_WAIT_MS; waited += 5)
        nanosleep(&pause, NULL);
    if (atomic_load(&u->waiting) > 0)
        return false;
    MHD_stop_daemon(u->daemon);
    free(u);
    return true;
}
