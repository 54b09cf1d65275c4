// SPDX-License-Identifier: MIT
//
// A request at the control socket: any path, query and body, over services as they are at a first start (an empty spool and
// queue in the simulator's world; accounts, suppressions and history in files). Laws: each request is answered, once;
// the answer is JSON objects, a line each, and an error says what is wrong; who has no role gets nothing but his own mail
// and the health of the service.
//
// The first byte chooses who asks, how the body is made and cut; the second the request's row of the API's table; the
// first line of the rest is the query, then comes the body. The services are made anew now and then.
#include <ftw.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api.h"
#include "base/check.h"
#include "base/log.h"
#include "deliver/trace.h"
#include "dns/dns_query.h"
#include "fake_http.h"
#include "intake/snapshot_test.h"
#include "sim.h"
#include "store/suppress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUESTS_A_WORLD 1000
#define INPUT_MAX 4096
#define PATIENCE_MS 60000

#define CONFIG "hostname: mx.example\n"

static struct world {
    char folder[64];
    struct sim_host *host;
    struct sys_loop *main;
    struct spool *spool;
    struct queue *queue;
    struct history *history;
    struct suppress *suppress;
    struct store *store;
    struct trace *trace;
    struct conf_snapshot *snapshot;
    struct intake_port port;
    struct alerts alerts;
    struct api *api;
    unsigned requests;
} world;

// ---- what this program does without -------------------------------------------------------------------------

int dns_resolver_open(const struct dns_conf *conf, const char *zone_file, struct dns_resolver *out,
                      struct buf *error)
{
    buf_add_cstr(error, "there is no DNS");
    return E_IO;
}

void dns_resolver_close(struct dns_resolver *resolver)
{
}

void dns_query_wait(struct dns *dns, struct dns_question *questions, size_t count, int timeout_ms,
                    struct arena *arena)
{
}

void sys_process_look(struct sys_process *p, struct sys_process_use *out)
{
    *out = (struct sys_process_use){0};
}

static void swallow(void *ctx, struct bytes line)
{
    if (bytes_search(line, BYTES("a law of the program")) >= 0)
        (void)!write(STDERR_FILENO, line.at, line.len);
}

static void kick(void *ctx, uint64_t workers)
{
}

static void on_accounts_changed(void *ctx, struct store_directory *directory,
                                void (*done)(void *done_ctx), void *done_ctx)
{
    store_directory_free(directory);
    done(done_ctx);
}

static void on_certificate(void *ctx, struct domain_certificate *out)
{
    *out = (struct domain_certificate){0};
}

static void refuse(void *ctx, void (*decided)(void *decided_ctx, int err, struct bytes why),
                   void *decided_ctx)
{
    decided(decided_ctx, E_DENIED, BYTES("not here"));
}

static void look_after_keys(void *ctx, void (*done)(void *done_ctx), void *done_ctx)
{
    done(done_ctx);
}

// ---- the services -------------------------------------------------------------------------------------------

static void open_in_host(void *ctx)
{
    struct world *w = ctx;
    struct spool_options options = {.directory = "/spool",
                                    .segment_bytes = 1 << 20,
                                    .free_bytes_min = 65536,
                                    .followers = SPOOL_FOLLOWERS};
    static struct intake_counters intake_counters;
    static struct deliver_counters deliver_counters;
    static struct unsubscribe_counters unsubscribe_counters;
    static struct pickup_counters pickup_counters;
    struct bytes folder = bytes_cstr(w->folder);
    struct buf error = {0}, control = {0};
    w->snapshot = test_snapshot_parse(BYTES(CONFIG), NULL, 1, store_directory_empty());
    w->queue = queue_new(&(struct queue_options){.workers = 1, .conf = w->snapshot->conf});
    CHECK(spool_open(&options, NULL, &w->spool) == OK);
    w->main = sys_loop_start("main");
    spool_start(w->spool);
    CHECK(store_open(folder, &w->store, &error) == OK);
    CHECK(suppress_open(folder, &w->suppress, &error) == OK);
    CHECK(suppress_start(w->suppress, w->spool, &(struct suppress_policy){0}) == OK);
    CHECK(history_start(folder, w->spool, INT64_MAX / 4, 0, &w->history) == OK);
    w->trace = trace_new(65536);
    w->port = (struct intake_port){
        .spool = w->spool, .queue = w->queue, .kick = kick, .suppress = w->suppress};
    buf_printf(&control, "%s/control.sock", w->folder);
    const struct api_options api = {.http_fd = -1,
                                    .control = buf_bytes(&control),
                                    .store = w->store,
                                    .port = &w->port,
                                    .history = w->history,
                                    .trace = w->trace,
                                    .main = w->main,
                                    .intake_counters = &intake_counters,
                                    .deliver_counters = &deliver_counters,
                                    .unsubscribe_counters = &unsubscribe_counters,
                                    .pickup_counters = &pickup_counters,
                                    .alerts = &w->alerts,
                                    .policy = {.operators = -1, .readers = -1, .users = true},
                                    .accounts_changed = on_accounts_changed,
                                    .certificate = on_certificate,
                                    .upgrade = refuse,
                                    .reload = refuse,
                                    .look_after_keys = look_after_keys};
    CHECK(api_start(&api, w->snapshot, &w->api) == OK);
    buf_done(&control);
    buf_done(&error);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    return remove(path);
}

