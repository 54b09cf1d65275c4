// SPDX-License-Identifier: MIT
//
// What a start has told stays so: a kill in the midst of a commit, a start on a full disk, which can't seal what it
// found, and then a power cut.
#include "spool/journal.h"

#include "base/log.h"
#include "sim_disk.h"
#include "spool/spool_test.h"

#define ROOT "/spool"
#define SEGMENT ((uint64_t)1 << 20)
#define WORLDS 40 // for each operation that the kill may come in
#define BATCH 8   // messages
#define BODY_BYTES 2000

// What a crashed world held is lost on purpose, as it is when a process is killed: leaks mean nothing here.
int __lsan_is_turned_off(void); // NOLINT(bugprone-reserved-identifier): its name is the sanitizer's
int __lsan_is_turned_off(void)  // NOLINT(bugprone-reserved-identifier)
{
    return 1;
}

static struct sim_host *host;
static struct journal *j;
static bool told[2 * BATCH + 1];

static void on_message(void *ctx, const struct spool_summary *s)
{
    assert_in_range(s->account, 1, COUNT_OF(told) - 1);
    told[s->account] = true;
}

static void open_journal(void *ctx)
{
    static const struct spool_recovery recovery = {NULL, on_message, NULL};
    const struct spool_options options = {.directory = ROOT, .segment_bytes = SEGMENT};
    memset(told, 0, sizeof told);
    assert_int_equal(journal_open(&options, &recovery, &j), OK);
}

// The first write is the epoch's.
static void open_on_a_full_disk(void *ctx)
{
    sim_disk_fail(sim_disk_find(ROOT), SIM_DISK_WRITE, 2, 10, E_FULL);
    open_journal(NULL);
}

static void commit_batch(uint32_t first)
{
    struct list frames, done, *link;
    list_init(&frames);
    list_init(&done);
    for (uint32_t n = first; n < first + BATCH; n++) {
        struct spool_frame *f = spool_frame_new(SPOOL_INTAKE);
        struct stored_message *m = test_message(n, BODY_BYTES);
        spool_frame_add_message(f, m);
        stored_message_unref(m);
        list_push_back(&frames, &f->link);
    }
    assert_int_equal(journal_commit(j, &frames, &done), OK);
    while ((link = list_pop_front(&done)))
        spool_frame_free(list_get(link, struct spool_frame, link));
}

static void begin(void *ctx)
{
    open_journal(NULL);
    commit_batch(1);
}

static void go_on(void *ctx)
{
    commit_batch(1 + BATCH);
}

static void swallow(void *ctx, struct bytes line)
{
}

// False: all was over before the kill.
static bool one_kill(uint64_t seed, uint64_t at, uint32_t *more)
{
    bool first[COUNT_OF(told)];
    sim_start(seed);
    host = sim_host_new("relay", NULL);
    assert_true(sim_host_call(host, begin, NULL));
    sim_host_crash_at(host, SIM_KILL, at);
    bool over = sim_host_call(host, go_on, NULL);
    if (over)
        sim_host_crash(host, SIM_KILL);
    sim_host_boot(host);
    assert_true(sim_host_call(host, open_on_a_full_disk, NULL));
    memcpy(first, told, sizeof told);
    sim_host_crash(host, SIM_POWER);
    sim_host_boot(host);
    assert_true(sim_host_call(host, open_journal, NULL));
    for (uint32_t n = 1; n < COUNT_OF(told); n++) {
        if (told[n] != first[n])
            fail_msg("seed %llu, killed at %llu: %u was told by the first start: %d, by the "
                     "second: %d",
                     (unsigned long long)seed, (unsigned long long)at, n, first[n], told[n]);
        *more += n > BATCH && told[n];
    }
    sim_stop();
    return !over;
}

static void test_what_a_start_has_told_stays(void **state)
{
    uint32_t more = 0;
    log_capture(swallow, NULL);
    for (uint64_t seed = 1; seed <= WORLDS; seed++) {
        uint64_t at = 1;
        while (one_kill(seed, at, &more))
            assert_true(++at < 100);
    }
    assert_true(more > WORLDS * BATCH); // of the batch that was killed, or this has tested nothing
    log_capture(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_start_has_told_stays),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
