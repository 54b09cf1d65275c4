// SPDX-License-Identifier: MIT
//
// tls_certificate - makes a self-signed certificate, for trials only
#pragma once

#include "base/buf.h"

// An ECDSA P-256 key and a certificate for `hostname` (and localhost), valid for 30 days, both as PEM. E_TLS.
int tls_certificate_make(struct bytes hostname, struct buf *out_certificate,
                         struct buf *out_key) MUST_USE;
