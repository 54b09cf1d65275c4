// SPDX-License-Identifier: MIT
//
// How it works: stages alternate between the loop (pull the next piece of the rendering) and the pool (open,
// write, finish). One job is out at a time. What fails takes its file in tmp/ along.
#include "deliver/maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "mail/mail_address.h"
#include "route/route.h"

#define FOLDER_BYTES (sizeof((struct maildir_delivery *)0)->folder + 8) // with one of its parts

enum stage { STAGE_OPEN, STAGE_WRITE, STAGE_FINISH, STAGE_DROP };

// ---- on the pool -----------------------------------------------------------------------------------------

static int sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd == -1)
        return err_from_errno(errno);
    int err = fsync(fd) == -1 ? E_IO : OK;
    close(fd);
    return err;
}

static int make_if_missing(const char *path, bool *out_made)
{
    *out_made = mkdir(path, 0700) == 0;
    return *out_made || errno == EEXIST ? OK : err_from_errno(errno);
}

// The folder that the first `len` bytes of `path` name. Its name is flushed where it was not there, or `all` are.
static int make_flushed(const char *path, size_t len, bool all)
{
    char folder[FOLDER_BYTES], parent[FOLDER_BYTES];
    bool made;
    size_t above = len;
    while (path[--above] != '/')
        ;
    snprintf(folder, sizeof folder, "%.*s", (int)len, path);
    snprintf(parent, sizeof parent, "%.*s", above ? (int)above : 1, path);
    int err = make_if_missing(folder, &made);
    if (err || !(made || (all && access(parent, W_OK) == 0))) // else it is none of ours
        return err;
    err = sync_folder(parent);
    return err == E_DENIED ? OK : err; // who may not read it can't flush it
}

// A message is lost with the name of any folder above it, so these are flushed, once: cur/ comes last, and says that
// they are. A try that was cut short leaves none; of two that make one mailbox each flushes all before it goes on.
static int make_folders(const char *folder)
{
    char path[FOLDER_BYTES];
    bool made;
    snprintf(path, sizeof path, "%s/cur", folder);
    bool all = access(path, F_OK) == -1;
    int err = OK;
    for (const char *slash = strchr(folder + 1, '/'); slash && !err; slash = strchr(slash + 1, '/'))
        err = make_flushed(folder, (size_t)(slash - folder), all);
    if (!err)
        err = make_flushed(folder, strlen(folder), all);
    snprintf(path, sizeof path, "%s/tmp", folder);
    if (!err)
        err = make_if_missing(path, &made);
    snprintf(path, sizeof path, "%s/new", folder);
    if (!err)
        err = make_flushed(path, strlen(path), all);
    snprintf(path, sizeof path, "%s/cur", folder);
    return err ? err : make_if_missing(path, &made);
}

static int open_temporary(struct maildir_delivery *d)
{
    int err = make_folders(d->folder);
    if (err)
        return err;
    char path[sizeof d->folder + sizeof d->name + 8];
    snprintf(path, sizeof path, "%s/tmp/%s", d->folder, d->name);
    // A file of that name is what a crash left of this very delivery.
    d->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    return d->fd == -1 ? err_from_errno(errno) : OK;
}

static int write_piece(struct maildir_delivery *d)
{
    for (size_t done = 0; done < d->piece.len;) {
        ssize_t n = write(d->fd, d->piece.at + done, d->piece.len - done);
        if (n > 0)
            done += (size_t)n;
        else if (n == -1 && errno != EINTR)
            return err_from_errno(errno);
    }
    return OK;
}

// Where new/ can't be opened it could not be flushed: the message would be there, and come again at each retry.
static int move_to_new(const struct maildir_delivery *d)
{
    char from[sizeof d->folder + sizeof d->name + 8], to[sizeof from],
        new_folder[sizeof d->folder + 8];
    snprintf(from, sizeof from, "%s/tmp/%s", d->folder, d->name);
    snprintf(to, sizeof to, "%s/new/%s", d->folder, d->name);
    snprintf(new_folder, sizeof new_folder, "%s/new", d->folder);
    int folder = open(new_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder == -1)
        return err_from_errno(errno);
    int err = rename(from, to) == -1 ? err_from_errno(errno) : fsync(folder) == -1 ? E_IO : OK;
    close(folder);
    return err;
}

static int finish_file(struct maildir_delivery *d)
{
    int err = fsync(d->fd) == -1 ? E_IO : OK;
    if (close(d->fd) == -1 && !err)
        err = E_IO;
    d->fd = -1;
    return err ? err : move_to_new(d);
}

// Nobody else cleans up: the next try may go to another folder, or never be made.
static void drop_file(struct maildir_delivery *d)
{
    char path[sizeof d->folder + sizeof d->name + 8];
    if (d->fd != -1)
        close(d->fd);
    d->fd = -1;
    snprintf(path, sizeof path, "%s/tmp/%s", d->folder, d->name);
    (void)unlink(path);
}

