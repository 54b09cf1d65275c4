// SPDX-License-Identifier: MIT
#include "cli/control_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/cli.h"

#define LINE_MAX_BYTES BUF_MAX_DEFAULT // what the service can have in an answer at all
#define SOCKET_PATH_MAX 107
#define URL_MAX_BYTES 8192
#define ERROR_MAX 1024

struct transfer {
    CURL *curl;
    struct buf received; // the body; of a stream, the line under way
    bool (*on_line)(void *ctx, struct bytes line);
    bool (*on_tick)(void *ctx);
    void *ctx;
    bool ended;   // by on_line
    bool is_long; // no time-out
};

static void give_lines(struct transfer *t)
{
    ptrdiff_t newline;
    while (!t->ended && (newline = bytes_find(buf_bytes(&t->received), '\n')) >= 0) {
        t->ended = !t->on_line(t->ctx, bytes_first(buf_bytes(&t->received), (size_t)newline));
        buf_consume(&t->received, (size_t)newline + 1);
    }
}

static size_t on_data(char *at, size_t size, size_t count, void *ctx)
{
    struct transfer *t = ctx;
    long status = 0;
    buf_add(&t->received, bytes_of(at, size * count));
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    if (t->on_line && status == 200)
        give_lines(t);
    return t->received.err || t->ended ? 0 : size * count;
}

static int on_progress(void *ctx, curl_off_t down, curl_off_t down_now, curl_off_t up,
                       curl_off_t up_now)
{
    struct transfer *t = ctx;
    (void)down;
    (void)down_now;
    (void)up;
    (void)up_now;
    return t->on_tick(t->ctx) ? 0 : 1;
}

static int explain(CURLcode code, struct bytes socket, struct buf *error)
{
    if (code == CURLE_COULDNT_CONNECT && access(socket.at, W_OK) != 0 && errno == EACCES) {
        buf_printf(error, "no permission to use the control socket %s", socket.at);
        return E_DENIED;
    }
    if (code == CURLE_COULDNT_CONNECT) {
        buf_printf(error, "posthaste is not running (nobody answers at %s)", socket.at);
        return E_CLOSED;
    }
    if (code == CURLE_OPERATION_TIMEDOUT) {
        buf_printf(error, "posthaste does not answer within %d s", CONTROL_TIMEOUT_S);
        return E_TIMEOUT;
    }
    if (code == CURLE_ABORTED_BY_CALLBACK) {
        buf_add_cstr(error, "interrupted");
        return E_AGAIN;
    }
    buf_printf(error, "talking to posthaste failed: %s", curl_easy_strerror(code));
    return E_IO;
}

static void set_up(struct transfer *t, const char *socket, const char *url)
{
    CURL *curl = t->curl;
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
    if (t->on_tick) {
        curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
    }
    if (!t->on_line && !t->is_long)
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)CONTROL_TIMEOUT_S);
}

// The service always says how long its answer is; else it died in it, or is somebody else.
static bool is_whole(struct transfer *t)
{
    curl_off_t length = -1;
    curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    return t->ended || length >= 0;
}

static void take_reply(struct transfer *t, struct control_reply *out)
{
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &out->status);
    bool taken = t->on_line && out->status == 200;
    out->body = taken || !t->received.len ? NULL : json_tokener_parse(buf_cstr(&t->received));
}

static int perform(struct transfer *t, struct bytes socket, const char *path,
                   struct json_object *body, struct control_reply *out, struct buf *error)
{
    struct curl_slist *headers = NULL;
    char url[URL_MAX_BYTES];
    if (snprintf(url, sizeof url, "http://posthaste%s", path) >= (int)sizeof url ||
        socket.len > SOCKET_PATH_MAX)
        return E_LIMIT;
    set_up(t, socket.at, url);
    if (body) {
        headers = curl_slist_append(NULL, "Content-Type: application/json");
        CHECK(headers);
        curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(t->curl, CURLOPT_POSTFIELDS,
                         json_object_to_json_string_ext(body, JSON_C_TO_STRING_PLAIN));
    }
    CURLcode code = curl_easy_perform(t->curl);
    int err = code == CURLE_OK || t->ended ? 0 : explain(code, socket, error);
    if (!err && !is_whole(t)) {
        buf_add_cstr(error, "talking to posthaste failed: its answer was cut short");
        err = E_IO;
    }
    if (!err)
        take_reply(t, out);
    curl_slist_free_all(headers);
    return err;
}

static int run(struct transfer *t, size_t max, struct bytes socket, const char *path,
               struct json_object *body, struct control_reply *out, struct buf *error)
{
    *out = (struct control_reply){0};
    CHECK(curl_global_init(CURL_GLOBAL_NOTHING) == CURLE_OK);
    t->curl = curl_easy_init();
    CHECK(t->curl);
    buf_init(&t->received, max);
    int err = perform(t, socket, path, body, out, error);
    buf_done(&t->received);
    curl_easy_cleanup(t->curl);
    return err;
}

int control_request(struct bytes socket, const char *path, struct json_object *body,
                    struct control_reply *out, struct buf *error)
{
    struct transfer t = {0};
    return run(&t, CONTROL_REPLY_MAX, socket, path, body, out, error);
}

int control_ping(struct bytes socket)
{
    struct control_reply reply = {0};
    struct buf error = {0};
    int err = control_request(socket, "/healthz", NULL, &reply, &error);
    buf_done(&error);
    json_object_put(reply.body);
    return err;
}

int control_request_long(struct bytes socket, const char *path, struct json_object *body,
                         bool (*on_tick)(void *ctx), void *ctx, struct control_reply *out,
                         struct buf *error)
{
    struct transfer t = {.is_long = true, .on_tick = on_tick, .ctx = ctx};
    return run(&t, CONTROL_REPLY_MAX, socket, path, body, out, error);
}

int control_stream(struct bytes socket, const char *path,
                   bool (*on_line)(void *ctx, struct bytes line), void *ctx,
                   struct control_reply *out, struct buf *error)
{
    struct transfer t = {.on_line = on_line, .ctx = ctx};
    return run(&t, LINE_MAX_BYTES, socket, path, NULL, out, error);
}

// ---- replies -----------------------------------------------------------------------------------------

// Several errors, of a configuration for example, stand a line each.
static void add_lines(struct buf *out, struct bytes text)
{
    struct bytes line, rest = bytes_first(text, ERROR_MAX);
    for (const char *before = ""; rest.len && bytes_cut(&rest, '\n', &line);) {
        if (!line.len)
            continue;
        buf_add_cstr(out, before);
        buf_add_visible(out, line, ERROR_MAX);
        before = "\n";
    }
}

void control_reply_error(const struct control_reply *reply, struct buf *out)
{
    struct json_object *text = NULL;
    if (json_object_is_type(reply->body, json_type_object) &&
        json_object_object_get_ex(reply->body, "error", &text) &&
        json_object_is_type(text, json_type_string))
        add_lines(out, bytes_cstr(json_object_get_string(text)));
    else
        buf_printf(out, "posthaste answered with status %ld", reply->status);
}

int control_reply_exit(const struct control_reply *reply)
{
    switch (reply->status) {
    case 200:
        return CLI_OK;
    case 400:
    case 409:
    case 422:
        return CLI_DATA;
    case 403:
        return CLI_PERMISSION;
    case 404:
        return CLI_NOT_FOUND;
    default:
        return CLI_TEMPORARY;
    }
}

void control_add_encoded(struct buf *path, struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (ascii_is_alnum(c) || memchr("-._~", c, 4))
            buf_add_byte(path, c);
        else
            buf_printf(path, "%%%02X", (unsigned char)c);
    }
}
