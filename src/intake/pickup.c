// SPDX-License-Identifier: MIT
//
// How it works: inotify says that there is something, a pass over the directory finds what; one file a turn, so that
// a stop waits for one file at most.
#include "intake/pickup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "intake/local_input.h"
#include "intake/local_submit.h"
#include "mail/mail_local.h"
#include "sys/sys.h"
#include "sys/sys_watch.h"

#define BAD "bad"
#define NAME_SHOWN_MAX 200  // of a name in bad/, so that there is room for what is added
#define SAME_NAME_MAX 10000 // files of one name in bad/
#define REASON ".reason"

struct pickup {
    struct sys_loop *loop;
    struct sys_task begin, turn;
    struct sys_timer timer;
    struct sys_watch *watch;
    struct buf directory, socket;
    uint64_t message_size_max;
    struct pickup_counters *counters;
    int folder, bad, events;
    DIR *pass;   // NULL: none under way
    bool again;  // something has come since it began
    bool posted; // its next turn is on its way
    atomic_bool stopping;
    pthread_mutex_t line_mutex;
    int line;         // a second descriptor of the connection under way; -1: none
    bool has_taken;   // in this pass: the removals are to be made durable
    bool is_stuck;    // a file that was taken could not be removed
    uint64_t waiting; // in this pass
};

// ---- files that are refused ----------------------------------------------------------------------------------

