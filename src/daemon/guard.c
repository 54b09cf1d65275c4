// SPDX-License-Identifier: MIT
//
// How it works: the guard is one thread in one poll(2) loop over signals (signalfd), the channel to the relay, and a
// timer for looking at the certificate files. A peer can hold it for SEND_PATIENCE_S at most.
#include "daemon/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "conf/conf_fixed.h"
#include "daemon/channel.h"
#include "daemon/guard_files.h"
#include "daemon/guard_hook.h"
#include "daemon/guard_notify.h"
#include "daemon/guard_signer.h"
#include "daemon/guard_sockets.h"
#include "daemon/guard_upgrade.h"
#include "daemon/guard_users.h"
#include "daemon/predecessor.h"
#include "daemon/relay.h"
#include "daemon/roles.h"
#include "net/tls_certificate.h"
#include "sys/safe_folder.h"

#define SECRET_FILE_MAX ((size_t)1 << 20)
#define CERTIFICATE_CHECK_MS 2000
#define RESTART_FIRST_MS 100
#define RESTART_MAX_MS 10000
#define KILL_AFTER_GRACE_MS 5000
#define SEND_PATIENCE_S 5
#define UPGRADE_GRACE_MS 2000 // for running transactions
#define UPGRADE_KILL_MS 2000
#define UPGRADE_REFUSED                                                                            \
    "the installed program does not start, or refuses the configuration; the service's log says "  \
    "more, and the running program goes on"

#define RELAY_UNTOLD "the relay cannot be told, and goes on as it is"
#define RELOAD_REFUSED "running; the last reload was refused, the log says why"

// What the relay gets beside the sockets. `conf` NULL: there is none.
struct setup {
    struct conf *conf;
    struct conf_host host;
    struct buf text, certificate;
    struct guard_files files;
    struct buf restart; // "http.address, workers": what the text has otherwise than the start
    uint32_t key;       // the number of the certificate's
    struct timespec certificate_changed, key_changed;
    struct roles roles;
};

struct guard {
    const char *config, *ready_file;
    struct setup good,
        next;           // what the relay works with; what it has been sent and not answered yet
    struct buf started; // the text of the start: what it says of the keys that need a restart holds
    bool again;         // a reload was asked for meanwhile
    char reload_by[64], again_by[64]; // whose reload it is: what CHANNEL_RELOADED begins with
    struct guard_signer signer;
    struct timespec certificate_seen,
        key_seen; // of the good files; a refused reload has seen them, too
    struct guard_sockets sockets;
    int signals, channel;
    pid_t relay;
    struct guard_upgrade next_program;
    struct guard_hook hook;
    bool ready, stopping, upgrading;                 // ready: a relay has served
    bool serving;                                    // this one does
    int64_t stop_at_ms, restart_at_ms, signer_at_ms; // monotonic; 0: not set
    int64_t restart_delay_ms;
    int exit_code;
};

static void setup_done(struct setup *s)
{
    conf_free(s->conf);
    buf_done(&s->text);
    buf_done(&s->certificate);
    guard_files_done(&s->files);
    buf_done(&s->restart);
    *s = (struct setup){0};
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// ---- files ---------------------------------------------------------------------------------------------

// In one piece of memory: what is read may have to be wiped.
static int read_whole(int fd, size_t size, size_t max, struct buf *out)
{
    buf_init(out, max);
    for (buf_reserve(out, size + 4096);;) {
        char *room = buf_reserve(out, 4096);
        if (!room)
            return E_LIMIT;
        ssize_t n = read(fd, room, 4096);
        if (n == 0)
            return OK;
        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1)
            return E_IO;
        buf_commit(out, (size_t)n);
    }
}

// Reads a file and when it last changed; logs what is wrong with it.
static int read_file(const char *what, const char *path, size_t max, struct buf *out,
                     struct timespec *out_changed)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO must not hang us
    struct stat st;
    int e = fd == -1 || fstat(fd, &st) == -1 ? errno : 0;
    if (e || S_ISFIFO(st.st_mode)) { // it would be empty, which may be a right configuration
        log_error("cannot read file", LOG_CSTR("what", what), LOG_CSTR("file", path),
                  LOG_CSTR("error", e ? strerror(e) : "it is a FIFO"));
        if (fd != -1)
            close(fd);
        return e ? err_from_errno(e) : E_SYNTAX;
    }
    int err = read_whole(fd, (size_t)st.st_size, max, out);
    close(fd);
    if (err) {
        log_error("cannot read file", LOG_CSTR("what", what), LOG_CSTR("file", path), LOG_ERR(err));
        buf_done(out);
        return err;
    }
    if (out_changed)
        *out_changed = st.st_mtim;
    return OK;
}

