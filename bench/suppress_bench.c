// SPDX-License-Identifier: MIT
//
// suppress_bench - the suppression list at its size: import, load at a start, lookups, memory
//
//     suppress_bench DIRECTORY [ADDRESSES [LOOKUPS]]
//
// Fills a list of that many addresses in DIRECTORY as an import does (once; then import_per_s is 0), opens it again and loads the table, then looks
// addresses up as a session does (parsed, for account and service): half of them listed. Prints one JSON object.
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "store/suppress_list.h"

#define BATCH 8000
#define ACCOUNT 7

// Of processor time: what else runs is none of the list's cost.
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double resident_bytes(void)
{
    char line[128] = "";
    char *second = NULL;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fgets(line, sizeof line, f))
        second = strchr(line, ' ');
    if (f)
        fclose(f);
    return second ? (double)strtol(second, NULL, 10) * (double)sysconf(_SC_PAGESIZE) : 0;
}

// Spread over domains and the alphabet, as a list's addresses are.
static struct bytes address_of(uint64_t n, char *out, size_t cap)
{
    uint64_t mixed = n * UINT64_C(0x9E3779B97F4A7C15);
    int len = snprintf(out, cap, "%c%c.user%llu@mail%llu.example.com", (char)('a' + mixed % 26),
                       (char)('a' + (mixed >> 8) % 26), (unsigned long long)n,
                       (unsigned long long)((mixed >> 16) % 5000));
    return bytes_of(out, (size_t)len);
}

static struct suppress_list *open_list(const char *folder, struct suppress_table *table)
{
    struct suppress_list *list;
    struct buf error = {0};
    CHECK(suppress_list_open(bytes_cstr(folder), table, &list, &error) == OK);
    buf_done(&error);
    return list;
}

// Seconds; 0: an earlier run has filled it.
static double fill(const char *folder, uint64_t count)
{
    char marker[4096];
    snprintf(marker, sizeof marker, "%s/filled-%llu", folder, (unsigned long long)count);
    if (access(marker, F_OK) == 0)
        return 0;
    struct suppress_list *list = open_list(folder, NULL);
    char text[96];
    bool changed;
    double began = seconds();
    for (uint64_t n = 0; n < count;) {
        CHECK(suppress_list_begin(list) == OK);
        for (int i = 0; i < BATCH && n < count; i++, n++) {
            struct suppress_entry e = {.scope = n % 2 ? SUPPRESS_ACCOUNT : SUPPRESS_SERVICE,
                                       .account = ACCOUNT,
                                       .address = address_of(n, text, sizeof text),
                                       .reason = SUPPRESS_MANUAL};
            CHECK(suppress_list_import(list, &e, BYTES("bench"), (struct wall){1}, &changed) == OK);
        }
        CHECK(suppress_list_commit(list) == OK);
    }
    double took = seconds() - began;
    suppress_list_close(list);
    FILE *f = fopen(marker, "we");
    CHECK(f && fclose(f) == 0);
    return took;
}

static bool may_hit(struct suppress_table *table, struct bytes address)
{
    struct suppress_address a;
    if (suppress_address_parse(address, &a))
        return false;
    struct bytes canonical = suppress_address_text(&a);
    return suppress_table_has(table,
                              suppress_key_hash(table, SUPPRESS_NOBODY, BYTES_NONE, canonical)) ||
           suppress_table_has(table, suppress_key_hash(table, ACCOUNT, BYTES_NONE, canonical));
}

// The addresses are made before: what is measured is the lookup.
static double look_up(struct suppress_table *table, uint64_t count, uint64_t lookups)
{
    char(*texts)[96] = mem_new(lookups * sizeof *texts);
    struct bytes *addresses = mem_new(lookups * sizeof *addresses);
    uint64_t hits = 0, random = 1;
    for (uint64_t i = 0; i < lookups; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        addresses[i] =
            address_of((random >> 20) % count + (i % 2 ? count : 0), texts[i], sizeof texts[i]);
    }
    double began = cpu_seconds();
    for (uint64_t i = 0; i < lookups; i++)
        hits += may_hit(table, addresses[i]);
    double took = cpu_seconds() - began;
    CHECK(hits >= lookups / 2 && hits < lookups / 2 + 10);
    free(addresses);
    free(texts);
    return took * 1e9 / (double)lookups;
}

int main(int argc, char **argv)
{
    uint64_t count = 10000000, lookups = 2000000;
    static struct suppress_table table;
    bool all = false;
    if (argc < 2 || (argc > 2 && bytes_to_u64(bytes_cstr(argv[2]), 1000000000, &count)) ||
        (argc > 3 && bytes_to_u64(bytes_cstr(argv[3]), 1000000000, &lookups)) || !count || !lookups)
        return 64;
    double import_s = fill(argv[1], count), before = resident_bytes();
    suppress_table_init(&table);
    struct suppress_list *list = open_list(argv[1], &table);
    double began = seconds();
    while (!all)
        CHECK(suppress_list_load(list, 10000, &all) == OK);
    double load_s = seconds() - began;
    suppress_list_close(list);
    malloc_trim(0);
    double resident = resident_bytes() - before;
    CHECK(suppress_table_count(&table) == count);
    printf("{\"addresses\":%llu,\"import_per_s\":%.0f,\"load_s\":%.2f,\"ns_per_lookup\":%.0f,"
           "\"bytes_per_address\":%.2f,\"resident_bytes_per_address\":%.2f}\n",
           (unsigned long long)count, import_s > 0 ? (double)count / import_s : 0, load_s,
           look_up(&table, count, lookups), (double)suppress_table_bytes(&table) / (double)count,
           resident / (double)count);
    suppress_table_done(&table);
    return 0;
}