static void write_reason(struct pickup *p, const char *name, const char *why)
{
    char path[NAME_MAX + sizeof REASON];
    struct buf text = {0};
    snprintf(path, sizeof path, "%s" REASON, name);
    int fd = openat(p->bad, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    wall_format(sys_wall(), &text);
    buf_printf(&text, " %s\n", why);
    if (fd == -1 || write(fd, text.at, text.len) != (ssize_t)text.len)
        log_error("pickup: cannot write the reason", LOG_CSTR("file", path),
                  LOG_CSTR("error", strerror(errno)));
    if (fd != -1)
        close(fd);
    buf_done(&text);
}

static void set_aside(struct pickup *p, const char *name, uint32_t uid, const char *why)
{
    char to[NAME_MAX + 1];
    int rc = -1;
    snprintf(to, sizeof to, "%.*s", NAME_SHOWN_MAX, name);
    for (int n = 1; rc == -1 && n < SAME_NAME_MAX; n++) {
        rc = renameat2(p->folder, name, p->bad, to, RENAME_NOREPLACE);
        if (rc == -1 && errno != EEXIST)
            break;
        if (rc == -1)
            snprintf(to, sizeof to, "%.*s.%d", NAME_SHOWN_MAX, name, n);
    }
    if (rc == -1) {
        log_error("pickup: cannot move a file to bad/", LOG_STR("file", bytes_cstr(name)),
                  LOG_CSTR("error", strerror(errno)));
        p->waiting++;
        return;
    }
    write_reason(p, to, why);
    atomic_fetch_add(&p->counters->refused, 1);
    log_warn("pickup: file refused", LOG_STR("file", bytes_cstr(name)), LOG_INT("uid", uid),
             LOG_STR("because", bytes_cstr(why)));
}

// ---- one file --------------------------------------------------------------------------------------------------

static int next_piece(void *ctx, struct bytes *out)
{
    return local_input_next(ctx, out);
}

static bool fail(struct local_answer *out, struct bytes why)
{
    *out = (struct local_answer){.result = LOCAL_REFUSED};
    snprintf(out->text, sizeof out->text, "%.*s", BYTES_FMT(why));
    return false;
}

// Envelope and header of a file; false: it is none that could be sent.
static bool read_message(struct local_input *in, struct local_session *s, struct mail_local *m,
                         struct arena *arena, struct local_answer *out)
{
    *m = (struct mail_local){.has_envelope = true, .domain = local_submit_hostname(s)};
    int err = local_input_header(in, &m->header);
    if (err)
        return fail(out, err == E_LIMIT ? BYTES("the header is too large")
                                        : BYTES("the header can't be read"));
    if (mail_local_read(m, arena) != OK)
        return fail(out, m->why);
    if (!m->has_sender && !m->header_sender.len)
        return fail(out, BYTES("there is no sender: X-Sender, Sender and From are missing"));
    if (!m->count)
        return fail(out, BYTES("there are no recipients: X-Receiver, To, Cc and Bcc are missing"));
    if (!m->has_sender)
        m->sender = arena_printf(arena, "<%.*s>", BYTES_FMT(m->header_sender));
    if (m->is_utf8)
        m->sender = arena_printf(arena, "%.*s SMTPUTF8", BYTES_FMT(m->sender));
    return true;
}

// Whoever stops us ends the connection: at a stop nobody may be left to take it, and a blocked read would wait for long.
static void end_line(struct pickup *p)
{
    pthread_mutex_lock(&p->line_mutex);
    if (p->line != -1)
        (void)shutdown(p->line, SHUT_RDWR);
    pthread_mutex_unlock(&p->line_mutex);
}

static void set_line(struct pickup *p, int fd)
{
    pthread_mutex_lock(&p->line_mutex);
    if (p->line != -1)
        close(p->line);
    p->line = fd;
    pthread_mutex_unlock(&p->line_mutex);
}

static struct local_session *connect_to_service(struct pickup *p, struct local_answer *out)
{
    int fd = local_submit_connect(buf_bytes(&p->socket), out);
    if (fd == -1)
        return NULL;
    set_line(p, fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (atomic_load(&p->stopping))
        end_line(p);
    return local_submit_begin(fd, out);
}

static void send_file(struct pickup *p, struct local_session *s, int fd, uint32_t uid,
                      struct local_answer *out)
{
    struct local_input in;
    struct mail_local m = {0};
    struct arena arena = {0};
    local_input_init(&in, fd, false, p->message_size_max * 2); // CRLF is added by us
    bool ok = local_submit_speak_for(s, uid, out) && read_message(&in, s, &m, &arena, out);
    struct local_message message = {.sender = m.sender,
                                    .recipients = m.recipients,
                                    .count = m.count,
                                    .header = buf_bytes(&m.out),
                                    .next = next_piece,
                                    .ctx = &in};
    if (ok)
        (void)local_submit_send(s, &message, out);
    local_input_done(&in);
    buf_done(&m.out);
    arena_done(&arena);
}

static void submit(struct pickup *p, int fd, uint32_t uid, struct local_answer *out)
{
    struct local_session *s = connect_to_service(p, out);
    if (s) {
        send_file(p, s, fd, uid, out);
        local_submit_close(s);
    }
    set_line(p, -1);
}

// Why the file can't be a message; NULL: it may be one.
static const char *unfit(int fd, struct stat *st)
{
    if (fstat(fd, st) == -1)
        return "it can't be looked at";
    if (!S_ISREG(st->st_mode))
        return "it is no plain file";
    if (st->st_nlink != 1)
        return "it has another name: whose it is can't be told";
    return st->st_size == 0 ? "it is empty" : NULL;
}

// A file that is sent must not be sent again; another that has its name by now is still to be sent.
static void remove_taken(struct pickup *p, const char *name, const struct stat *sent)
{
    struct stat st;
    p->has_taken = true;
    atomic_fetch_add(&p->counters->taken, 1);
    if (fstatat(p->folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        (st.st_ino != sent->st_ino || st.st_dev != sent->st_dev))
        return;
    if (unlinkat(p->folder, name, 0) == 0 || errno == ENOENT || errno == EISDIR)
        return; // a folder has the name by now
    p->is_stuck = true;
    log_error("pickup: a file was sent and can't be removed; nothing more is taken",
              LOG_STR("file", bytes_cstr(name)), LOG_CSTR("error", strerror(errno)),
              LOG_CSTR("remedy", "remove it, then restart the service"));
}

static void settle(struct pickup *p, const char *name, const struct stat *st,
                   const struct local_answer *answer)
{
    uint32_t uid = st->st_uid;
    char why[2 * LOCAL_SUBMIT_TEXT + 64];
    switch (answer->result) {
    case LOCAL_SENT:
        log_info("pickup: file taken", LOG_STR("file", bytes_cstr(name)), LOG_INT("uid", uid),
                 LOG_STR("answer", bytes_cstr(answer->text)));
        remove_taken(p, name, st);
        return;
    case LOCAL_REFUSED:
        if (answer->code)
            snprintf(why, sizeof why, "%s%s%d %s %s", answer->about, answer->about[0] ? ": " : "",
                     answer->code, answer->enhanced, answer->text);
        else
            snprintf(why, sizeof why, "%s", answer->text);
        set_aside(p, name, uid, why);
        return;
    case LOCAL_LATER:
    case LOCAL_DOWN:
    case LOCAL_DENIED:
        p->waiting++;
        log_info("pickup: file can't be taken now", LOG_STR("file", bytes_cstr(name)),
                 LOG_STR("because", bytes_cstr(answer->text)));
        return;
    }
}

// False: the service takes nothing now, whatever is tried.
static bool take(struct pickup *p, const char *name)
{
    struct stat st = {0};
    struct local_answer answer = {.result = LOCAL_LATER};
    if (fstatat(p->folder, name, &st, AT_SYMLINK_NOFOLLOW) == -1 || S_ISDIR(st.st_mode))
        return true;
    int fd = openat(p->folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd == -1 && (errno == ENOENT || errno == EMFILE || errno == ENFILE))
        return true;
    if (fd == -1) {
        set_aside(p, name, st.st_uid, strerror(errno));
        return true;
    }
    const char *why = unfit(fd, &st);
    if (why) {
        set_aside(p, name, st.st_uid, why);
    } else {
        submit(p, fd, st.st_uid, &answer);
        settle(p, name, &st, &answer);
    }
    close(fd);
    return answer.result != LOCAL_DOWN && answer.result != LOCAL_DENIED && answer.code != 421 &&
           answer.code != 452;
}

// ---- passes ----------------------------------------------------------------------------------------------------

static void post_turn(struct pickup *p)
{
    if (p->posted || p->is_stuck)
        return;
    p->posted = true;
    sys_post(p->loop, &p->turn);
}

static void look_again_in(struct pickup *p, int64_t ms)
{
    sys_timer_set(&p->timer, mono_add_ms(sys_mono(), ms));
}

static void end_pass(struct pickup *p)
{
    closedir(p->pass);
    p->pass = NULL;
    if (p->has_taken && fsync(p->folder) == -1)
        log_warn("pickup: the directory can't be flushed", LOG_CSTR("error", strerror(errno)));
    p->has_taken = false;
    atomic_store(&p->counters->waiting, p->waiting);
    if (p->again)
        post_turn(p);
    else
        look_again_in(p, p->waiting ? PICKUP_RETRY_MS : PICKUP_LOOK_MS);
}

static bool begin_pass(struct pickup *p)
{
    int fd = openat(p->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    p->pass = fd == -1 ? NULL : fdopendir(fd);
    p->again = false;
    p->waiting = 0;
    if (p->pass)
        return true;
    log_error("pickup: the directory can't be read", LOG_STR("directory", buf_bytes(&p->directory)),
              LOG_CSTR("error", strerror(errno)));
    if (fd != -1)
        close(fd);
    look_again_in(p, PICKUP_RETRY_MS);
    return false;
}

static void on_turn(struct sys_task *task)
{
    struct pickup *p = container_of(task, struct pickup, turn);
    const struct dirent *entry;
    p->posted = false;
    if (atomic_load(&p->stopping) || p->is_stuck || (!p->pass && !begin_pass(p)))
        return;
    do
        entry = readdir(p->pass);
    while (entry && entry->d_name[0] == '.');
    if (entry && take(p, entry->d_name))
        post_turn(p);
    else
        end_pass(p);
}

static void look(struct pickup *p)
{
    p->again = true;
    if (p->pass)
        return;
    sys_timer_stop(&p->timer);
    post_turn(p);
}

static void on_time(struct sys_timer *timer)
{
    look(container_of(timer, struct pickup, timer));
}

// What is told is not looked at: there is something.
static void on_event(void *ctx)
{
    struct pickup *p = ctx;
    char room[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    while (read(p->events, room, sizeof room) > 0)
        ;
    look(p);
}

// ---- life ------------------------------------------------------------------------------------------------------

// Anybody may make something of this name before we do; it goes out of the way, as refused mail of all would go there.
static int make_bad(struct pickup *p)
{
    struct stat st;
    char aside[64];
    if (mkdirat(p->folder, BAD, 0700) == 0)
        return 0;
    if (errno != EEXIST || fstatat(p->folder, BAD, &st, AT_SYMLINK_NOFOLLOW) == -1)
        return -1;
    if (S_ISDIR(st.st_mode) && st.st_uid == geteuid())
        return 0;
    snprintf(aside, sizeof aside, BAD "-of-uid-%u-%llu", st.st_uid, (unsigned long long)st.st_ino);
    log_warn("pickup: " BAD "/ was made by another user, it is moved aside",
             LOG_INT("uid", st.st_uid), LOG_CSTR("to", aside));
    if (renameat(p->folder, BAD, p->folder, aside) == -1)
        return -1;
    return mkdirat(p->folder, BAD, 0700);
}

static int open_folder(struct pickup *p)
{
    const char *path = buf_cstr(&p->directory);
    p->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->folder == -1 || make_bad(p) == -1)
        return -1;
    p->bad = openat(p->folder, BAD, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (p->bad == -1)
        return -1;
    p->events = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    return p->events == -1
               ? -1
               : inotify_add_watch(p->events, path, IN_MOVED_TO | IN_CLOSE_WRITE | IN_ONLYDIR);
}

static void on_begin(struct sys_task *task)
{
    struct pickup *p = container_of(task, struct pickup, begin);
    p->watch = sys_watch_open(p->events, on_event, p);
    look(p);
}

static void pickup_free(struct pickup *p)
{
    int fds[] = {p->folder, p->bad, p->events};
    for (size_t i = 0; i < COUNT_OF(fds); i++)
        if (fds[i] != -1)
            close(fds[i]);
    if (p->pass)
        closedir(p->pass);
    pthread_mutex_destroy(&p->line_mutex);
    buf_done(&p->directory);
    buf_done(&p->socket);
    free(p);
}

struct pickup *pickup_start(const struct pickup_options *options)
{
    struct pickup *p = mem_new(sizeof *p);
    p->folder = p->bad = p->events = p->line = -1;
    CHECK(pthread_mutex_init(&p->line_mutex, NULL) == 0);
    p->message_size_max = options->message_size_max;
    p->counters = options->counters;
    buf_add(&p->directory, options->directory);
    buf_add(&p->socket, options->socket);
    if (open_folder(p) == -1) {
        log_error("pickup: cannot use the directory", LOG_STR("directory", options->directory),
                  LOG_CSTR("error", strerror(errno)));
        pickup_free(p);
        return NULL;
    }
    p->begin.run = on_begin;
    p->turn.run = on_turn;
    p->timer.fire = on_time;
    p->loop = sys_loop_start("pickup");
    sys_post(p->loop, &p->begin);
    return p;
}

void pickup_stop(struct pickup *p)
{
    if (!p)
        return;
    atomic_store(&p->stopping, true);
    end_line(p);
    sys_loop_stop(p->loop);
    pickup_free(p);
}
