// SPDX-License-Identifier: MIT
#include "fake_http.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/check.h"

struct MHD_Daemon {
    MHD_AccessHandlerCallback handle;
    void *handle_ctx;
    MHD_RequestCompletedCallback completed;
    void *completed_ctx;
};

struct MHD_Response {
    struct buf body;
};

static struct MHD_Daemon server;

// ---- the library's functions ----------------------------------------------------------------------------

struct MHD_Daemon *MHD_start_daemon(unsigned flags, uint16_t port, MHD_AcceptPolicyCallback accept,
                                    void *accept_ctx, MHD_AccessHandlerCallback handle,
                                    void *handle_ctx, ...)
{
    va_list args;
    server = (struct MHD_Daemon){.handle = handle, .handle_ctx = handle_ctx};
    va_start(args, handle_ctx);
    for (int option; (option = va_arg(args, int)) != MHD_OPTION_END;) {
        if (option == MHD_OPTION_NOTIFY_COMPLETED) {
            server.completed = va_arg(args, MHD_RequestCompletedCallback);
            server.completed_ctx = va_arg(args, void *);
        } else if (option == MHD_OPTION_NOTIFY_CONNECTION) {
            (void)va_arg(args, MHD_NotifyConnectionCallback);
            (void)va_arg(args, void *);
        } else if (option == MHD_OPTION_CONNECTION_MEMORY_LIMIT) {
            (void)va_arg(args, size_t);
        } else {
            (void)va_arg(args, unsigned);
        }
    }
    va_end(args);
    return &server;
}

void MHD_stop_daemon(struct MHD_Daemon *daemon)
{
}

const union MHD_ConnectionInfo *MHD_get_connection_info(struct MHD_Connection *c,
                                                        enum MHD_ConnectionInfoType type, ...)
{
    static union MHD_ConnectionInfo info;
    if (type != MHD_CONNECTION_INFO_CONNECTION_FD)
        return NULL;
    info.connect_fd = c->fd;
    return &info;
}

enum MHD_Result MHD_set_connection_option(struct MHD_Connection *c,
                                          enum MHD_CONNECTION_OPTION option, ...)
{
    return MHD_YES;
}

const char *MHD_lookup_connection_value(struct MHD_Connection *c, enum MHD_ValueKind kind,
                                        const char *key)
{
    for (size_t i = 0; i < FAKE_HTTP_ARGUMENTS && c->arguments[i].name; i++)
        if (strcmp(c->arguments[i].name, key) == 0)
            return c->arguments[i].value;
    return NULL;
}

void MHD_suspend_connection(struct MHD_Connection *c)
{
    CHECK(!c->suspended && !c->status);
    c->suspended = true;
}

void MHD_resume_connection(struct MHD_Connection *c)
{
    CHECK(c->suspended);
    c->suspended = false;
}

struct MHD_Response *MHD_create_response_from_buffer(size_t size, void *at,
                                                     enum MHD_ResponseMemoryMode mode)
{
    CHECK(mode == MHD_RESPMEM_MUST_COPY);
    struct MHD_Response *r = mem_new(sizeof *r);
    buf_add(&r->body, bytes_of(at, size));
    return r;
}

enum MHD_Result MHD_add_response_header(struct MHD_Response *r, const char *name, const char *value)
{
    CHECK(!bytes_has_control(bytes_cstr(name), NULL) &&
          !bytes_has_control(bytes_cstr(value), NULL));
    return MHD_YES;
}

enum MHD_Result MHD_queue_response(struct MHD_Connection *c, unsigned status,
                                   struct MHD_Response *r)
{
    CHECK(!c->status && !c->suspended && status >= 200 && status < 600);
    c->status = status;
    buf_add(&c->answer, buf_bytes(&r->body));
    return MHD_YES;
}

void MHD_destroy_response(struct MHD_Response *r)
{
    buf_done(&r->body);
    free(r);
}

// ---- a request ------------------------------------------------------------------------------------------

static void call(struct MHD_Connection *c, struct bytes piece)
{
    size_t left = piece.len;
    CHECK(server.handle(server.handle_ctx, c, c->path, c->method, "HTTP/1.1", piece.at, &left,
                        &c->state) == MHD_YES);
    CHECK(left == 0);
}

void fake_http_run(struct MHD_Connection *c)
{
    bool first = !c->state;
    if (first)
        call(c, BYTES_NONE);
    for (struct bytes rest = c->body; first && rest.len;) {
        struct bytes piece = bytes_first(rest, c->step ? c->step : rest.len);
        call(c, piece);
        rest = bytes_skip(rest, piece.len);
        CHECK(!c->status && !c->suspended);
    }
    for (int calls = 0; !c->status && !c->suspended; calls++) { // again if it was resumed at once
        CHECK(calls < 4);
        call(c, BYTES_NONE);
    }
}

void fake_http_end(struct MHD_Connection *c)
{
    CHECK(!c->suspended);
    server.completed(server.completed_ctx, c, &c->state, MHD_REQUEST_TERMINATED_COMPLETED_OK);
    CHECK(!c->state);
    buf_done(&c->answer);
}
