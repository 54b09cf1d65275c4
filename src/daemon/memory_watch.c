// SPDX-License-Identifier: MIT
#include "daemon/memory_watch.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/log.h"
#include "sys/sys.h"

#define OVER_PERCENT 95 // of the limit: below that it is short no more

struct memory_watch {
    struct sys_process *process;
    _Atomic uint64_t max;
    _Atomic int64_t look_at_us;
    atomic_bool is_short;
    uint64_t (*free_bytes)(void *ctx);
    void *free_ctx;
    void (*on_short)(void *ctx);
    void *ctx;
};

void memory_watch_set_free(struct memory_watch *w, uint64_t (*free_bytes)(void *ctx), void *ctx)
{
    w->free_bytes = free_bytes;
    w->free_ctx = ctx;
}

void memory_watch_on_short(struct memory_watch *w, void (*tell)(void *ctx), void *ctx)
{
    w->on_short = tell;
    w->ctx = ctx;
}

void memory_watch_set_max(struct memory_watch *w, uint64_t max_bytes)
{
    uint64_t machine = sys_process_memory_max(w->process);
    atomic_store(&w->max, max_bytes ? max_bytes : machine / 10 * 9);
    atomic_store(&w->look_at_us, 0);
}

uint64_t memory_watch_max(const struct memory_watch *w)
{
    return atomic_load(&w->max);
}

struct memory_watch *memory_watch_new(struct sys_process *process, uint64_t max_bytes)
{
    struct memory_watch *w = mem_new(sizeof *w);
    w->process = process;
    memory_watch_set_max(w, max_bytes);
    return w;
}

void memory_watch_free(struct memory_watch *w)
{
    free(w);
}

static void tell(const struct memory_watch *w, bool is_short, uint64_t used)
{
    if (is_short)
        log_error("memory is short: new mail is refused", LOG_INT("bytes", used),
                  LOG_INT("bytes_max", atomic_load(&w->max)), LOG_CSTR("limit", "limits.memory"));
    else
        log_info("memory is there again: new mail is taken", LOG_INT("bytes", used));
}

static bool look(struct memory_watch *w, bool was_short)
{
    uint64_t max = atomic_load(&w->max);
    if (was_short && w->on_short)
        w->on_short(w->ctx);
    uint64_t used = sys_process_memory(w->process),
             most = was_short ? max / 100 * OVER_PERCENT : max;
    uint64_t unused = max && used >= most && w->free_bytes ? w->free_bytes(w->free_ctx) : 0;
    used -= unused < used ? unused : used;
    bool is_short = max && used >= most;
    if (is_short != was_short) {
        atomic_store(&w->is_short, is_short);
        tell(w, is_short, used);
    }
    return is_short;
}

bool memory_watch_is_short(void *watch)
{
    struct memory_watch *w = watch;
    int64_t now = sys_mono_now().us, at = atomic_load(&w->look_at_us);
    bool was_short = atomic_load(&w->is_short);
    int64_t next = now + (was_short ? MEMORY_LOOK_SHORT_MS : MEMORY_LOOK_MS) * INT64_C(1000);
    if (now < at || !atomic_compare_exchange_strong(&w->look_at_us, &at, next))
        return was_short; // another thread looks
    return look(w, was_short);
}
