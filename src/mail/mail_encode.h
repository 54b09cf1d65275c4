// SPDX-License-Identifier: MIT
//
// mail_encode - base64, quoted-printable, xtext and utf-8-addr-xtext, both ways
//
// Whole-value functions append to a buf (its cap is the limit on the output); on a failure what
// they appended so far is taken back. The streaming encoders and decoders are fed slices cut
// anywhere and give the same result for every cut; a zeroed struct is ready to use.
//
// Fails: E_SYNTAX (not in the encoding), E_LIMIT (the buf's cap).
#pragma once

#include "base/buf.h"
#include "base/bytes.h"

#define MAIL_ENCODED_LINE_MAX 76 // characters of an encoded line, without CRLF (RFC 2045 6.7, 6.8)

// One line, padded, no line breaks (RFC 4648 section 4): AUTH, checksums.
void mail_base64_encode(struct bytes s, struct buf *out);
// Strict: the alphabet, correct padding, zero spare bits, nothing else; "" gives nothing.
int mail_base64_decode(struct bytes text, struct buf *out) MUST_USE;

// What a character of the alphabet (RFC 4648 section 4) stands for; -1: none of it.
int mail_base64_value(char c);

// A body part in base64: lines of 76 characters, each ended by CRLF (RFC 2045 section 6.8).
struct mail_base64_encoder {
    uint8_t carry[3];
    uint8_t carried;
    uint8_t column;
};
void mail_base64_encoder_feed(struct mail_base64_encoder *e, struct bytes data, struct buf *out);
// Ends the last line; ready to be used again.
void mail_base64_encoder_finish(struct mail_base64_encoder *e, struct buf *out);

// A body part out of base64: white space and line ends are skipped, anything else outside the
// alphabet and anything behind the padding is E_SYNTAX.
struct mail_base64_decoder {
    uint32_t bits;
    uint8_t count;   // characters of the current group of four
    uint8_t padding; // '=' seen
};
int mail_base64_decoder_feed(struct mail_base64_decoder *d, struct bytes text,
                             struct buf *out) MUST_USE;
// E_SYNTAX when a group is incomplete.
int mail_base64_decoder_finish(struct mail_base64_decoder *d) MUST_USE;

// A body part in quoted-printable (RFC 2045 section 6.7): CRLF stays a line end; a bare CR or LF,
// other controls and 8-bit bytes are encoded; lines have at most 76 characters. A "." that begins a
// line and the F of a "From " that does are encoded, so that no relay and no mbox changes the line;
// a "-" that does too, as a soft break could make a boundary of what stood within a line.
struct mail_qp_encoder {
    uint8_t column;  // characters on the current line
    uint8_t matched; // how much of "From" is held at the start of a line
    char space;      // a SP or HTAB held until what follows is known; 0: none
    bool held_cr;    // a CR is held: is it a CRLF?
};
void mail_qp_encoder_feed(struct mail_qp_encoder *e, struct bytes data, struct buf *out);
// Writes what is held; the output ends without CRLF unless the data did. Ready to be used again.
void mail_qp_encoder_finish(struct mail_qp_encoder *e, struct buf *out);

// A body part out of quoted-printable. Strict: "=" and two hexadecimal digits (either case) or a
// soft line break; white space at the end of a line is dropped, as the section asks. E_SYNTAX for
// any other "=", for bare CR or LF, and for controls and 8-bit bytes that should have been encoded.
struct mail_qp_decoder {
    uint8_t state;
    char digit; // the first behind "="
    uint8_t held;
    char space[MAIL_ENCODED_LINE_MAX]; // white space that counts only if something follows
};
int mail_qp_decoder_feed(struct mail_qp_decoder *d, struct bytes text, struct buf *out) MUST_USE;
// E_SYNTAX when the text ends inside an escape.
int mail_qp_decoder_finish(struct mail_qp_decoder *d) MUST_USE;

// RFC 3461 section 4: "+" and two upper-case hexadecimal digits for all but 33-126 less "+" and
// "=".
void mail_xtext_encode(struct bytes s, struct buf *out);
int mail_xtext_decode(struct bytes text, struct buf *out) MUST_USE;

// RFC 6533 section 3. utf-8-addr-xtext: ASCII, others as \x{HEX}; for ORCPT towards a server
// without SMTPUTF8. utf-8-addr-unitext: UTF-8 as it is, with "\", "+", "=" and controls as \x{HEX}.
// s must be UTF-8.
void mail_utf8_addr_xtext_encode(struct bytes s, struct buf *out);
void mail_utf8_addr_unitext_encode(struct bytes s, struct buf *out);
// Either form. E_SYNTAX: bad escapes, controls, surrogates, beyond U+10FFFF.
int mail_utf8_addr_decode(struct bytes text, struct buf *out) MUST_USE;
