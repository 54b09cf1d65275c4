// SPDX-License-Identifier: MIT
//
// store_directory - accounts, credentials and domains in memory, as they were at one moment
//
// What workers ask instead of the database. Made from the store after each change, shared through a
// conf_snapshot, never written to.
//
// Owner:    a struct conf_part; all pointers it gives live as long as the directory.
// Thread:   any, once made.
#pragma once

#include "base/buf.h"
#include "mail/envelope.h"
#include "smtp/sasl.h"
#include "store/store_options.h"

struct store;
struct store_directory;

enum store_account_state { STORE_ACTIVE, STORE_SUSPENDED, STORE_CLOSED };

struct store_account {
    uint32_t number; // from 1, never reused
    struct bytes name;
    enum mail_class class;
    enum store_account_state state;
    bool any_sender;                      // an operator lifted the check of sender domains
    uint8_t options[STORE_OPTIONS_COUNT]; // by enum store_option: STORE_PREFLIGHT_HOLD and so on
};

struct store_credential {
    struct bytes login;
    const struct store_account *account;
    struct bytes crypt;                 // a person's password: yescrypt; empty for a generated one
    uint8_t sha256[32];                 // of a generated one
    const struct sasl_scram_key *scram; // NULL: this one can't do SCRAM
    uint64_t mark; // another one after a change of its password; of this process only
};                 // of those without a password login, account and mark only

enum store_domain_state { STORE_DOMAIN_FOREIGN, STORE_DOMAIN_UNVERIFIED, STORE_DOMAIN_VERIFIED };

// Reads the whole store (100,000 accounts in under a second). E_IO, E_DAMAGED.
int store_directory_load(struct store *store, struct store_directory **out) MUST_USE;
// Without a store: no accounts at all. For tests and tools.
struct store_directory *store_directory_empty(void);
void store_directory_free(struct store_directory *dir); // NULL is fine

// By the login as the client sent it; compared byte by byte. NULL if there is none.
const struct store_credential *store_directory_credential(const struct store_directory *dir,
                                                          struct bytes login);
// That login, with or without a password, if it is still the one that had this mark; NULL: removed, or changed.
const struct store_credential *store_directory_login(const struct store_directory *dir,
                                                     struct bytes login, uint64_t mark);
// Credentials without a password (store_proof.h), NULL if there is none: of the smallest network that has the address
// (4 or 16 bytes, network order; mapped ones are IPv4); of a certificate or its key; of a name in a certificate.
const struct store_credential *store_directory_network(const struct store_directory *dir,
                                                       const uint8_t *ip, bool ip6);
const struct store_credential *store_directory_certificate(const struct store_directory *dir,
                                                           const uint8_t sha256[32]);
const struct store_credential *store_directory_certificate_name(const struct store_directory *dir,
                                                                struct bytes name);
// Case-insensitive. NULL if there is none. Closed accounts are found, too.
const struct store_account *store_directory_account(const struct store_directory *dir,
                                                    struct bytes name);
const struct store_account *store_directory_account_number(const struct store_directory *dir,
                                                           uint32_t number);
// The i-th account by number, closed ones too; NULL behind the last.
const struct store_account *store_directory_account_at(const struct store_directory *dir,
                                                       uint32_t i);
// Whether that account may send as exactly this domain (lower-case A-labels).
enum store_domain_state store_directory_domain(const struct store_directory *dir,
                                               const struct store_account *account,
                                               struct bytes domain);
// Has that domain of the account (as before) a return path of its own in the DNS, which leads to us?
bool store_directory_has_return_path(const struct store_directory *dir,
                                     const struct store_account *account, struct bytes domain);
// A DKIM key that signs.
struct store_dkim_key {
    struct bytes domain, selector;
    bool is_ed25519;     // else RSA
    struct bytes sealed; // the private key, for net/sign_port.h
    uint64_t number;     // sign_sealed_number() of it
};
// The keys that sign for a domain; at most one of each algorithm.
struct store_dkim {
    struct store_dkim_key *rsa, *ed25519; // NULL: none
};
// Of the account's domain, or, account 0, of the service's own. NULL: none signs.
const struct store_dkim *store_directory_dkim(const struct store_directory *dir, uint32_t account,
                                              struct bytes domain);
// The keys that sign the account's mail from this domain, aligned as DMARC wants it: those of the domain, or of the
// nearest above it that has some; verified ones only. NULL: none.
const struct store_dkim *store_directory_aligned_dkim(const struct store_directory *dir,
                                                      const struct store_account *account,
                                                      struct bytes domain);
// Whether any key may sign this account's mail (0: mail without an account).
bool store_directory_signs(const struct store_directory *dir, uint32_t account);

// May a session that logged in with it still act: the account is active.
static inline bool store_account_is_active(const struct store_account *account)
{
    return account && account->state == STORE_ACTIVE;
}
// Counts the changes of the store: of two directories of a process the one that was read later has no smaller one.
uint64_t store_directory_version(const struct store_directory *dir);
uint32_t store_directory_accounts_count(const struct store_directory *dir);
// "active", "suspended", "closed".
const char *store_account_state_name(enum store_account_state state);
