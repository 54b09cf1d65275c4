// SPDX-License-Identifier: MIT
//
// How it works: all threads wait at one epoll descriptor. Whoever gets a line takes one datagram from it, lets the
// others have the line again, and then signs; so requests of one worker are spread over all cores.
#include "daemon/signer_process.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
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
    int channel, epoll;
    struct sign_keys *keys;
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

static int watch(const struct signer_process *p, int operation, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fd};
    return epoll_ctl(p->epoll, operation, fd, &event);
}

static void on_channel(struct signer_process *p)
{
    struct channel_message m;
    if (channel_receive(p->channel, &m) != OK)
        _exit(EX_OK); // the guard is gone, or wants no more of it
    if (m.kind == CHANNEL_KEY && m.fd != -1)
        take_key(p, &m);
    else if (m.kind == CHANNEL_SIGN && m.fd != -1 && watch(p, EPOLL_CTL_ADD, m.fd) == 0)
        return;
    else if (m.fd != -1)
        close(m.fd);
}

// ---- lines ---------------------------------------------------------------------------------------------

static void on_line(struct signer_process *p, int fd)
{
    struct sign_wire_request request;
    struct sign_wire_answer answer;
    ssize_t n = recv(fd, &request, sizeof request, MSG_DONTWAIT | MSG_TRUNC);
    if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR)) {
        close(fd); // leaves epoll, too
        return;
    }
    // Another thread may close it once it is watched again; the answer needs it yet.
    int answer_fd = n > 0 ? dup(fd) : -1;
    (void)watch(p, EPOLL_CTL_MOD, fd);
    if (n <= 0)
        return;
    size_t size = sign_keys_answer(p->keys, bytes_of(&request, (size_t)n), &answer);
    if (size)
        (void)!send(answer_fd, &answer, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(answer_fd);
}

static void *serve(void *arg)
{
    struct signer_process *p = arg;
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(p->epoll, &event, 1, -1) != 1)
            continue;
        if (event.data.fd != p->channel) {
            on_line(p, event.data.fd);
            continue;
        }
        on_channel(p);
        (void)watch(p, EPOLL_CTL_MOD, p->channel);
    }
    return NULL;
}

// ---- life ----------------------------------------------------------------------------------------------

static void start_threads(struct signer_process *p, long cores)
{
    for (long i = 1; i < cores && i < SIGNER_THREADS_MAX; i++) {
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
    p->channel = channel;
    p->keys = sign_keys_new(master);
    p->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (p->epoll == -1 || watch(p, EPOLL_CTL_ADD, channel) != 0)
        _exit(EX_OSERR);
    if (sandbox_enter_signer() != OK)
        log_warn("the signer's sandbox could not be set up");
    start_threads(p, cores);
    serve(p);
    _exit(EX_SOFTWARE);
}
