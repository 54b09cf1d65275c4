// SPDX-License-Identifier: MIT
//
// How it works: libmicrohttpd calls answer() for each request: once with the header, again with pieces of the body,
// once at its end, and once more after a suspended request was resumed. The handler of a row runs on the control
// thread; what must happen on the main loop is posted there and the request suspended (a suspended request neither
// times out nor notices that its client left; so each ends by itself, and stop waits for all of them).
#include "api/api.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "api/api_private.h"

#define CONNECTION_TIMEOUT_S 30
#define CONNECTIONS_MAX 64
#define STRANGERS_MAX 4 // who may do nothing here, at once
#define STRANGER_TIMEOUT_S 2
#define STOP_WAIT_MS 3000 // less than what the guard waits before it kills

// ---- answers ---------------------------------------------------------------------------------------------

const char *api_argument(const struct api_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
}

void api_reply(struct api_request *r, struct json_object *object)
{
    buf_clear(&r->answer);
    api_audit_note(r, object);
    api_add_line(r, object);
    r->status = MHD_HTTP_OK;
}

static unsigned status_of(int err)
{
    switch (err) {
    case E_SYNTAX:
    case E_LIMIT:
        return MHD_HTTP_BAD_REQUEST;
    case E_NOT_FOUND:
        return MHD_HTTP_NOT_FOUND;
    case E_DENIED:
        return MHD_HTTP_FORBIDDEN;
    case E_EXISTS:
        return MHD_HTTP_CONFLICT;
    default:
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    }
}

void api_reply_error(struct api_request *r, int err, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct json_object *object = json_object_new_object();
    json_object_object_add(object, "error", api_json_text(bytes_cstr(text)));
    api_reply(r, object);
    r->status = status_of(err);
}

// Bytes from outside need not be UTF-8; JSON must be (RFC 8259 8.1).
struct json_object *api_json_text(struct bytes text)
{
    if (bytes_is_utf8(text))
        return json_new_text(text);
    struct buf shown = {0};
    buf_add_escaped(&shown, text, 4096);
    struct json_object *object = json_new_text(buf_bytes(&shown));
    buf_done(&shown);
    return object;
}

struct json_object *api_json_id(struct message_id id)
{
    char text[MESSAGE_ID_CHARS + 1];
    message_id_format(id, text);
    return json_object_new_string(text);
}

