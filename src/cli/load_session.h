// SPDX-License-Identifier: MIT
//
// load_session - one client connection of a load run: takes messages from the run until there are
// none left
//
// Owner:    the run. Thread: its loop.
// Limits:   LOAD_RECIPIENTS_MAX recipients a message, LOAD_SIZE_MAX octets. After LOAD_RETRIES failed
//           connections in a row the session gives up.
#pragma once

#include <openssl/evp.h>

#include "base/list.h"
#include "cli/load_report.h"
#include "net/net_tls.h"
#include "smtp/smtp_client.h"
#include "sys/sys.h"

#define LOAD_RECIPIENTS_MAX 10000
#define LOAD_SIZE_MAX ((uint64_t)1 << 30)
#define LOAD_RETRIES 5
#define LOAD_RETRY_MS 500

enum load_tls { LOAD_TLS_NONE, LOAD_TLS_STARTTLS, LOAD_TLS_IMPLICIT };

// One whole run; shared by its sessions.
struct load_run {
    struct sys_addr to;
    enum load_tls tls;
    bool lmtp;
    struct net_tls_client *tls_client;
    struct bytes server_name;
    struct bytes helo, login, password;
    struct bytes sender, rcpt_pattern; // %n: number of the recipient, %m: of the message
    uint64_t count, size, messages_per_connection;
    uint32_t recipients;
    bool resume;         // later TLS connections resume the first one's session
    uint64_t idle;       // sessions opened, a few at a time, that send nothing; 0: none
    uint64_t rate_milli; // messages a thousand seconds; 0: as fast as they go
    struct bytes name;   // of the run: in X-Load-Id: NAME-NUMBER
    struct bytes body;   // made once by load_run_init()
    EVP_MD_CTX *digest;  // for `ids`
    struct buf *ids;     // JSON lines of what was accepted; NULL: none
    struct sys_turn_end *ids_end;
    struct buf *refused; // JSON lines of what a reply refused, load_id and code; NULL: none
    struct sys_turn_end *refused_end;
    struct load_report report;
    struct mono began;
    uint64_t taken; // messages given to sessions
    struct list sessions;
    uint64_t idle_opened, idle_count;
    void (*on_idle)(struct load_run *run); // all idle sessions are open; once
    void (*on_over)(struct load_run *run); // the last session ended
};

// Makes the body. The rest is set by the caller.
void load_run_init(struct load_run *run);
void load_run_done(struct load_run *run);

struct load_session;
// Connects. It frees itself at its end.
void load_session_start(struct load_run *run);
// Ends the run early: sessions stop after the message they are at, those without one, and idle ones, at once.
void load_run_stop(struct load_run *run);
