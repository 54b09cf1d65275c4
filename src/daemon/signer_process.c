// SPDX-License-Identifier: MIT
//
// How it works: all threads wait at one epoll descriptor, and each takes one datagram at a time; so requests of one
// worker are spread over all cores. A line wakes one thread (EPOLLONESHOT), which arms it again once it has taken a
// datagram: so no thread wakes up for nothing, and only one sees the line's end. It is closed by the last thread that
// still has an answer to send.
#include "daemon/signer_process.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/channel.h"
#include "daemon/sandbox.h"
#include "daemon/sign_keys.h"

#define KEY_DER_MAX ((size_t)1 << 16)

struct signer_process {
    int epoll;
    struct sign_keys *keys;
    struct line *channel; // to the guard
};

struct line {
    int fd;
    atomic_uint holders; // threads with an answer to send, and epoll
};

// ---- the guard -----------------------------------------------------------------------------------------

static void wipe(struct buf *secret)
{
    if (secret->at)
        explicit_bzero(secret->at, secret->cap);
    buf_done(secret);
}

static void take_key(struct signer_process *p, const struct channel_message *m)
{
    struct buf der = {0};
    if (channel_read_contents(m->fd, KEY_DER_MAX, &der) != OK ||
        sign_keys_add(p->keys, strtoull(m->text, NULL, 10), buf_bytes(&der)) != OK)
        log_error("the signer does not understand a key");
    wipe(&der);
}

static int watch(const struct signer_process *p, int operation, struct line *line)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = line};
    return epoll_ctl(p->epoll, operation, line->fd, &event);
}

static void let_go(struct line *line)
{
    if (atomic_fetch_sub(&line->holders, 1) == 1) {
        close(line->fd);
        free(line);
    }
}

static void add_line(struct signer_process *p, int fd)
{
    struct line *line = mem_new(sizeof *line);
    line->fd = fd;
    atomic_store(&line->holders, 1);
    if (watch(p, EPOLL_CTL_ADD, line) != 0)
        let_go(line);
}

static void on_channel(struct signer_process *p)
{
    struct channel_message m;
    if (channel_receive(p->channel->fd, &m) != OK)
        _exit(EX_OK); // the guard is gone, or wants no more of it
    if (m.kind == CHANNEL_KEY && m.fd != -1)
        take_key(p, &m);
    else if (m.kind == CHANNEL_SIGN && m.fd != -1)
        add_line(p, m.fd);
    else if (m.fd != -1)
        close(m.fd);
    (void)watch(p, EPOLL_CTL_MOD, p->channel);
}

// ---- lines ---------------------------------------------------------------------------------------------

static void end_line(const struct signer_process *p, struct line *line)
{
    epoll_ctl(p->epoll, EPOLL_CTL_DEL, line->fd, NULL);
    let_go(line);
}

// Takes a datagram, lets the next thread at the line, and answers.
static void on_line(const struct signer_process *p, struct line *line)
{
    char in[SIGN_WIRE_REQUESTS_MAX], out[SIGN_WIRE_ANSWERS_MAX];
    ssize_t n = recv(line->fd, in, sizeof in, MSG_DONTWAIT | MSG_TRUNC);
    if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR)) {
        end_line(p, line);
        return;
    }
    atomic_fetch_add(&line->holders, 1);
    (void)watch(p, EPOLL_CTL_MOD, line);
    if (n > 0 && (size_t)n <= sizeof in) {
        size_t size = sign_keys_answer_all(p->keys, bytes_of(in, (size_t)n), out);
        if (size)
            (void)!send(line->fd, out, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    let_go(line);
}

static void *serve(void *arg)
{
    struct signer_process *p = arg;
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(p->epoll, &event, 1, -1) != 1)
            continue;
        if (event.data.ptr == p->channel)
            on_channel(p);
        else
            on_line(p, event.data.ptr);
    }
    return NULL;
}

// ---- life ----------------------------------------------------------------------------------------------

// Beside the first thread as many as cores: one is to be free while a key is made (daemon/dkim_keeper.c).
static void start_threads(struct signer_process *p, long cores)
{
    for (long i = 0; i < cores && i + 1 < SIGNER_THREADS_MAX; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, p) == 0)
            pthread_detach(thread);
    }
}

void signer_process_main(int channel, struct key_master *master)
{
    struct signer_process *p = mem_new(sizeof *p);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL); // reads files, which it can't later
    prctl(PR_SET_NAME, "signer");
    p->channel = mem_new(sizeof *p->channel);
    p->channel->fd = channel;
    p->keys = sign_keys_new(master);
    p->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (p->epoll == -1 || watch(p, EPOLL_CTL_ADD, p->channel) != 0)
        _exit(EX_OSERR);
    if (sandbox_enter_signer() != OK)
        log_warn("the signer's sandbox could not be set up");
    start_threads(p, cores);
    serve(p);
    _exit(EX_SOFTWARE);
}