void api_add_line(struct api_request *r, struct json_object *object)
{
    buf_add_cstr(&r->answer, json_object_to_json_string_ext(
                                 object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    buf_add_byte(&r->answer, '\n');
    json_object_put(object);
}

void api_add_next(struct api_request *r, uint64_t cursor)
{
    if (cursor == UINT64_MAX)
        return;
    struct json_object *next = json_object_new_object();
    json_object_object_add(next, "next", json_object_new_uint64(cursor));
    api_add_line(r, next);
}

bool api_take_id(struct api_request *r, struct message_id *out)
{
    const char *text = api_argument(r, "id");
    if (text && message_id_parse(bytes_cstr(text), out) == OK)
        return true;
    api_reply_error(r, E_NOT_FOUND,
                    "no message has this id: ids have %d characters, like 0HZX3M8T5K0G000100AB",
                    MESSAGE_ID_CHARS);
    return false;
}

struct queue_now api_now(void)
{
    struct timespec t;
    struct queue_now now;
    clock_gettime(CLOCK_MONOTONIC, &t);
    now.mono.us = (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
    clock_gettime(CLOCK_REALTIME, &t);
    now.wall.us = (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
    return now;
}

// ---- the main loop ---------------------------------------------------------------------------------------

void api_suspend(struct api_request *r)
{
    r->suspended = true;
    if (!r->counted)
        atomic_fetch_add(&r->api->waiting, 1);
    r->counted = true;
    MHD_suspend_connection(r->connection);
}

void api_to_main(struct api_request *r, void (*run)(struct sys_task *task))
{
    api_suspend(r);
    r->task.run = run;
    sys_post(r->api->options.main, &r->task);
}

void api_resume(struct api_request *r)
{
    CHECK(r->status != 0);
    MHD_resume_connection(r->connection); // r may be gone after this
}

// ---- requests --------------------------------------------------------------------------------------------

static bool parse_body(struct api_request *r)
{
    if (r->body.len == 0)
        return true;
    struct json_tokener *tokener = json_tokener_new_ex(16);
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    r->args = json_tokener_parse_ex(tokener, r->body.at, (int)r->body.len);
    bool ok = json_tokener_get_error(tokener) == json_tokener_success &&
              json_object_is_type(r->args, json_type_object);
    json_tokener_free(tokener);
    if (!ok) { // also what is JSON, and no object: nobody gets to see it
        json_object_put(r->args);
        r->args = NULL;
    }
    return ok;
}

static enum MHD_Result send_text(struct MHD_Connection *connection, unsigned status,
                                 const char *type, struct bytes text)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        text.len, (void *)(uintptr_t)(text.at ? text.at : ""), MHD_RESPMEM_MUST_COPY);
    MHD_add_response_header(response, "Content-Type", type);
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_health(struct api *api, struct MHD_Connection *connection,
                                     const char *path)
{
    struct buf text = {0};
    unsigned status = MHD_HTTP_OK;
    const char *type = "text/plain; charset=utf-8";
    if (strcmp(path, "/metrics") == 0) {
        api_metrics(api, &text);
        type = "text/plain; version=0.0.4; charset=utf-8";
    } else if (strcmp(path, "/healthz") == 0) {
        buf_add_cstr(&text, "ok\n");
    } else if (strcmp(path, "/readyz") == 0) {
        status = api_is_ready(api, &text) ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    } else {
        status = MHD_HTTP_NOT_FOUND;
        buf_add_cstr(&text, "there is /metrics, /healthz and /readyz here\n");
    }
    enum MHD_Result result = send_text(connection, status, type, buf_bytes(&text));
    buf_done(&text);
    return result;
}

static void refuse(struct api_request *r, const char *method, const char *path)
{
    const struct api_policy *policy = api_policy_of(r->api);
    enum api_role needs = r->row && r->caller.role == API_NOBODY ? r->row->needs : API_OPERATOR;
    struct buf who = {0};
    api_policy_describe(policy, needs, &who);
    if (r->caller.role == API_READER)
        api_reply_error(r, E_DENIED, "%s only may do this; you may read", buf_cstr(&who));
    else
        api_reply_error(r, E_DENIED, "%s only may do this", buf_cstr(&who));
    buf_done(&who);
    api_audit_refused(r, method, path);
}

static void identify(struct api_request *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    r->fd = info ? info->connect_fd : -1;
    (void)api_caller_find(r->fd, api_policy_of(r->api), &r->caller); // else it is nobody
    r->actor = bytes_cstr(r->caller.actor);
}

static void handle(struct api_request *r, const char *method, const char *path)
{
    bool parsed = r->body.err == OK && parse_body(r), known;
    identify(r);
    r->row = api_row_find(method, path, parsed ? r->args : NULL, &known);
    if (r->caller.role < (r->row ? r->row->needs : API_READER))
        refuse(r, method, path);
    else if (atomic_load(&r->api->stopping))
        api_reply_error(r, E_CLOSED, "the service is stopping");
    else if (!parsed)
        api_reply_error(r, E_SYNTAX, "the body is not a JSON object of at most %zu bytes",
                        API_BODY_MAX);
    else if (!r->row && known)
        api_reply_error(r, E_SYNTAX, "%s does not know this \"%s\"", path,
                        strcmp(path, "/v1/queue") == 0 ? "action" : "op");
    else if (!r->row)
        api_reply_error(r, E_NOT_FOUND, "no such request: %.20s %.200s", method, path);
    else if (api_audit_begin(r))
        r->row->handle(r);
}

static bool is_health_path(const char *path)
{
    return strcmp(path, "/metrics") == 0 || strcmp(path, "/healthz") == 0 ||
           strcmp(path, "/readyz") == 0;
}

static enum MHD_Result answer_control(void *cls, struct MHD_Connection *connection,
                                      const char *path, const char *method, const char *version,
                                      const char *upload, size_t *upload_size, void **state)
{
    (void)version;
    struct api *api = cls;
    struct api_request *r = *state;
    if (!r) {
        r = *state = mem_new(sizeof *r);
        r->api = api;
        r->connection = connection;
        buf_init(&r->body, API_BODY_MAX);
        return MHD_YES;
    }
    if (*upload_size) {
        buf_add(&r->body, bytes_of(upload, *upload_size));
        *upload_size = 0;
        return MHD_YES;
    }
    if (is_health_path(path))
        return answer_health(api, connection, path);
    void (*finish)(struct api_request * r) = r->finish;
    r->finish = NULL;
    if (!r->started) {
        r->started = true;
        atomic_fetch_add(&api->open, 1);
        handle(r, method, path);
    } else if (finish) {
        r->suspended = false;
        finish(r);
    } else {
        r->suspended = false;
    }
    if (r->suspended)
        return MHD_YES; // it comes back here once resumed; the main loop may have r already
    api_audit_end(r);
    if (r->counted)
        atomic_fetch_sub(&api->waiting, 1);
    r->counted = false;
    if (r->answer.err) { // half a list would pass for a whole one
        buf_done(&r->answer);
        api_reply_error(r, E_LIMIT, "the answer is too large: ask for less at once");
    }
    return send_text(connection, r->status, "application/json", buf_bytes(&r->answer));
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    (void)cls;
    (void)connection;
    (void)code;
    struct api_request *r = *state;
    if (!r)
        return;
    api_audit_end(r);
    if (r->counted) // its client left
        atomic_fetch_sub(&r->api->waiting, 1);
    if (r->started)
        atomic_fetch_sub(&r->api->open, 1);
    json_object_put(r->args);
    buf_done(&r->body);
    buf_done(&r->answer);
    free(r);
    *state = NULL;
}

static enum MHD_Result answer_http(void *cls, struct MHD_Connection *connection, const char *path,
                                   const char *method, const char *version, const char *upload,
                                   size_t *upload_size, void **state)
{
    (void)version;
    (void)upload;
    (void)state;
    if (*upload_size) {
        *upload_size = 0; // whatever it is, it is not wanted
        return MHD_YES;
    }
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return send_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain",
                         BYTES("GET only\n"));
    return answer_health(cls, connection, path);
}

// ---- life ------------------------------------------------------------------------------------------------

// Where groups have roles everybody may connect, as a socket has one group and there are two of them: who it is is
// looked at then (handle()).
static mode_t mask_for(const struct api_policy *policy)
{
    return policy->operators >= 0 || policy->readers >= 0 || policy->users ? 0111 : 0117;
}

// Who may do nothing here takes no place from others.
static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct api *api = cls;
    struct api_caller caller;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        api->strangers -= *context != NULL;
        return;
    }
    *context = NULL;
    if (!info || !api_caller_find(info->connect_fd, api_policy_of(api), &caller) ||
        caller.role != API_NOBODY)
        return;
    *context = api;
    MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, STRANGER_TIMEOUT_S);
    if (++api->strangers > STRANGERS_MAX)
        shutdown(info->connect_fd, SHUT_RDWR);
}

