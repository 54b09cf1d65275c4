// SPDX-License-Identifier: MIT
//
// sim - runs seeds, each in a process of its own, and tells the result as TAP
//
//     build/sim --seeds 200 --seed0 1        the laws, over 200 seeds
//     build/sim --seeds 1 --seed0 17         one of them again; SIM_TRACE=1 prints every event, SIM_LOG=1 the
//                                            relay's log
//     build/sim test/scenario/*.scn          scenarios instead
//
// With --json the last line is the sum: lost, dup and ghost count the seeds that broke these laws, in_flight_max is the
// most that one seed's receivers took twice for a good reason, rotted counts the bits that were flipped.
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "run.h"
#include "scenario.h"

#define JOBS_MAX 64
#define SEED_CPU_SECONDS_MAX 100
#define SEED_SECONDS_MAX 900 // of real time, on a machine that does much else
#define LINES_KEPT 30

struct child {
    pid_t pid; // 0: free
    uint64_t seed;
    FILE *output;
};

static struct {
    uint64_t seeds, seed0, number, failed;
    uint32_t jobs;
    bool twice, json, quiet;
    struct child children[JOBS_MAX];
    char **files; // scenarios; NULL: seeds
    uint64_t acked, in_flight_max, rotted, lost, dup, ghost;
} sim = {.seeds = 20, .seed0 = 1, .jobs = 2};

// ---- the log: its last lines are shown when a CHECK fails ------------------------------------------

static char lines[LINES_KEPT][400];
static uint32_t line_count;

static void keep_line(void *ctx, struct bytes line)
{
    ptrdiff_t space = bytes_find(line, ' '); // the real time says nothing
    line = bytes_skip(line, (size_t)(space + 1));
    snprintf(lines[line_count++ % LINES_KEPT], sizeof lines[0], "%.6f %.*s",
             (double)sim_now_us() / 1e6, BYTES_FMT(line));
    if (getenv("SIM_LOG"))
        fprintf(stderr, "%.6f %.*s\n", (double)sim_now_us() / 1e6, BYTES_FMT(line));
}

// write(2) and _exit(2) are all that a signal handler may do here.
static void on_abort(int signal_number)
{
    uint32_t from = line_count > LINES_KEPT ? line_count - LINES_KEPT : 0;
    for (uint32_t i = from; i < line_count; i++) {
        const char *line = lines[i % LINES_KEPT];
        if (write(STDOUT_FILENO, "# ", 2) < 0 || write(STDOUT_FILENO, line, strlen(line)) < 0 ||
            write(STDOUT_FILENO, "\n", 1) < 0)
            break;
    }
    _exit(signal_number == SIGALRM || signal_number == SIGXCPU ? 4 : 3);
}

// ---- one seed ------------------------------------------------------------------------------------

static void print_facts(const struct run_facts *f)
{
    const struct book_counts *c = &f->counts;
    printf("%u sent, %u accepted, %u refused, %u broken; %u taken, %u in flight at a crash or "
           "unanswered, %u failed; "
           "%u crashes, %u disk faults, %u bits rotted (%u lost), %u peer faults; %lld s, %llu "
           "turns, %016llx\n",
           c->sent, c->accepted, c->refused, c->unknown, c->taken, c->excused, c->failed,
           f->crashes, f->disk_faults, f->rots, c->rotten, f->peer_faults,
           (long long)f->virtual_ms / 1000, (unsigned long long)f->turns,
           (unsigned long long)f->trace_hash);
}

static int check_facts(const struct run_facts *f)
{
    if (f->law)
        printf("# law %s\n", f->law);
    bool enough = f->counts.sent >= 500 && f->crashes >= RUN_CRASHES &&
                  f->disk_faults >= RUN_DISK_FAULTS && f->peer_faults >= RUN_PEER_FAULTS;
    if (!enough)
        printf("# law HARNESS: too little happened\n");
    return f->law || !enough;
}

static void prepare_child(void)
{
    signal(SIGABRT, on_abort);
#ifndef __SANITIZE_ADDRESS__
    signal(SIGSEGV, on_abort);
#endif
    signal(SIGALRM, on_abort);
    signal(SIGXCPU, on_abort);
    setrlimit(RLIMIT_CPU, &(struct rlimit){SEED_CPU_SECONDS_MAX, SEED_CPU_SECONDS_MAX + 10});
    alarm(SEED_SECONDS_MAX);
    log_setup(getenv("SIM_LOG") ? LOG_DEBUG : LOG_INFO, LOG_TEXT);
    log_capture(keep_line, NULL);
}

static _Noreturn void run_scenario(const char *file)
{
    prepare_child();
    bool ok = scenario_run(file, sim.seed0);
    if (!ok)
        printf("# law %s\n", book_first_law() ? book_first_law() : scenario_law());
    fflush(stdout);
    _exit(ok ? 0 : 1);
}

static _Noreturn void run_child(uint64_t seed)
{
    struct run_facts facts, again;
    prepare_child();
    run_seed(seed, &facts);
    int code = check_facts(&facts);
    if (sim.twice) {
        run_seed(seed, &again);
        if (again.trace_hash != facts.trace_hash) {
            printf("# law DETERMINISM: %016llx, then %016llx\n",
                   (unsigned long long)facts.trace_hash, (unsigned long long)again.trace_hash);
            code = 1;
        }
    }
    print_facts(&facts);
    fflush(stdout);
    _exit(code);
}

static void start_child(struct child *child, uint64_t seed)
{
    fflush(stdout);
    child->seed = seed;
    child->output = tmpfile();
    CHECK(child->output);
    child->pid = fork();
    CHECK(child->pid >= 0);
    if (child->pid > 0)
        return;
    dup2(fileno(child->output), STDOUT_FILENO);
    if (sim.files)
        run_scenario(sim.files[seed - sim.seed0]);
    run_child(seed);
}