static void wipe(struct buf *secret)
{
    if (secret->at)
        explicit_bzero(secret->at, secret->cap);
    buf_done(secret);
}

static int read_certificate(struct setup *s, struct buf *key)
{
    const struct conf *conf = s->conf;
    if (conf->tls.self_signed)
        return tls_certificate_make(conf->hostname, &s->certificate, key);
    if (!conf->tls.certificate.len)
        return OK;
    int err = read_file("certificate", conf->tls.certificate.at, SECRET_FILE_MAX, &s->certificate,
                        &s->certificate_changed);
    if (!err)
        err = read_file("private key", conf->tls.key.at, SECRET_FILE_MAX, key, &s->key_changed);
    return err;
}

// The key stays here; what goes on is its number.
static int load_certificate(struct guard *g, struct setup *s, struct buf *errors)
{
    struct buf key = {0};
    char reason[NET_TLS_REASON];
    int err = read_certificate(s, &key);
    if (err)
        buf_printf(errors, "error: tls.certificate or tls.key cannot be read: %s\n", err_text(err));
    if (!err && s->certificate.len) {
        guard_signer_hold(&g->signer, g->good.key);
        err = guard_signer_add(&g->signer, buf_bytes(&s->certificate), buf_bytes(&key), &s->key,
                               reason);
        if (err) {
            fprintf(stderr, "error: tls.certificate or tls.key: %s\n", reason);
            buf_printf(errors, "error: tls.certificate or tls.key: %s\n", reason);
        }
    }
    wipe(&key);
    return err;
}

static bool changed(const char *path, const struct timespec *known)
{
    struct stat st;
    return stat(path, &st) == 0 &&
           (st.st_mtim.tv_sec != known->tv_sec || st.st_mtim.tv_nsec != known->tv_nsec);
}

static bool certificate_changed(const struct guard *g)
{
    const struct conf *conf = g->good.conf;
    return !conf->tls.self_signed && conf->tls.certificate.len &&
           (changed(conf->tls.certificate.at, &g->certificate_seen) ||
            changed(conf->tls.key.at, &g->key_seen));
}

static void see(const char *path, struct timespec *out)
{
    struct stat st;
    if (stat(path, &st) == 0)
        *out = st.st_mtim;
}

// Before a reload: what it may refuse is not tried again until it changes again.
static void see_certificate(struct guard *g)
{
    const struct conf *conf = g->good.conf;
    if (conf->tls.self_signed || !conf->tls.certificate.len)
        return;
    see(conf->tls.certificate.at, &g->certificate_seen);
    see(conf->tls.key.at, &g->key_seen);
}

// ---- configuration -------------------------------------------------------------------------------------

static int read_config_text(const char *path, struct buf *out)
{
    if (path)
        return read_file("configuration", path, CONF_FILE_MAX, out, NULL);
    buf_init(out, 0);
    buf_add(out, conf_default_text());
    return OK;
}

// At the start: kill -9 and a start at once must not meet the sockets and locks of what is just dying.
static int wait_for_predecessor(const struct conf *conf)
{
    pid_t pid = 0;
    int err = predecessor_wait(conf->control.at, &pid);
    if (err)
        log_error("posthaste runs already with this configuration's control socket",
                  LOG_INT("pid", pid), LOG_STR("control", conf->control),
                  LOG_CSTR("remedy", "stop it, or use other folders for this one"));
    return err;
}