static void on_pool(struct sys_job *job)
{
    struct maildir_delivery *d = container_of(job, struct maildir_delivery, job);
    switch ((enum stage)d->stage) {
    case STAGE_OPEN:
        d->err = open_temporary(d);
        break;
    case STAGE_WRITE:
        d->err = write_piece(d);
        break;
    case STAGE_FINISH:
        d->err = finish_file(d);
        break;
    case STAGE_DROP: // with the error there was
        break;
    }
    if (d->err && d->stage != STAGE_OPEN)
        drop_file(d);
}

// ---- on the loop -----------------------------------------------------------------------------------------

static void finish(struct maildir_delivery *d, struct verdict verdict)
{
    CHECK(d->fd == -1);
    render_done(&d->render);
    buf_done(&d->piece);
    d->done(d->ctx, &verdict);
}

static void fail(struct maildir_delivery *d, int err)
{
    char text[200];
    if (d->render.err) {
        finish(d, verdict_of_render_failure(d->render.err));
        return;
    }
    snprintf(text, sizeof text, "mailbox %.100s: %s", d->folder, err_text(err));
    finish(d, err == E_FULL ? verdict_make(VERDICT_DEFERRED, 452, "4.2.2", bytes_cstr(text))
                            : verdict_make(VERDICT_DEFERRED, 451, "4.3.0", bytes_cstr(text)));
}

// CRLF becomes LF, also where a piece is cut between the two.
static void add_lines(struct maildir_delivery *d, struct bytes s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (d->cr && s.at[i] != '\n')
            buf_add_byte(&d->piece, '\r');
        d->cr = s.at[i] == '\r';
        if (!d->cr)
            buf_add_byte(&d->piece, s.at[i]);
    }
}

static void add_trace(struct maildir_delivery *d)
{
    buf_printf(&d->piece, "Return-Path: <%.*s>\nDelivered-To: %.*s\n",
               BYTES_FMT(d->message->envelope->reverse_path), BYTES_FMT(d->recipient->address));
}

static void next_piece(void *ctx)
{
    struct maildir_delivery *d = ctx;
    struct bytes piece;
    int err = render_next(&d->render, RENDER_PIECE_BYTES, &piece, &d->last_piece);
    if (err == E_AGAIN)
        return;
    if (err) {
        d->err = err;
        d->stage = STAGE_DROP;
        sys_offload(&d->job);
        return;
    }
    add_lines(d, piece);
    if (d->last_piece && d->cr)
        buf_add_byte(&d->piece, '\r');
    d->stage = STAGE_WRITE;
    sys_offload(&d->job);
}

static void on_done(struct sys_job *job)
{
    struct maildir_delivery *d = container_of(job, struct maildir_delivery, job);
    if (d->err) {
        fail(d, d->err);
        return;
    }
    switch ((enum stage)d->stage) {
    case STAGE_OPEN:
        add_trace(d);
        next_piece(d);
        break;
    case STAGE_WRITE:
        buf_clear(&d->piece);
        if (!d->last_piece) {
            next_piece(d);
            break;
        }
        d->stage = STAGE_FINISH;
        sys_offload(&d->job);
        break;
    case STAGE_DROP:
        CHECK(d->err);
        break;
    case STAGE_FINISH:
        finish(d, verdict_make(VERDICT_DELIVERED, 250, "2.0.0", BYTES("delivered to mailbox")));
        break;
    }
}

// The path of this recipient's mailbox, from the pattern of the route.
static int choose_folder(struct maildir_delivery *d)
{
    struct buf local = {0}, path = {0};
    struct mail_address address;
    int err = mail_address_parse(d->recipient->address, &address);
    if (!err)
        mail_address_local(&address, &local);
    if (!err)
        err = route_expand_path(d->pattern, buf_bytes(&local), d->recipient->domain, &path);
    while (!err && path.len > 1 && path.at[path.len - 1] == '/')
        path.len--;
    if (!err && path.len >= sizeof d->folder)
        err = E_LIMIT;
    if (!err)
        snprintf(d->folder, sizeof d->folder, "%.*s", (int)path.len, path.at);
    buf_done(&local);
    buf_done(&path);
    return err;
}

void maildir_start(struct maildir_delivery *d)
{
    d->fd = -1;
    d->stage = STAGE_OPEN;
    d->job.kind = SYS_JOB_FAR;
    d->job.run = on_pool;
    d->job.done = on_done;
    // Its files have lines that end in LF; binary content would not be the same any more.
    bool binary = d->message->envelope->body == BODY_BINARYMIME;
    render_init(&d->render, d->spool, d->message, binary ? RENDER_EIGHT_BIT : RENDER_IDENTITY,
                BYTES_NONE, next_piece, d);
    char id[MESSAGE_ID_CHARS + 1];
    message_id_format(d->message->envelope->id, id);
    // The same name for the same recipient, so that a second try after a crash makes no second copy.
    snprintf(d->name, sizeof d->name, "%lld.%s_%u.posthaste",
             (long long)(d->message->envelope->accepted_at.us / 1000000), id, d->recipient->number);
    if (choose_folder(d) != OK) {
        finish(d, verdict_make(VERDICT_FAILED, 550, "5.1.3",
                               BYTES("this address can't be the name of a mailbox folder")));
        return;
    }
    sys_offload(&d->job);
}
