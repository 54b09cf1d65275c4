// SPDX-License-Identifier: MIT
//
// store - accounts, credentials, sender domains and the audit log, in one SQLite file
//
// Every change is a named operation {op, args, actor, time}, applied by store_apply() and written
// to the audit log in the same transaction. Operations are idempotent: the same one again succeeds
// and changes nothing. They carry all they need (verifiers, tokens), so that applying one gives the
// same state everywhere; secrets themselves never come here. Workers never read the store, but a
// store_directory made from it.
//
//   op                 args (* may be left out)                          result
//   account.add        account, class*, any_sender*                     ACCOUNT
//   account.suspend    account                                          ACCOUNT
//   account.activate   account                                          ACCOUNT
//   account.close      account (for ever; its credentials and domains   ACCOUNT
//                      go, its name and number stay taken)
//   account.list                                                        {"accounts": [ACCOUNT...]}
//   account.show       account                                          ACCOUNT
//   account.set        account, option, value (store_options.h)         ACCOUNT
//   credential.add     account; login, verifier, scram*, or one of      {"account","login"}
//                      network, certificate, certificate-name (store_proof.h)
//   credential.remove  account*; login, or one of these                 {"account","login"}
//   credential.list    account*                                         {"credentials": [...]}
//   domain.add         account, domain, token, trust*                   DOMAIN
//   domain.verified    account, domain                                  DOMAIN
//   domain.return_path account, domain, published (a boolean)           DOMAIN
//   domain.remove      account, domain                                  {"account","domain"}
//   domain.list        account*                                         {"domains": [DOMAIN...]}
//   domain.show        account*, domain                                 {"domains": [DOMAIN...]}
//   dkim.add           account*, domain, algorithm, record, sealed,     KEY, to be published
//                      selector* (else chosen: `fixed`*, of a pair); with a
//                      selector it takes the place of one that waits
//   dkim.seen          number: it is published, and signs from now on   KEY
//   dkim.rotate        account*, domain: new keys are to follow        {"keys": [KEY...]}
//   dkim.remove        number                                           KEY, as it was
//   dkim.list          account*, domain*, pairs* (also names without a  {"keys": [KEY...]}
//                      key yet, of which there are to be CNAMEs)
//   audit.list         since*, until* (times), user*, action*, max*,    {"entries": [ENTRY...], "next"}
//                      before* (the last page's next, unless null)
//
//   ACCOUNT: {"account","number","class","any_sender","state","created_at"}; of show and set with
//            "options": {NAME: VALUE...}, all of them, defaults included
//   ENTRY:   {"number","at","ended_at","actor","uid","gid","pid","via","action","args","outcome","detail"}, the newest
//            first (store_audit.h)
//   DOMAIN:  {"account","domain","verified","return_path","records":[{"name","type","value","purpose"}]}
//
// Owner:    whoever holds the lock: one process at a time.
// Thread:   any but a loop's: it blocks on the disk, and one operation waits for another.
// Limits:   STORE_ACCOUNTS_MAX and so on; beyond them E_LIMIT.
// Fails:    E_SYNTAX (args), E_NOT_FOUND, E_EXISTS, E_DENIED (not in this state), E_LIMIT, E_FULL,
// E_IO,
//           E_DAMAGED. After a failure nothing has changed.
#pragma once

#include "base/buf.h"
#include "base/clock.h"

#define STORE_VERSION 4 // version N opens a store of N - 1 and takes it further
// A file in the folder while a backup is being restored there: no store is opened then.
#define STORE_RESTORE_MARK "restore-incomplete"
#define STORE_ACCOUNTS_MAX 1000000
#define STORE_CREDENTIALS_MAX 100 // of one account
#define STORE_DOMAINS_MAX 10000   // of one account

struct json_object;
struct store;

// Opens (and makes, where it is not) FOLDER/accounts.db and takes the lock FOLDER/lock, which a
// running daemon holds. E_BUSY (another process holds it), E_VERSION (made by a newer release),
// E_NOT_FOUND (the folder), E_DENIED, E_DAMAGED (also: a restore did not end), E_IO. `error` gets a line that says what is wrong
// with which file.
int store_open(struct bytes folder, struct store **out, struct buf *error) MUST_USE;
// That line, for an error of what reads the store later.
void store_explain(struct bytes folder, int err, struct buf *error);
void store_close(struct store *store); // NULL is fine

// The process that asked, and how.
struct store_who {
    const char
        *via; // "control" (the socket), "files" (a command, the service being stopped), "signal"
    int64_t uid, gid, pid; // pid 0: none of them is known
};

struct store_op {
    const char *name;         // "account.add"
    struct json_object *args; // borrowed; NULL: none
    struct bytes actor;       // who asked, for the audit log: "cli:root"
    struct wall time;
    const struct store_who *who; // NULL: the service itself
};
struct store_answer {
    struct json_object *result; // json_object_put() by the caller; NULL on failure
    bool changed;               // false: it was so already, or the operation only reads
};
// On failure `error` gets a sentence for the person who asked.
int store_apply(struct store *store, const struct store_op *op, struct store_answer *out,
                struct buf *error) MUST_USE;

// The operations there are, from 0; NULL beyond the last. *out_writes: it may change something.
const char *store_op_name(size_t n, bool *out_writes);

// The consistent copy for a backup: everything but the lock. E_EXISTS, E_FULL, E_IO.
int store_copy(struct store *store, const char *path) MUST_USE;