// Reads the file and those that it names, and opens the sockets: g->next, if all of that works. Errors have been shown;
// `errors` has those of the file, of the certificate and of the listeners.
static int load(struct guard *g, struct buf *errors)
{
    struct setup *s = &g->next;
    int err = read_config_text(g->config, &s->text);
    if (!err) {
        err = relay_parse_config(buf_bytes(&s->text), g->config, &s->host, &s->conf, errors);
        if (!err && geteuid() == 0) // else it stays who it is
            err = guard_users_check(s->conf, errors);
        if (!err)
            err = roles_find(s->conf, &s->roles, errors);
        if (!err && g->good.conf)
            conf_keep_fixed(s->conf, g->good.conf, &s->restart);
        if (errors->len)
            (void)!write(STDERR_FILENO, errors->at, errors->len);
    }
    if (!err) {
        if (!g->good.conf)
            log_setup(s->conf->log.level, s->conf->log.format);
        err = load_certificate(g, s, errors);
    }
    if (!err)
        guard_files_read(&s->files, s->conf);
    if (!err && !g->good.conf)
        err = wait_for_predecessor(s->conf);
    if (!err)
        err = guard_sockets_open(&g->sockets, s->conf, g->good.conf != NULL, errors);
    if (err)
        setup_done(s);
    return err;
}

// The relay works with it: from now on this is what another relay gets.
static void accept_next(struct guard *g)
{
    setup_done(&g->good);
    g->good = g->next;
    g->certificate_seen = g->good.certificate_changed;
    g->key_seen = g->good.key_changed;
    g->next = (struct setup){0};
    guard_sockets_settle(&g->sockets);
    log_setup(g->good.conf->log.level, g->good.conf->log.format);
}

static void drop_next(struct guard *g)
{
    setup_done(&g->next);
    guard_sockets_revert(&g->sockets, g->good.conf);
}

static int send_roles(struct guard *g, const struct setup *s)
{
    struct buf text = {0};
    roles_format(&s->roles, &text);
    int err = channel_send(g->channel, CHANNEL_ROLES, buf_bytes(&text), -1);
    buf_done(&text);
    return err;
}

static int send_all(struct guard *g, const struct setup *s)
{
    struct bytes name = bytes_cstr(g->config);
    int err = channel_send_contents(g->channel, CHANNEL_CONFIG, name, buf_bytes(&s->text));
    char key[16];
    snprintf(key, sizeof key, "%u", s->key);
    if (!err)
        err = channel_send(g->channel, CHANNEL_HOST, bytes_cstr(s->host.name), -1);
    if (!err && s->certificate.len)
        err = channel_send_contents(g->channel, CHANNEL_CERTIFICATE, bytes_cstr(key),
                                    buf_bytes(&s->certificate));
    if (!err)
        err = guard_files_send(g->channel, &s->files);
    if (!err)
        err = send_roles(g, s);
    if (!err)
        err = guard_users_send(g->channel, s->conf);
    for (int i = 0; i < g->sockets.count && !err; i++) {
        struct guard_socket *socket = &g->sockets.at[i];
        if (socket->wanted)
            err = channel_send(g->channel,
                               guard_socket_is_http(socket) ? CHANNEL_HTTP : CHANNEL_LISTENER,
                               bytes_cstr(socket->name), socket->fd);
    }
    return err ? err : channel_send(g->channel, CHANNEL_COMMIT, BYTES_NONE, -1);
}

// For another relay than the first: that one has it from the configuration.
static int send_started(struct guard *g)
{
    struct bytes text = buf_bytes(&g->started);
    return bytes_eq(text, buf_bytes(&g->good.text))
               ? OK
               : channel_send_contents(g->channel, CHANNEL_STARTED, BYTES_NONE, text);
}

#define RELOAD_ASKED "asked"             // by the relay, which waits for the answer
#define RELOAD_CERTIFICATE "certificate" // has changed

// The relay keeps the audit log, and may have asked.
static void tell_reloaded(struct guard *g, bool done, struct bytes why)
{
    struct buf text = {0};
    if (!g->reload_by[0] || g->channel == -1)
        return;
    buf_printf(&text, "%s\n%s\n%.*s", g->reload_by, done ? "done" : "failed", BYTES_FMT(why));
    if (channel_send(g->channel, CHANNEL_RELOADED, buf_bytes(&text), -1) != OK)
        log_error("the relay does not listen");
    g->reload_by[0] = 0;
    buf_done(&text);
}

static void tell_applied(struct guard *g)
{
    struct bytes restart = buf_bytes(&g->good.restart);
    log_info("reloaded");
    if (restart.len)
        log_warn("changed, and holds after a restart", LOG_STR("settings", restart));
    tell_reloaded(g, true, restart);
}