// ---- results -------------------------------------------------------------------------------------

// The number in front of a word of the line, which both are there once; 0 where they are not.
static unsigned long number_before(const char *line, const char *word)
{
    const char *at = strstr(line, word);
    while (at && at > line && at[-1] >= '0' && at[-1] <= '9')
        at--;
    return at ? strtoul(at, NULL, 10) : 0;
}

static void add_facts(const char *line)
{
    if (!strstr(line, " sent, "))
        return;
    unsigned excused = (unsigned)number_before(line, " in flight");
    sim.rotted += number_before(line, " bits rotted");
    sim.acked += number_before(line, " accepted, ");
    sim.in_flight_max = excused > sim.in_flight_max ? excused : sim.in_flight_max;
}

static void add_law(const char *line)
{
    sim.lost += strcmp(line, "# law LOST\n") == 0;
    sim.dup += strcmp(line, "# law DUP\n") == 0;
    sim.ghost += strcmp(line, "# law GHOST\n") == 0;
}

static void print_output(struct child *child, bool ok)
{
    char line[1024], last[1024] = "";
    rewind(child->output);
    while (fgets(line, sizeof line, child->output)) {
        add_law(line);
        if (line[0] == '#' && (!ok || !sim.quiet))
            fputs(line, stdout);
        else if (line[0] != '#')
            snprintf(last, sizeof last, "%s", line);
    }
    last[strcspn(last, "\n")] = '\0';
    add_facts(last);
    printf("%s %llu - ", ok ? "ok" : "not ok", (unsigned long long)++sim.number);
    if (sim.files) {
        const char *slash = strrchr(sim.files[child->seed - sim.seed0], '/');
        const char *name = slash ? slash + 1 : sim.files[child->seed - sim.seed0];
        printf("%.*s\n", (int)strcspn(name, "."), name);
    } else {
        printf("seed %llu\n# %s\n", (unsigned long long)child->seed, last);
    }
}

static void finish_child(pid_t pid, int status)
{
    for (uint32_t i = 0; i < sim.jobs; i++) {
        struct child *child = &sim.children[i];
        if (child->pid != pid)
            continue;
        bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        print_output(child, ok);
        if (WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) >= 3))
            printf("# law %s\n", WIFEXITED(status) && WEXITSTATUS(status) == 4 ? "HUNG" : "CHECK");
        if (!ok && !sim.files)
            printf("# reproduce: build/sim --seeds 1 --seed0 %llu\n",
                   (unsigned long long)child->seed);
        sim.failed += !ok;
        fclose(child->output);
        child->pid = 0;
    }
}

static void run_all(void)
{
    uint64_t next = 0;
    printf("1..%llu\n", (unsigned long long)sim.seeds);
    while (sim.number < sim.seeds) {
        for (uint32_t i = 0; i < sim.jobs && next < sim.seeds; i++)
            if (!sim.children[i].pid)
                start_child(&sim.children[i], sim.seed0 + next++);
        int status;
        pid_t pid = wait(&status);
        if (pid > 0)
            finish_child(pid, status);
    }
}

// ---- options -------------------------------------------------------------------------------------

static const char usage[] =
    "usage: sim [--seeds N] [--seed0 N] [--jobs N] [--twice] [--json] [SCENARIO ...]\n"
    "  --twice  run each seed two times and compare the traces\n"
    "  --json   the last line is the sum of all\n";

static bool take_number(const char *text, uint64_t max, uint64_t *out)
{
    return bytes_to_u64(bytes_cstr(text), max, out) == OK && *out > 0;
}

static void print_sum(void)
{
    printf("{\"test\":\"%s\",\"rounds\":%llu,\"failed\":%llu,\"acked\":%llu,\"lost\":%llu,\"dup\":%"
           "llu,"
           "\"ghost\":%llu,\"in_flight_max\":%llu,\"rotted\":%llu,\"seed0\":%llu}\n",
           sim.files ? "scenario" : "sim", (unsigned long long)sim.seeds,
           (unsigned long long)sim.failed, (unsigned long long)sim.acked,
           (unsigned long long)sim.lost, (unsigned long long)sim.dup, (unsigned long long)sim.ghost,
           (unsigned long long)sim.in_flight_max, (unsigned long long)sim.rotted,
           (unsigned long long)sim.seed0);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seeds", required_argument, NULL, 'n'}, {"seed0", required_argument, NULL, '0'},
        {"jobs", required_argument, NULL, 'j'},  {"twice", no_argument, NULL, 't'},
        {"json", no_argument, NULL, 's'},        {NULL, 0, NULL, 0}};
    int option;
    uint64_t jobs = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
    bool ok = true;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'n')
            ok = take_number(optarg, 1000000, &sim.seeds) && ok;
        else if (option == '0')
            ok = take_number(optarg, UINT64_MAX >> 1, &sim.seed0) && ok;
        else if (option == 'j')
            ok = take_number(optarg, JOBS_MAX, &jobs) && ok;
        else if (option == 't')
            sim.twice = true;
        else if (option == 's')
            sim.json = true;
        else
            ok = false;
    }
    if (!ok) {
        fputs(usage, stderr);
        return 64;
    }
    if (optind < argc) {
        sim.files = argv + optind;
        sim.seeds = (uint64_t)(argc - optind);
    }
    sim.jobs = jobs < JOBS_MAX ? (uint32_t)jobs : JOBS_MAX;
    run_all();
    if (sim.json)
        print_sum();
    return sim.failed ? 1 : 0;
}