// Not for us to remove.
static bool is_no_socket(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode);
}

// E_BUSY when somebody listens there; a socket that nobody listens to is what a crash left. E_EXISTS: it is no socket.
static int bind_control(struct api *api)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (api->options.control.len >= sizeof addr.sun_path) {
        log_error("the path of the control socket is too long",
                  LOG_STR("path", api->options.control), LOG_INT("max", sizeof addr.sun_path - 1));
        return E_LIMIT;
    }
    snprintf(addr.sun_path, sizeof addr.sun_path, "%.*s", BYTES_FMT(api->options.control));
    snprintf(api->control_path, sizeof api->control_path, "%s", addr.sun_path);
    if (is_no_socket(addr.sun_path)) {
        log_error("something else than a socket has the path of the control socket",
                  LOG_CSTR("path", addr.sun_path));
        return E_EXISTS;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd == -1)
        return E_IO;
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0) {
        close(fd);
        return E_BUSY;
    }
    bool is_abandoned = errno == ECONNREFUSED;
    close(fd);
    if (is_abandoned)
        (void)unlink(addr.sun_path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(mask_for(&api->options.policy));
    int rc = fd == -1 ? -1 : bind(fd, (struct sockaddr *)&addr, sizeof addr);
    umask(old);
    if (rc == -1 || listen(fd, 64) == -1) {
        int err = err_from_errno(errno);
        if (fd != -1)
            close(fd);
        return err;
    }
    api->control_fd = fd;
    return OK;
}