static void reload(struct guard *g, const char *why, const char *by)
{
    struct buf errors = {0};
    if (g->stopping || g->upgrading) // the next program reads it anyway
        return;
    if (g->next.conf || !g->serving) { // once the relay has answered
        if (!g->again || strcmp(g->again_by, RELOAD_ASKED) != 0)
            snprintf(g->again_by, sizeof g->again_by, "%s", by);
        g->again = true;
        return;
    }
    g->again = false;
    snprintf(g->reload_by, sizeof g->reload_by, "%s", by);
    log_info("reloading", LOG_CSTR("because", why));
    guard_notify_reloading();
    see_certificate(g);
    int err = load(g, &errors);
    if (err) {
        log_error("reload refused, the old configuration goes on", LOG_ERR(err));
        tell_reloaded(g, false,
                      errors.len ? bytes_trim(buf_bytes(&errors)) : BYTES("its log says why"));
        guard_notify_ready(RELOAD_REFUSED);
    } else if (send_all(g, &g->next) != OK) {
        log_error("the relay does not take the new configuration");
        drop_next(g);
        tell_reloaded(g, false, BYTES(RELAY_UNTOLD));
        guard_notify_ready(RELOAD_REFUSED);
    }
    buf_done(&errors);
}

static void reload_again(struct guard *g)
{
    char by[sizeof g->again_by];
    snprintf(by, sizeof by, "%s", g->again_by);
    if (g->again)
        reload(g, "asked for meanwhile", by);
}

// ---- the relay process ---------------------------------------------------------------------------------

// By its descriptor: who may write above it could put another in its place.
static int give_directory(const char *path, const struct passwd *user)
{
    struct stat st;
    int fd = safe_folder_open(path);
    int e = fd == -1 || fstat(fd, &st) == -1 ? errno : 0;
    if (!e && (st.st_uid != user->pw_uid || st.st_gid != user->pw_gid) &&
        fchownat(fd, "", user->pw_uid, user->pw_gid, AT_EMPTY_PATH) == -1)
        e = errno;
    if (fd != -1)
        close(fd);
    return e;
}

// Makes a directory the relay's own, so that it can work in it without privileges.
static int own_directory(const char *path, const struct passwd *user)
{
    if (mkdir(path, 0700) == -1 && errno != EEXIST) {
        int e = errno;
        log_error("cannot make directory", LOG_CSTR("directory", path),
                  LOG_CSTR("error", strerror(e)));
        return err_from_errno(e);
    }
    int e = user ? give_directory(path, user) : 0;
    if (e) {
        log_error("cannot give directory to user", LOG_CSTR("directory", path),
                  LOG_CSTR("user", user->pw_name), LOG_CSTR("error", safe_folder_why(e)));
        return safe_folder_err(e);
    }
    return OK;
}

// A folder that is there stays as the operator made it. All may drop, nobody may look; what is dropped belongs to the
// folder's group, so that the relay can read it.
static int make_pickup(const struct conf *conf, const struct passwd *user)
{
    struct stat st;
    const char *path = conf->sendmail.pickup.at;
    if (!path || stat(path, &st) == 0)
        return OK;
    int err = own_directory(path, user);
    if (err)
        return err;
    int folder = safe_folder_open(path);
    int fd = folder == -1 ? -1 : openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd == -1 || (fchmod(fd, 03733) == -1 && fchmod(fd, 01733) == -1)) {
        log_error("cannot open directory to all users", LOG_CSTR("directory", path),
                  LOG_CSTR("error", safe_folder_why(errno)));
        err = E_DENIED;
    }
    if (fd != -1)
        close(fd);
    if (folder != -1)
        close(folder);
    return err;
}

static int find_user(const struct conf *conf, const struct passwd **out)
{
    *out = NULL;
    if (geteuid() != 0)
        return OK;
    if (!conf->user.len) {
        log_warn("running as root: set `user` so that the relay process has no privileges");
        return OK;
    }
    *out = getpwnam(conf->user.at);
    if (*out)
        return OK;
    log_error("no such user", LOG_STR("user", conf->user));
    return E_NOT_FOUND;
}

