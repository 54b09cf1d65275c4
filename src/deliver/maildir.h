// SPDX-License-Identifier: MIT
//
// maildir - puts one rendered message into the Maildirs of its recipients
//
// Written to tmp/, flushed, renamed to new/, the folder flushed, and so are the names of what was made above it: a
// message that is reported delivered survives a power cut. Lines end in LF, and Return-Path and Delivered-To stand on
// top (RFC 5321 4.4), as is the habit there. All file work runs on the pool for folders that may hang (SYS_JOB_FAR).
//
// Owner:  the caller, from maildir_start() until done(), in which it may free it.
#pragma once

#include "deliver/render.h"
#include "deliver/verdict.h"

struct maildir_delivery {
    struct sys_job job;
    struct spool *spool;
    struct stored_message *message;
    const struct recipient *recipient;
    struct bytes pattern; // maildir:/path/%d/%u
    void (*done)(void *ctx, const struct verdict *verdict);
    void *ctx;
    // its own
    struct render render;
    int stage, fd, err;
    char folder[1024], name[160];
    struct buf piece;
    bool last_piece, cr;
};

// Fill in spool, message, recipient, pattern (without "maildir:"), done and ctx; all borrowed until done().
void maildir_start(struct maildir_delivery *d);
