// SPDX-License-Identifier: MIT
#include "sim_spool.h"

#include "base/log.h"

struct opening {
    struct sim_spool *spool;
    uint64_t segment_bytes;
    int err;
};

static void swallow(void *ctx, struct bytes line)
{
    (void)ctx;
    (void)line;
}

static void open_in_host(void *ctx)
{
    struct opening *o = ctx;
    struct sim_spool *s = o->spool;
    struct spool_options options = {.directory = SIM_SPOOL_DIRECTORY,
                                    .segment_bytes = o->segment_bytes,
                                    .free_bytes_min = 65536};
    o->err = spool_open(&options, NULL, &s->spool);
    s->client = sys_loop_start("client");
    spool_start(s->spool);
}

bool sim_spool_start(struct sim_spool *s, uint64_t seed, uint64_t segment_bytes)
{
    struct opening o = {s, segment_bytes, -1};
    log_capture(swallow, NULL);
    sim_start(seed);
    s->host = sim_host_new("relay", NULL);
    return sim_host_call(s->host, open_in_host, &o) && o.err == OK;
}

static void stop_in_host(void *ctx)
{
    struct sim_spool *s = ctx;
    spool_stop(s->spool);
    sys_loop_stop(s->client);
    spool_close(s->spool);
}

bool sim_spool_stop(struct sim_spool *s)
{
    bool ok = sim_host_call(s->host, stop_in_host, s);
    sim_stop();
    return ok;
}