// Mail and keys must not end in a core file.
static void forbid_core(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static void drop_privileges(const struct passwd *user)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    umask(077);
    if (user && (initgroups(user->pw_name, user->pw_gid) == -1 || setgid(user->pw_gid) == -1 ||
                 setuid(user->pw_uid) == -1)) {
        log_error("cannot become user", LOG_CSTR("user", user->pw_name));
        _exit(EX_NOPERM);
    }
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    forbid_core(); // after setuid, which may undo it
}

// In a child of the guard: what is the guard's alone, and its privileges, are given up.
static void leave_guard(struct guard *g, const struct passwd *user)
{
    sigset_t all;
    sigemptyset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    // The terminal's ^C and a service manager's group signals are the guard's to answer.
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    close(g->signals);
    if (g->channel != -1)
        close(g->channel);
    guard_sockets_close(&g->sockets);
    guard_files_done(&g->good.files); // with passwords; the relay is sent its own
    guard_files_done(&g->next.files);
    drop_privileges(user);
}

static _Noreturn void become_relay(struct guard *g, int channel, const struct passwd *user,
                                   pid_t guard_pid)
{
    guard_signer_done(&g->signer); // before anything else: what it has is not for the relay
    leave_guard(g, user);
    prctl(PR_SET_PDEATHSIG, SIGKILL); // after setuid, which clears it
    if (getppid() != guard_pid)
        _exit(EX_TEMPFAIL);
    _exit(relay_main(channel));
}

static int start_relay(struct guard *g)
{
    const struct passwd *user;
    int fds[2], err = find_user(g->good.conf, &user);
    if (!err)
        err = own_directory(g->good.conf->spool.at, user);
    if (!err)
        err = own_directory(g->good.conf->state.at, user);
    if (!err)
        err = make_pickup(g->good.conf, user);
    if (err || (err = channel_pair(fds)) != OK)
        return err;
    // One that does not listen any more must not hold us.
    (void)setsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){SEND_PATIENCE_S, 0},
                     sizeof(struct timeval));
    pid_t guard_pid = getpid(), pid = fork();
    if (pid == 0) {
        int own_end = fds[1];
        g->channel = fds[0];
        become_relay(g, own_end, user, guard_pid);
    }
    close(fds[1]);
    if (pid == -1) {
        close(fds[0]);
        log_error("cannot start the relay process", LOG_CSTR("error", strerror(errno)));
        return E_IO;
    }
    g->relay = pid;
    g->channel = fds[0];
    err = send_started(g);
    if (!err)
        err = send_all(g, &g->good);
    if (err)
        kill(pid, SIGKILL); // it would wait for the rest for ever, and the next one for it
    return err;
}

struct leaving {
    struct guard *guard;
    const struct passwd *user;
};

static void leave_for_child(void *ctx)
{
    struct leaving *l = ctx;
    leave_guard(l->guard, l->user);
}

static int start_signer(struct guard *g)
{
    struct leaving leaving = {.guard = g};
    int err = find_user(g->good.conf, &leaving.user);
    if (!err)
        err = guard_signer_start(&g->signer, g->good.conf->dkim.master_key.at, leave_for_child,
                                 &leaving);
    if (err)
        log_error("cannot start the signer process", LOG_ERR(err));
    return err;
}

// What is told of alerts is no root's where there is a user for it.
static void start_hook(struct guard *g)
{
    const struct conf *conf = g->good.conf;
    struct leaving leaving = {.guard = g};
    if (geteuid() == 0 && conf->user.len)
        leaving.user = getpwnam(conf->user.at);
    if (!conf->user.len || leaving.user || geteuid() != 0)
        guard_hook_next(&g->hook, conf, leave_for_child, &leaving, now_ms());
}

// ---- upgrade -------------------------------------------------------------------------------------------

static void refuse_upgrade(struct guard *g, const char *why)
{
    log_error("upgrade refused, the running program goes on",
              LOG_CSTR("program", g->next_program.program));
    if (channel_send(g->channel, CHANNEL_UPGRADE_REFUSED, bytes_cstr(why), -1) != OK)
        log_error("the relay does not listen");
}