static void start_world(struct world *w)
{
    *w = (struct world){0};
    snprintf(w->folder, sizeof w->folder, "%s/api_fuzz.XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    CHECK(mkdtemp(w->folder));
    log_capture(swallow, NULL);
    sim_start(1);
    w->host = sim_host_new("relay", NULL);
    CHECK(sim_host_call(w->host, open_in_host, w));
    sim_run_ms(1000);
}

static void close_in_host(void *ctx)
{
    struct world *w = ctx;
    CHECK(api_stop(w->api));
    spool_stop(w->spool);
    history_stop(w->history);
    history_free(w->history);
    suppress_stop(w->suppress);
    suppress_close(w->suppress);
    store_close(w->store);
    sys_loop_stop(w->main);
    spool_close(w->spool);
    queue_free(w->queue);
    trace_free(w->trace);
    conf_snapshot_release(w->snapshot);
}

static void stop_world(void)
{
    struct world *w = &world;
    if (!w->host)
        return;
    CHECK(sim_host_call(w->host, close_in_host, w));
    sim_stop();
    nftw(w->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    w->host = NULL;
}

// ---- a request ------------------------------------------------------------------------------------------

static void run_in_host(void *ctx)
{
    fake_http_run(ctx);
}

static bool is_resumed(void *ctx)
{
    return !((struct MHD_Connection *)ctx)->suspended;
}

static void run(struct MHD_Connection *c)
{
    do {
        CHECK(sim_host_call(world.host, run_in_host, c));
        CHECK(sim_run_until(is_resumed, c, PATIENCE_MS));
    } while (!c->status);
    sim_run_ms(3000); // the history follows
}

static void check_answer(const struct MHD_Connection *c, bool is_health)
{
    struct bytes rest = buf_bytes(&c->answer), line;
    bool good = c->status == MHD_HTTP_OK;
    CHECK(good || c->status == 400 || c->status == 403 || c->status == 404 || c->status == 409 ||
          c->status == 503);
    CHECK(bytes_is_utf8(rest) && (good || rest.len > 0));
    while (!is_health && rest.len && bytes_cut(&rest, '\n', &line)) {
        struct json_object *value = NULL;
        enum json_tokener_error err;
        struct buf text = {0};
        buf_add(&text, line);
        value = json_tokener_parse_verbose(buf_cstr(&text), &err);
        CHECK(err == json_tokener_success && json_object_is_type(value, json_type_object));
        CHECK(good || json_object_object_get_ex(value, "error", NULL));
        json_object_put(value);
        buf_done(&text);
    }
}

// "name=value&name=value", as libmicrohttpd cuts it; in `text`.
static void take_arguments(struct MHD_Connection *c, char *text)
{
    char *next = text;
    for (size_t i = 0; i < FAKE_HTTP_ARGUMENTS && (text = strsep(&next, "&")); i++) {
        c->arguments[i].name = strsep(&text, "=");
        c->arguments[i].value = text;
    }
}

// As it is; or what the row's operation is asked for with.
static void make_body(const struct api_row *row, struct bytes given, unsigned how, struct buf *out)
{
    const char *key = strcmp(row->path, "/v1/queue") == 0 ? "action" : "op";
    if (how == 0 || !row->op)
        buf_add(out, given);
    else if (how == 1)
        buf_printf(out, "{\"%s\":\"%s\",\"args\":%.*s}", key, row->op, BYTES_FMT(given));
    else
        buf_printf(out, "{\"%s\":\"%s\",%.*s}", key, row->op, BYTES_FMT(given));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct api_row others[] = {
        {"GET", "/metrics", NULL, API_ANYBODY, NULL, NULL, false},
        {"GET", "/healthz", NULL, API_ANYBODY, NULL, NULL, false},
        {"GET", "/readyz", NULL, API_ANYBODY, NULL, NULL, false},
        {"POST", "/v1/none", NULL, API_OPERATOR, NULL, NULL, false}};
    static int ends[2] = {-1, -1};
    if (size < 2 || size > INPUT_MAX)
        return 0;
    if (ends[0] == -1) {
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        atexit(stop_world);
    }
    if (world.host && ++world.requests > REQUESTS_A_WORLD)
        stop_world();
    if (!world.host)
        start_world(&world);

    size_t which = data[1] % (api_rows_count + COUNT_OF(others));
    const struct api_row *row =
        which < api_rows_count ? &api_rows[which] : &others[which - api_rows_count];
    if (strcmp(row->path, "/v1/backup") == 0)
        return 0; // it would write wherever it is told to
    struct bytes rest = bytes_of(data + 2, size - 2), query = BYTES_NONE;
    struct buf body = {0}, text = {0};
    bytes_cut(&rest, '\n', &query);
    buf_add(&text, query);
    make_body(row, rest, data[0] & 3, &body);
    bool nobody = data[0] & 8;
    struct MHD_Connection c = {.method = data[0] & 16 ? "POST" : row->method,
                               .path = row->path,
                               .body = buf_bytes(&body),
                               .step = data[0] & 32 ? 7 : 0,
                               .fd = nobody ? -1 : ends[0]};
    take_arguments(&c, (char *)(uintptr_t)buf_cstr(&text));
    run(&c);
    check_answer(&c, which >= api_rows_count && which < api_rows_count + 3);
    CHECK(!nobody || row->needs == API_ANYBODY || c.status == MHD_HTTP_FORBIDDEN);
    fake_http_end(&c);
    buf_done(&body);
    buf_done(&text);
    return 0;
}
