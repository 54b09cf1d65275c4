// SPDX-License-Identifier: MIT
//
// Memory of this process, taken and given back: when it is said to be short.
#include "daemon/memory_watch.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "base/test_base.h"

#define MIB ((size_t)1 << 20)
#define TAKEN (64 * MIB)

static unsigned told;

static void count_lines(void *ctx, struct bytes line)
{
    (void)ctx;
    told += bytes_search(line, BYTES("memory is")) >= 0;
}

static void wait_for_look(void)
{
    usleep((MEMORY_LOOK_SHORT_MS + 50) * 1000);
}

static void test_short_and_over(void **state)
{
    (void)state;
    struct sys_process *process = sys_process_open();
    uint64_t before = sys_process_memory(process);
    struct memory_watch *w = memory_watch_new(process, before + TAKEN / 2);
    log_capture(count_lines, NULL);
    assert_true(before > 0);
    assert_false(memory_watch_is_short(w));
    char *taken = mmap(NULL, TAKEN, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    assert_true(taken != MAP_FAILED);
    wait_for_look();
    assert_true(memory_watch_is_short(w));
    wait_for_look();
    assert_true(memory_watch_is_short(w));
    assert_int_equal(told, 1);
    memory_watch_set_max(w, before + 2 * TAKEN); // a reload
    assert_false(memory_watch_is_short(w));
    memory_watch_set_max(w, before + TAKEN / 2);
    assert_true(memory_watch_is_short(w));
    munmap(taken, TAKEN);
    wait_for_look();
    assert_false(memory_watch_is_short(w));
    assert_int_equal(told, 4);
    log_capture(NULL, NULL);
    memory_watch_free(w);
    sys_process_close(process);
}

static uint64_t free_bytes;

static uint64_t tell_free(void *ctx)
{
    assert_ptr_equal(ctx, &free_bytes);
    return free_bytes;
}

// A queue that has gone out leaves places for the next: memory that stays taken, and is there.
static void test_what_is_free_inside(void **state)
{
    (void)state;
    struct sys_process *process = sys_process_open();
    struct memory_watch *w = memory_watch_new(process, sys_process_memory(process) / 2);
    log_capture(count_lines, NULL);
    memory_watch_set_free(w, tell_free, &free_bytes);
    assert_true(memory_watch_is_short(w));
    free_bytes = sys_process_memory(process) * 9 / 10;
    wait_for_look();
    assert_false(memory_watch_is_short(w));
    free_bytes = UINT64_MAX;
    wait_for_look();
    assert_false(memory_watch_is_short(w));
    free_bytes = 0;
    wait_for_look();
    assert_true(memory_watch_is_short(w));
    log_capture(NULL, NULL);
    memory_watch_free(w);
    sys_process_close(process);
}

// By itself it is what the machine has, or less.
static void test_limit_of_the_machine(void **state)
{
    (void)state;
    struct sys_process *process = sys_process_open();
    struct memory_watch *w = memory_watch_new(process, 0);
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    assert_in_range(sys_process_memory_max(process), 1, machine);
    assert_int_equal(memory_watch_max(w), sys_process_memory_max(process) / 10 * 9);
    memory_watch_free(w);
    sys_process_close(process);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_and_over),
        cmocka_unit_test(test_what_is_free_inside),
        cmocka_unit_test(test_limit_of_the_machine),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