// The relay ends first: it is the only one that may write in the spool. Whoever connects meanwhile waits in the
// backlog of the sockets that stay open.
static void upgrade(struct guard *g)
{
    if (g->stopping || g->upgrading)
        return;
    if (!guard_upgrade_agrees(&g->next_program)) {
        refuse_upgrade(g, UPGRADE_REFUSED);
        return;
    }
    log_info("upgrading", LOG_CSTR("program", g->next_program.program),
             LOG_CSTR("from", POSTHASTE_VERSION));
    guard_notify_reloading();
    char grace[16];
    snprintf(grace, sizeof grace, "%d", UPGRADE_GRACE_MS);
    if (channel_send(g->channel, CHANNEL_STOP, bytes_cstr(grace), -1) != OK) {
        refuse_upgrade(g, RELAY_UNTOLD);
        guard_notify_ready("running");
        return;
    }
    g->upgrading = true;
    g->stop_at_ms = now_ms() + UPGRADE_GRACE_MS + UPGRADE_KILL_MS;
}

// ---- events --------------------------------------------------------------------------------------------

static void format_place(const struct guard_socket *s, struct buf *out)
{
    char ip[SYS_ADDR_TEXT];
    if (s)
        buf_printf(out, "{\"address\":\"%s\",\"port\":%u}", sys_addr_format_ip(&s->address, ip),
                   s->address.port);
    else
        buf_add_cstr(out, "null");
}

static void format_ready(struct guard *g, const char *control, struct buf *out)
{
    char ip[SYS_ADDR_TEXT];
    buf_printf(out, "{\"pid\":%d,\"version\":\"%s\",\"control\":\"", getpid(), POSTHASTE_VERSION);
    buf_add_json(out, bytes_cstr(control));
    buf_add_cstr(out, "\",\"listeners\":[");
    const struct guard_socket *http = NULL, *unsubscribe = NULL;
    const char *comma = "";
    for (int i = 0; i < g->sockets.count; i++) {
        const struct guard_socket *s = &g->sockets.at[i];
        if (guard_socket_is_http(s)) {
            *(s->name[0] ? &unsubscribe : &http) = s;
            continue;
        }
        buf_printf(out, "%s{\"name\":\"", comma);
        buf_add_json(out, bytes_cstr(s->name));
        buf_printf(out, "\",\"address\":\"%s\",\"port\":%u}", sys_addr_format_ip(&s->address, ip),
                   s->address.port);
        comma = ",";
    }
    buf_add_cstr(out, "],\"http\":");
    format_place(http, out);
    buf_add_cstr(out, ",\"unsubscribe\":");
    format_place(unsubscribe, out);
    buf_add_cstr(out, "}\n");
}

