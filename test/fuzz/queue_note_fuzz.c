// SPDX-License-Identifier: MIT
//
// Notes of the journal, which a restart reads before its mail: what lanes had sent, what is held, how far the wall clock
// had jumped. Whatever they say, each is taken or refused; what is saved from what was taken is taken again.
//
// The input is notes, a NUL behind each: name, space, value.
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "conf/conf.h"
#include "intake/wall_jumps.h"
#include "queue/queue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct queue_now now = {{1000000000}, {1795327200000000}};

static void swallow(void *ctx, struct bytes line)
{
    if (bytes_search(line, BYTES("a law of the program")) >= 0)
        (void)!write(STDERR_FILENO, line.at, line.len);
}

static struct queue *make_queue(const struct conf *conf)
{
    return queue_new(&(struct queue_options){.workers = 1, .seed = 1, .conf = conf});
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct conf *conf;
    struct buf errors = {0};
    if (!conf)
        CHECK(conf_load_text(BYTES("hostname: relay.test\n"
                                   "lanes: [{match: slow.test, messages_per_hour: 10}]\n"),
                             "t.yaml", "/", &conf, &errors) == OK);
    log_capture(swallow, NULL);
    struct queue *q = make_queue(conf), *again = make_queue(conf);
    struct wall_jumps jumps = {0};
    struct bytes rest = bytes_of(data, size), line, name;
    while (rest.len && bytes_cut(&rest, '\0', &line)) {
        bytes_cut(&line, ' ', &name);
        int err = queue_restore(q, name, line, now);
        CHECK(err == OK || err == E_SYNTAX || err == E_LIMIT);
        (void)wall_jumps_restore(&jumps, name, line);
    }
    struct queue_note note = {.name = ""};
    struct queue_hold_row holds[16];
    struct queue_lane_row lanes[16];
    uint64_t cursor = 0;
    while (queue_save_next(q, &cursor, now, &note)) {
        struct bytes value = bytes_of(note.value, note.value_len);
        int err = queue_restore(again, bytes_cstr(note.name), value, now);
        // An empty one ends the note before it. One more than the largest number that is taken, 292 years, may have come
        // of rounding up.
        CHECK(err == OK || !value.len || bytes_search(value, BYTES("=9223372036855")) >= 0);
    }
    for (cursor = 0; queue_holds(q, &cursor, holds, COUNT_OF(holds)) > 0;)
        ;
    for (cursor = 0; queue_lanes(q, &cursor, now, lanes, COUNT_OF(lanes)) > 0;)
        ;
    queue_free(q);
    queue_free(again);
    buf_done(&errors);
    return 0;
}