static struct MHD_Daemon *start_daemon(struct api *api, int fd, unsigned flags,
                                       MHD_AccessHandlerCallback handler,
                                       MHD_NotifyConnectionCallback connected)
{
    // Without an ITC its end is told to the thread by shutting the socket down, which is the guard's too.
    return MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ITC | MHD_USE_EPOLL | MHD_USE_ERROR_LOG | flags,
        0, NULL, NULL, handler, api, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)CONNECTION_TIMEOUT_S, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_NOTIFY_CONNECTION, connected,
        api, MHD_OPTION_END);
}

int api_start(const struct api_options *options, struct conf_snapshot *snapshot, struct api **out)
{
    struct api *api = mem_new(sizeof *api);
    api->options = *options;
    api->snapshot = conf_snapshot_hold(snapshot);
    list_init(&api->works);
    api_set_policy(api, &options->policy);
    api->started = api_now();
    api->checks = sys_loop_start("checks");
    int err = bind_control(api);
    if (!err) {
        api->control = start_daemon(api, api->control_fd, MHD_ALLOW_SUSPEND_RESUME, answer_control,
                                    on_connection);
        err = api->control ? OK : E_IO;
    }
    if (!err && options->http_fd != -1) {
        api->http = start_daemon(api, options->http_fd, 0, answer_http, NULL);
        err = api->http ? OK : E_IO;
    }
    *out = api;
    return err;
}

void api_set_snapshot(struct api *api, struct conf_snapshot *snapshot)
{
    struct conf_snapshot *old = api->snapshot;
    api->snapshot = conf_snapshot_hold(snapshot);
    conf_snapshot_release(old);
}

const struct api_policy *api_policy_of(struct api *api)
{
    return &atomic_load(&api->policy)->policy;
}

// The control thread may be looking at the old one: they are kept, as there is one a reload.
void api_set_policy(struct api *api, const struct api_policy *policy)
{
    struct api_policy_kept *kept = mem_new(sizeof *kept);
    kept->policy = *policy;
    kept->before = atomic_load(&api->policy);
    atomic_store(&api->policy, kept);
    if (kept->before && chmod(api->control_path, 0777 & ~mask_for(policy)) != 0)
        log_error("cannot change who may use the control socket",
                  LOG_CSTR("path", api->control_path), LOG_CSTR("error", strerror(errno)));
}

bool api_stop(struct api *api)
{
    atomic_store(&api->stopping, true);
    struct timespec pause = {0, 5000000};
    // Who asked for the end, by an upgrade, is still to hear that it was granted.
    for (int waited = 0; atomic_load(&api->open) > 0 && waited < STOP_WAIT_MS; waited += 5)
        nanosleep(&pause, NULL);
    if (atomic_load(&api->waiting) > 0) // libmicrohttpd can't stop while a request is suspended
        return false;
    if (api->http)
        MHD_stop_daemon(api->http);
    MHD_stop_daemon(api->control);
    sys_loop_stop(api->checks);
    unlink(api->control_path);
    conf_snapshot_release(api->snapshot);
    for (struct api_policy_kept *kept = atomic_load(&api->policy), *before; kept; kept = before) {
        before = kept->before;
        free(kept);
    }
    free(api);
    return true;
}