// Whole or not at all: written beside and renamed.
static void write_ready_file(struct guard *g, const char *control)
{
    if (!g->ready_file)
        return;
    struct buf text = {0}, temporary = {0};
    format_ready(g, control, &text);
    buf_printf(&temporary, "%s.%d", g->ready_file, getpid());
    int fd = open(buf_cstr(&temporary), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool ok = fd != -1 && write(fd, text.at, text.len) == (ssize_t)text.len;
    if (fd != -1 && close(fd) == -1)
        ok = false;
    if (!ok || rename(temporary.at, g->ready_file) == -1)
        log_error("cannot write the ready file", LOG_CSTR("file", g->ready_file),
                  LOG_CSTR("error", strerror(errno)));
    buf_done(&text);
    buf_done(&temporary);
}

static void tell_stray(const struct channel_message *m)
{
    log_error("the relay sent what it should not", LOG_INT("kind", m->kind));
}

// A relay that is taken over may answer what it was not asked.
static bool expects_answer(const struct guard *g, const struct channel_message *m)
{
    if (!g->next.conf)
        tell_stray(m);
    return g->next.conf != NULL;
}

static void on_message(struct guard *g, const struct channel_message *m)
{
    switch (m->kind) {
    case CHANNEL_READY:
        g->ready = g->serving = true;
        g->restart_delay_ms = RESTART_FIRST_MS;
        guard_notify_ready("running");
        log_info("ready", LOG_INT("pid", getpid()), LOG_CSTR("control", m->text));
        for (int i = 0; i < g->sockets.count; i++) {
            char text[SYS_ADDR_TEXT];
            log_info(
                "listening",
                LOG_CSTR("listener", g->sockets.at[i].name[0] ? g->sockets.at[i].name : "http"),
                LOG_CSTR("address", sys_addr_format(&g->sockets.at[i].address, text)));
        }
        write_ready_file(g, m->text); // last: who waits for it finds the rest done
        reload_again(g);
        break;
    case CHANNEL_APPLIED:
        if (!expects_answer(g, m))
            break;
        accept_next(g);
        write_ready_file(g, m->text);
        guard_notify_ready("running");
        tell_applied(g);
        reload_again(g);
        break;
    case CHANNEL_REFUSED:
        if (!expects_answer(g, m))
            break;
        log_error("reload refused, the old configuration goes on", LOG_CSTR("because", m->text));
        drop_next(g);
        tell_reloaded(g, false, bytes_cstr(m->text));
        guard_notify_ready(RELOAD_REFUSED);
        reload_again(g);
        break;
    case CHANNEL_SIGN:
        if (m->fd != -1)
            guard_signer_add_line(&g->signer, m->fd);
        return;
    case CHANNEL_UPGRADE:
        upgrade(g);
        break;
    case CHANNEL_RELOAD:
        reload(g, "asked for", RELOAD_ASKED);
        break;
    case CHANNEL_ALERT:
        guard_hook_add(&g->hook, bytes_cstr(m->text));
        break;
    default:
        tell_stray(m);
    }
    if (m->fd != -1)
        close(m->fd);
}

static void stop(struct guard *g)
{
    if (g->stopping)
        return;
    g->stopping = true;
    log_info("stopping");
    guard_notify_stopping(g->good.conf ? g->good.conf->shutdown_grace_ms + 2 * KILL_AFTER_GRACE_MS
                                       : KILL_AFTER_GRACE_MS);
    if (g->relay && channel_send(g->channel, CHANNEL_STOP, BYTES_NONE, -1) == OK)
        g->stop_at_ms = now_ms() + g->good.conf->shutdown_grace_ms + KILL_AFTER_GRACE_MS;
    else if (g->relay)
        kill(g->relay, SIGKILL);
}

// The relay is gone: in order, before it was ever ready (its exit code says why), or by a crash.
static void on_relay_gone(struct guard *g, int status)
{
    close(g->channel);
    g->channel = -1;
    g->relay = 0;
    g->serving = false;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (g->stopping)
        return;
    if (g->next.conf) {
        log_error("the relay ended before it took the new configuration, the old one goes on");
        drop_next(g);
        guard_notify_ready(RELOAD_REFUSED);
    }
    if (g->upgrading) {
        g->stop_at_ms = 0;
        guard_signer_stop(&g->signer); // the next program starts its own
        guard_hook_done(&g->hook);
        guard_upgrade_become(&g->next_program, &g->sockets);
        g->upgrading = false; // it could not: both start again
        g->restart_at_ms = g->signer_at_ms = now_ms();
        return;
    }
    if (!g->ready && code > 0) {
        g->exit_code = code;
        g->stopping = true;
        return;
    }
    log_error("the relay process ended, starting another", LOG_INT("exit_code", code),
              LOG_INT("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0),
              LOG_INT("after_ms", g->restart_delay_ms));
    g->restart_at_ms = now_ms() + g->restart_delay_ms;
    g->restart_delay_ms =
        g->restart_delay_ms * 2 < RESTART_MAX_MS ? g->restart_delay_ms * 2 : RESTART_MAX_MS;
}

// What it was asked is asked again (net/sign_port.h).
static void on_signer_gone(struct guard *g, int status)
{
    guard_signer_gone(&g->signer);
    if (g->stopping)
        return;
    log_error("the signer process ended, starting another",
              LOG_INT("exit_code", WIFEXITED(status) ? WEXITSTATUS(status) : -1),
              LOG_INT("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0));
    g->signer_at_ms = now_ms() + RESTART_FIRST_MS;
}

static void on_signal(struct guard *g)
{
    struct signalfd_siginfo info;
    if (read(g->signals, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
        stop(g);
    } else if (info.ssi_signo == SIGHUP) {
        char by[64];
        snprintf(by, sizeof by, "signal %u %u", info.ssi_uid, info.ssi_pid);
        reload(g, "SIGHUP", by);
    } else if (info.ssi_signo == SIGCHLD) {
        int status; // one signal may tell of both
        if (g->relay && waitpid(g->relay, &status, WNOHANG) == g->relay)
            on_relay_gone(g, status);
        if (g->signer.pid && waitpid(g->signer.pid, &status, WNOHANG) == g->signer.pid)
            on_signer_gone(g, status);
        if (g->hook.pid && waitpid(g->hook.pid, &status, WNOHANG) == g->hook.pid)
            guard_hook_gone(&g->hook, status);
    }
}

static void on_time(struct guard *g)
{
    int64_t now = now_ms();
    if (g->stop_at_ms && now >= g->stop_at_ms && g->relay) {
        log_error("the relay does not end, killing it");
        kill(g->relay, SIGKILL);
        g->stop_at_ms = 0;
    }
    if (g->restart_at_ms && now >= g->restart_at_ms && !g->stopping) {
        g->restart_at_ms = 0;
        if (start_relay(g) != OK)
            g->restart_at_ms = now + g->restart_delay_ms;
    }
    if (g->signer_at_ms && now >= g->signer_at_ms && !g->stopping) {
        g->signer_at_ms = 0;
        if (start_signer(g) != OK)
            g->signer_at_ms = now + RESTART_MAX_MS;
    }
    guard_hook_look(&g->hook, now);
    if (!g->stopping)
        start_hook(g);
    if (!g->stopping && certificate_changed(g))
        reload(g, "certificate changed", RELOAD_CERTIFICATE);
}

static int poll_timeout(const struct guard *g)
{
    int64_t until = CERTIFICATE_CHECK_MS, now = now_ms();
    if (g->stop_at_ms && g->stop_at_ms - now < until)
        until = g->stop_at_ms - now;
    if (g->restart_at_ms && g->restart_at_ms - now < until)
        until = g->restart_at_ms - now;
    if (g->signer_at_ms && g->signer_at_ms - now < until)
        until = g->signer_at_ms - now;
    return until < 0 ? 0 : (int)until;
}

static void run(struct guard *g)
{
    while (!(g->stopping && g->relay == 0)) {
        struct pollfd fds[2] = {{.fd = g->signals, .events = POLLIN},
                                {.fd = g->channel, .events = POLLIN}};
        int n = poll(fds, 2, poll_timeout(g));
        if (n == -1 && errno != EINTR)
            break;
        // The channel first: what the relay said before it died still counts.
        struct channel_message message;
        if (n > 0 && (fds[1].revents & POLLIN) && channel_receive(g->channel, &message) == OK)
            on_message(g, &message);
        else if (n > 0 && (fds[1].revents & (POLLHUP | POLLERR | POLLIN)))
            poll(&fds[0], 1, 10); // its end is closed; SIGCHLD follows
        if (n > 0 && (fds[0].revents & POLLIN))
            on_signal(g);
        on_time(g);
    }
}

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int exit_code_for(int err)
{
    switch (err) {
    case E_DENIED:
        return EX_NOPERM;
    case E_BUSY:
    case E_IO:
    case E_FULL:
        return EX_TEMPFAIL;
    default:
        return EX_CONFIG;
    }
}

int guard_main(const char *config, const char *ready_file)
{
    forbid_core(); // before any key is read
    struct guard *g = mem_new(sizeof *g);
    *g = (struct guard){.config = config,
                        .ready_file = ready_file,
                        .signals = open_signals(),
                        .channel = -1,
                        .restart_delay_ms = RESTART_FIRST_MS};
    guard_signer_init(&g->signer);
    guard_upgrade_init(&g->next_program, config, ready_file);
    guard_upgrade_take(&g->sockets);
    guard_sockets_take_activated(&g->sockets, GUARD_NOTIFY_SOCKETS, guard_notify_sockets());
    struct buf errors = {0};
    int err = g->signals == -1 ? E_IO : load(g, &errors);
    buf_done(&errors);
    if (!err) {
        accept_next(g); // there is no other
        buf_add(&g->started, buf_bytes(&g->good.text));
        err = start_relay(g);
        if (!err)
            err = start_signer(g);
    }
    if (err) {
        g->exit_code = exit_code_for(err);
        stop(g);
    }
    run(g);
    if (ready_file && g->ready)
        unlink(ready_file);
    int code = g->exit_code;
    guard_sockets_close(&g->sockets);
    setup_done(&g->good);
    setup_done(&g->next);
    buf_done(&g->started);
    guard_signer_stop(&g->signer);
    guard_signer_done(&g->signer);
    guard_hook_done(&g->hook);
    close(g->signals);
    free(g);
    return code;
}
