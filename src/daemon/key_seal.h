// SPDX-License-Identifier: MIT
//
// key_seal - DKIM's private keys at rest: made, sealed with the master key, opened again
//
// The master key is a file of its own, readable to who runs the guard alone; the store has only what is sealed with
// it (AES-256-GCM). So neither a copy of the database nor the relay can sign. Without the master key all DKIM keys
// are lost and must be made anew: keep a copy of the file apart from the backups.
//
// Thread:   any.
// Fails:    E_NOT_FOUND, E_DENIED (also: others may read the file), E_SYNTAX (no master key in it), E_IO, E_EXISTS (it is not
//           there, but key_master_is_elsewhere());
//           key_open(): E_DENIED (sealed with another master key), E_DAMAGED.
#pragma once

#include <openssl/evp.h>

#include "base/buf.h"
#include "net/sign_port.h"

#define KEY_RSA_BITS 2048
#define KEY_RSA_BITS_MIN 1024 // of an imported one: RFC 8301 3.2
#define KEY_RSA_BITS_MAX 4096

struct key_master {
    uint8_t key[32];
    bool is_set;
};

// Reads the file; makes it first if it is not there and `make`.
int key_master_load(const char *path, bool make, struct key_master *out) MUST_USE;
// What such an error says, for people.
const char *key_master_why(int err);
// For a file FOLDER.key: there is FOLDER/.key, where older programs make it for `state: FOLDER/`. A new one would open none of
// the keys that it has sealed.
bool key_master_is_elsewhere(const char *path);
void key_master_wipe(struct key_master *master);
// What tells one master key from another; not secret.
uint64_t key_master_number(const struct key_master *master);

// A new key: the record that publishes it ("v=DKIM1; k=rsa; p=..."), and the private key, sealed. E_IO.
int key_make(const struct key_master *master, enum sign_kind kind, struct buf *out_record,
             struct buf *out_sealed) MUST_USE;
// The same of a private key in PEM; *out_kind is SIGN_RSA_PKCS1 or SIGN_ED25519. E_SYNTAX: none, or of another kind or size.
int key_import(const struct key_master *master, struct bytes pem, enum sign_kind *out_kind,
               struct buf *out_record, struct buf *out_sealed) MUST_USE;
// The private key; EVP_PKEY_free().
int key_open(const struct key_master *master, struct bytes sealed, EVP_PKEY **out) MUST_USE;
