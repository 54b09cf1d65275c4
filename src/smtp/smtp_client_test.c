// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "smtp/smtp_client.h"
#include "smtp/smtp_xtext.h"

// A turn: the server says, then the client has said.
struct turn {
    const char *server, *client;
};

enum {
    LMTP = 1,
    TLS_IF = 2,
    TLS_REQUIRED = 4,
    TLS_ACTIVE = 8,
    LOGIN = 16,
    LOGIN_CLEAR = 32,
    ALWAYS_BDAT = 64,
    UTF8 = 128,
    NO_SIZE = 256, // the content's size is not known
    BODY_8BIT = 512,
    CONTENT_FAILS = 1024,
    TWICE = 2048, // the same transaction again
    BAD_RCPT = 4096,
    SIZE_LIES = 8192,
    NEVER_BDAT = 16384,
    WHOLE_ONLY = 32768,
    RANDOM = 65536, // SCRAM can be done; 'r' is the random octet
    BINDS = 131072, // TLS has a channel binding, tls-exporter
    UTF8_ORCPT = 262144,
    ANGLES = 524288, // in ENVID and ORCPT
    BAD_ENVID = 1048576,
    BAD_ORCPT = 2097152,
};

struct row {
    const char *name;
    unsigned setup;
    uint32_t rcpts; // 0: no transaction, only opened
    const char *content;
    struct turn turns[12];
    const char *want; // the handlers' log
};

#define HELLO                                                                                      \
    {                                                                                              \
        "220 mx ESMTP\r\n", "EHLO relay.example\r\n"                                               \
    }
#define PIPE "250-mx\r\n250 PIPELINING\r\n"
#define GROUP2 "MAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nRCPT TO:<r1@d.e>\r\nDATA\r\n"
#define OPENED "ready\n"
#define AUTH_LINE "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n"

static const struct row rows[] = {
    {"opened", 0, 0, "", {HELLO, {"250 mx\r\n", ""}}, OPENED},
    {"multi-line greeting, bare LF",
     0,
     0,
     "",
     {{"220-hi\n220 there\n", "EHLO relay.example\r\n"}, {"250 mx\n", ""}},
     OPENED},
    {"helo fallback",
     0,
     1,
     "x\r\n",
     {HELLO,
      {"502 what?\r\n", "HELO relay.example\r\n"},
      {"250 mx\r\n", "MAIL FROM:<a@b.c>\r\n"},
      {"250 ok\r\n", "RCPT TO:<r0@d.e>\r\n"},
      {"250 ok\r\n", "DATA\r\n"},
      {"354 go\r\n", "x\r\n.\r\n"},
      {"250 2.0.0 taken\r\n", ""}},
     OPENED "0: end of content 0 250 2.0.0 taken\ndone 1\n"},
    {"helo refused too",
     0,
     1,
     "",
     {HELLO, {"502 what?\r\n", "HELO relay.example\r\n"}, {"550 no\r\n", ""}},
     "failed: EHLO 0 550 no\n"},
    {"greeting 554",
     0,
     1,
     "",
     {{"554 5.7.1 no service\r\n", ""}},
     "failed: greeting 0 554 5.7.1 no service\n"},
    {"greeting 421", 0, 1, "", {{"421 later\r\n", ""}}, "failed: greeting 0 421 later\n"},
    {"ehlo 421", 0, 1, "", {HELLO, {"421 4.3.2 bye\r\n", ""}}, "failed: EHLO 0 421 4.3.2 bye\n"},

    {"pipelined",
     NEVER_BDAT,
     2,
     "..a\r\n.\r\nb",
     {HELLO,
      {PIPE, GROUP2},
      {"250 m\r\n250 r0\r\n550 5.1.1 r1\r\n354 go\r\n", "...a\r\n..\r\nb\r\n.\r\n"},
      {"250 ok\r\n", ""}},
     OPENED "1: RCPT TO 0 550 5.1.1 r1\n0: end of content 0 250 ok\ndone 1\n"},
    {"not pipelined",
     NEVER_BDAT,
     2,
     "x\r\n",
     {HELLO,
      {"250 mx\r\n", "MAIL FROM:<a@b.c>\r\n"},
      {"250 m\r\n", "RCPT TO:<r0@d.e>\r\n"},
      {"450 4.2.1 r0\r\n", "RCPT TO:<r1@d.e>\r\n"},
      {"250 r1\r\n", "DATA\r\n"},
      {"354 go\r\n", "x\r\n.\r\n"},
      {"550 5.7.1 spam\r\n", ""}},
     OPENED "0: RCPT TO 0 450 4.2.1 r0\n1: end of content 0 550 5.7.1 spam\ndone 1\n"},
    {"mail refused, not pipelined; again",
     TWICE,
     1,
     "x\r\n",
     {HELLO,
      {"250 mx\r\n", "MAIL FROM:<a@b.c>\r\n"},
      {"451 4.3.0 m\r\n", "MAIL FROM:<a@b.c>\r\n"},
      {"550 m\r\n", ""}},
     OPENED "0: MAIL FROM 0 451 4.3.0 m\ndone 1\n0: MAIL FROM 0 550 m\ndone 1\n"},
    {"mail refused, pipelined",
     NEVER_BDAT,
     2,
     "x\r\n",
     {HELLO, {PIPE, GROUP2}, {"550 m\r\n503 r0\r\n503 r1\r\n503 d\r\n", ""}},
     OPENED "0: MAIL FROM 0 550 m\n1: MAIL FROM 0 550 m\ndone 1\n"},
    {"all recipients refused, not pipelined; then rset",
     TWICE,
     1,
     "x\r\n",
     {HELLO,
      {"250 mx\r\n", "MAIL FROM:<a@b.c>\r\n"},
      {"250 m\r\n", "RCPT TO:<r0@d.e>\r\n"},
      {"550 r\r\n", "RSET\r\n"},
      {"250 rset\r\n", "MAIL FROM:<a@b.c>\r\n"},
      {"250 m\r\n", "RCPT TO:<r0@d.e>\r\n"},
      {"550 r\r\n", ""}},
     OPENED "0: RCPT TO 0 550 r\ndone 1\n0: RCPT TO 0 550 r\ndone 1\n"},
    {"421 to the rset before the next",
     TWICE,
     1,
     "x\r\n",
     {HELLO,
      {"250 mx\r\n", "MAIL FROM:<a@b.c>\r\n"},
      {"250 m\r\n", "RCPT TO:<r0@d.e>\r\n"},
      {"550 r\r\n", "RSET\r\n"},
      {"421 4.7.0 enough\r\n", ""}},
     OPENED "0: RCPT TO 0 550 r\ndone 1\n0: RSET 0 421 4.7.0 enough\ndone 0\nfailed: RSET 0 421 "
            "4.7.0 enough\n"},
    {"all recipients refused, pipelined, data refused; again with rset",
     NEVER_BDAT | TWICE,
     1,
     "x\r\n",
     {HELLO,
      {PIPE, "MAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nDATA\r\n"},
      {"250 m\r\n550 r0\r\n554 no\r\n",
       "RSET\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nDATA\r\n"},
      {"250 rset\r\n250 m\r\n250 r\r\n354 go\r\n", "x\r\n.\r\n"},
      {"250 ok\r\n", ""}},
     OPENED "0: RCPT TO 0 550 r0\ndone 1\n0: end of content 0 250 ok\ndone 1\n"},
    {"data refused",
     NEVER_BDAT,
     2,
     "x\r\n",
     {HELLO, {PIPE, GROUP2}, {"250 m\r\n250 r0\r\n450 r1\r\n451 d\r\n", ""}},
     OPENED "1: RCPT TO 0 450 r1\n0: DATA 0 451 d\ndone 1\n"},

    {"all parameters",
     UTF8 | BODY_8BIT | NEVER_BDAT,
     1,
     "x\r\n",
     {HELLO,
      {"250-mx\r\n250-8bitmime\r\n250-SIZE 100000\r\n250-DSN\r\n250 SMTPUTF8\r\n",
       "MAIL FROM:<a@b.c> SIZE=3 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=e+2Bv\r\n"},
      {"250 m\r\n", "RCPT TO:<r0@d.e> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o@d.e\r\n"},
      {"550 r\r\n", ""}},
     OPENED "0: RCPT TO 0 550 r\ndone 1\n"},
    {"an original recipient with other letters",
     UTF8 | UTF8_ORCPT | NEVER_BDAT,
     1,
     "x\r\n",
     {HELLO,
      {"250-mx\r\n250-DSN\r\n250 SMTPUTF8\r\n",
       "MAIL FROM:<a@b.c> SMTPUTF8 RET=HDRS ENVID=e+2Bv\r\n"},
      {"250 m\r\n", "RCPT TO:<r0@d.e> NOTIFY=SUCCESS,DELAY ORCPT=utf-8;\xc3\xb6\\x{2B}x@d.e\r\n"},
      {"550 r\r\n", ""}},
     OPENED "0: RCPT TO 0 550 r\ndone 1\n"},
    {"the same without SMTPUTF8",
     UTF8_ORCPT | NEVER_BDAT,
     1,
     "x\r\n",
     {HELLO,
      {"250-mx\r\n250-DSN\r\n250 SMTPUTF8\r\n", "MAIL FROM:<a@b.c> RET=HDRS ENVID=e+2Bv\r\n"},
      {"250 m\r\n", "RCPT TO:<r0@d.e> NOTIFY=SUCCESS,DELAY ORCPT=utf-8;\\x{F6}\\x{2B}x@d.e\r\n"},
      {"550 r\r\n", ""}},
     OPENED "0: RCPT TO 0 550 r\ndone 1\n"},
    {"no size known",
     NO_SIZE | BODY_8BIT,
     1,
     "x\r\n",
     {HELLO,
      {"250-mx\r\n250-SIZE\r\n250-CHUNKING\r\n250 PIPELINING\r\n",
       "MAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nDATA\r\n"}},
     OPENED "0: MAIL FROM -7\ndone 0\nfailed: MAIL FROM -7\n"},

    {"chunk, pipelined",
     0,
     1,
     "..a\r\n.",
     {HELLO,
      {"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
       "MAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nBDAT 6 LAST\r\n..a\r\n."},
      {"250 m\r\n250 r\r\n250 ok\r\n", ""}},
     OPENED "0: end of content 0 250 ok\ndone 1\n"},
    {"chunk, recipient refused; rset next",
     TWICE,
     1,
     "x\r\n",
     {HELLO,
      {"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
       "MAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nBDAT 3 LAST\r\nx\r\n"},
      {"250 m\r\n550 r\r\n503 none\r\n",
       "RSET\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nDATA\r\n"}, // the second: nothing in advance
      {"250 rset\r\n250 m\r\n250 r\r\n354 go\r\n", "x\r\n.\r\n"},
      {"250 ok\r\n", ""}},
     OPENED "0: RCPT TO 0 550 r\ndone 1\n0: end of content 0 250 ok\ndone 1\n"},
    {"chunk, not pipelined",
     ALWAYS_BDAT,
     1,
     "x\r\n",
     {HELLO,
      {"250-mx\r\n250 CHUNKING\r\n", "MAIL FROM:<a@b.c>\r\n"},
      {"250 m\r\n", "RCPT TO:<r0@d.e>\r\n"},
      {"250 r\r\n", "BDAT 3 LAST\r\nx\r\n"},
      {"250 ok\r\n", ""}},
     OPENED "0: end of content 0 250 ok\ndone 1\n"},
    {"content that is longer than announced",
     SIZE_LIES | WHOLE_ONLY,
     1,
     "xyz\r\n",
     {HELLO,
      {"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
       "MAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nBDAT 4 LAST\r\n"}},
     OPENED "0: content -12\ndone 0\nfailed: content -12\n"},
    {"content that fails",
     CONTENT_FAILS | NEVER_BDAT,
     1,
     "xyz\r\n",
     {HELLO,
      {PIPE, "MAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nDATA\r\n"},
      {"250 m\r\n250 r\r\n354 go\r\n", "xy"}},
     OPENED "0: content -4\ndone 0\nfailed: content -4\n"},
    {"recipient that would end its line",
     BAD_RCPT,
     2,
     "x\r\n",
     {HELLO, {"250 mx\r\n", ""}},
     OPENED "0: MAIL FROM -1 unsent\n1: MAIL FROM -1 unsent\ndone 1\n"},
    {"envelope id that would be two parameters",
     BAD_ENVID,
     1,
     "x\r\n",
     {HELLO, {"250-mx\r\n250 DSN\r\n", ""}},
     OPENED "0: MAIL FROM -1 unsent\ndone 1\n"},
    {"original recipient that would end its line",
     BAD_ORCPT,
     1,
     "x\r\n",
     {HELLO, {"250-mx\r\n250 DSN\r\n", ""}},
     OPENED "0: MAIL FROM -1 unsent\ndone 1\n"},
    {"angle brackets, which xtext may have", // RFC 3461 section 4
     ANGLES,
     1,
     "x\r\n",
     {HELLO,
      {"250-mx\r\n250 DSN\r\n", "MAIL FROM:<a@b.c> RET=HDRS ENVID=<e>\r\n"},
      {"250 m\r\n", "RCPT TO:<r0@d.e> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;<o@d.e>\r\n"},
      {"250 r\r\n", "DATA\r\n"},
      {"354 go\r\n", "x\r\n.\r\n"},
      {"250 ok\r\n", ""}},
     OPENED "0: end of content 0 250 ok\ndone 1\n"},

    {"lmtp",
     LMTP | NEVER_BDAT,
     3,
     "x\r\n",
     {{"220 mx\r\n", "LHLO relay.example\r\n"},
      {PIPE,
       "MAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nRCPT TO:<r1@d.e>\r\nRCPT TO:<r2@d.e>\r\nDATA\r\n"},
      {"250 m\r\n250 r0\r\n550 r1\r\n250 r2\r\n354 go\r\n", "x\r\n.\r\n"},
      {"250 2.0.0 zero\r\n", ""},
      {"452 4.2.2 two\r\n", ""}},
     OPENED "1: RCPT TO 0 550 r1\n0: end of content 0 250 2.0.0 zero\n2: end of content 0 452 "
            "4.2.2 two\ndone 1\n"},

    {"starttls",
     TLS_IF | WHOLE_ONLY,
     0,
     "",
     {HELLO,
      {"250-mx\r\n250 STARTTLS\r\n", "STARTTLS\r\n"},
      {"220 go\r\n", "[tls]EHLO relay.example\r\n"},
      {"250 mx\r\n", ""}},
     OPENED},
    {"starttls not offered, opportunistic", TLS_IF, 0, "", {HELLO, {"250 mx\r\n", ""}}, OPENED},

    {"auth plain",
     TLS_ACTIVE | LOGIN,
     0,
     "",
     {HELLO, {"250-mx\r\n250 AUTH PLAIN LOGIN\r\n", AUTH_LINE}, {"235 2.7.0 ok\r\n", ""}},
     OPENED},
    {"auth login",
     TLS_ACTIVE | LOGIN,
     0,
     "",
     {HELLO,
      {"250-mx\r\n250 AUTH=LOGIN\r\n", "AUTH LOGIN\r\n"},
      {"334 VXNlcm5hbWU6\r\n", "dXNlcg==\r\n"},
      {"334 UGFzc3dvcmQ6\r\n", "c2VjcmV0\r\n"},
      {"235 ok\r\n", ""}},
     OPENED},
    // The strongest that both can do; without PLUS in the offer the server is told that we know it (RFC 5802 section 6).
    {"auth plus before all others",
     TLS_ACTIVE | LOGIN | RANDOM | BINDS,
     0,
     "",
     {HELLO,
      {"250-mx\r\n250 AUTH LOGIN PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS\r\n",
       "AUTH SCRAM-SHA-256-PLUS "
       "cD10bHMtZXhwb3J0ZXIsLG49dXNlcixyPWNuSnljbkp5Y25KeWNuSnljbkp5Y25KeQ==\r\n"}},
     ""},
    {"auth scram, plus is not offered",
     TLS_ACTIVE | LOGIN | RANDOM | BINDS,
     0,
     "",
     {HELLO,
      {"250-mx\r\n250 AUTH LOGIN PLAIN SCRAM-SHA-256\r\n",
       "AUTH SCRAM-SHA-256 eSwsbj11c2VyLHI9Y25KeWNuSnljbkp5Y25KeWNuSnljbkp5\r\n"},
      {"235 ok\r\n", ""}},
     "failed: AUTH -10 235 ok\n"}, // it has not proven that it knows the password
    {"auth scram, nothing to bind to",
     LOGIN | LOGIN_CLEAR | RANDOM | BINDS,
     0,
     "",
     {HELLO,
      {"250-mx\r\n250 AUTH SCRAM-SHA-256-PLUS PLAIN SCRAM-SHA-256\r\n",
       "AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9Y25KeWNuSnljbkp5Y25KeWNuSnljbkp5\r\n"},
      {"535 no\r\n", ""}},
     "failed: AUTH 0 535 no\n"},
    {"auth refused",
     TLS_ACTIVE | LOGIN,
     0,
     "",
     {HELLO, {"250-mx\r\n250 AUTH PLAIN\r\n", AUTH_LINE}, {"535 5.7.8 no\r\n", ""}},
     "failed: AUTH 0 535 5.7.8 no\n"},
    {"auth in the clear",
     LOGIN,
     0,
     "",
     {HELLO, {"250-mx\r\n250 AUTH PLAIN\r\n", ""}},
     "failed: AUTH -10\n"},
    {"auth in the clear, allowed",
     LOGIN | LOGIN_CLEAR,
     0,
     "",
     {HELLO, {"250-mx\r\n250 AUTH PLAIN\r\n", AUTH_LINE}, {"235 ok\r\n", ""}},
     OPENED},
    {"auth not offered",
     TLS_ACTIVE | LOGIN,
     0,
     "",
     {HELLO, {"250-mx\r\n250 AUTH NTLM\r\n", ""}},
     "failed: AUTH -5\n"},
};

// What a server, or who stands between, may try around STARTTLS.
static const struct row starttls_rows[] = {
    {"bytes behind the 220",
     TLS_IF | WHOLE_ONLY,
     0,
     "",
     {HELLO, {"250-mx\r\n250 STARTTLS\r\n", "STARTTLS\r\n"}, {"220 go\r\n250 mx\r\n", ""}},
     "failed: STARTTLS -1\n"},
    {"starttls refused, opportunistic",
     TLS_IF,
     0,
     "",
     {HELLO, {"250-mx\r\n250 STARTTLS\r\n", "STARTTLS\r\n"}, {"454 not now\r\n", ""}},
     "failed: STARTTLS 0 454 not now\n"},
    {"starttls refused, required",
     TLS_REQUIRED,
     0,
     "",
     {HELLO, {"250-mx\r\n250 STARTTLS\r\n", "STARTTLS\r\n"}, {"454 4.7.0 not now\r\n", ""}},
     "failed: STARTTLS 0 454 4.7.0 not now\n"},
    {"starttls not offered, required",
     TLS_REQUIRED,
     0,
     "",
     {HELLO, {"250 mx\r\n", ""}},
     "failed: STARTTLS -13\n"},
    {"capabilities from before tls are forgotten",
     TLS_IF | WHOLE_ONLY | NEVER_BDAT,
     1,
     "x\r\n",
     {HELLO,
      {"250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n", "STARTTLS\r\n"},
      {"220 go\r\n", "[tls]EHLO relay.example\r\n"},
      {"250 mx\r\n", "MAIL FROM:<a@b.c>\r\n"},
      {"550 m\r\n", ""}},
     OPENED "0: MAIL FROM 0 550 m\ndone 1\n"},
};

// Servers that say what they should not, or when they should not.
static const struct row hostile_rows[] = {
    {"greeting nonsense", 0, 1, "", {{"HTTP/1.1 200 OK\r\n", ""}}, "failed: greeting -1\n"},
    {"mail refused, yet 354",
     NEVER_BDAT,
     2,
     "x\r\n",
     {HELLO,
      {PIPE, GROUP2},
      {"550 m\r\n503 r0\r\n503 r1\r\n354 d\r\n", ".\r\n"},
      {"554 none\r\n", ""}},
     OPENED "0: MAIL FROM 0 550 m\n1: MAIL FROM 0 550 m\ndone 1\n"},
    {"all recipients refused, pipelined, 354",
     NEVER_BDAT,
     2,
     "secret\r\n",
     {HELLO,
      {PIPE, GROUP2},
      {"250 m\r\n550 r0\r\n550 r1\r\n354 go\r\n", ".\r\n"},
      {"250 took nothing\r\n", ""}},
     OPENED "0: RCPT TO 0 550 r0\n1: RCPT TO 0 550 r1\ndone 1\n"},
    {"250 to data",
     NEVER_BDAT,
     1,
     "x\r\n",
     {HELLO,
      {"250 mx\r\n", "MAIL FROM:<a@b.c>\r\n"},
      {"250 m\r\n", "RCPT TO:<r0@d.e>\r\n"},
      {"250 r\r\n", "DATA\r\n"},
      {"250 what\r\n", ""}},
     OPENED "0: DATA -1 250 what\ndone 0\nfailed: DATA -1 250 what\n"},
    {"354 to mail",
     NEVER_BDAT,
     1,
     "x\r\n",
     {HELLO, {"250 mx\r\n", "MAIL FROM:<a@b.c>\r\n"}, {"354 m\r\n", ""}},
     OPENED "0: MAIL FROM -1 354 m\ndone 0\nfailed: MAIL FROM -1 354 m\n"},
    {"421 at rcpt",
     NEVER_BDAT,
     2,
     "x\r\n",
     {HELLO, {PIPE, GROUP2}, {"250 m\r\n250 r0\r\n421 4.7.0 enough\r\n", ""}},
     OPENED "0: RCPT TO 0 421 4.7.0 enough\n1: RCPT TO 0 421 4.7.0 enough\ndone 0\nfailed: RCPT TO "
            "0 421 4.7.0 enough\n"},
    {"421 while idle",
     0,
     0,
     "x\r\n",
     {HELLO, {"250 mx\r\n", ""}, {"421 bye\r\n", ""}},
     OPENED "failed: idle 0 421 bye\n"},
    {"250 while idle",
     0,
     0,
     "x\r\n",
     {HELLO, {"250 mx\r\n", ""}, {"250 hello\r\n", ""}},
     OPENED "failed: idle -1 250 hello\n"},
    {"reply before its command",
     NEVER_BDAT | WHOLE_ONLY,
     1,
     "x\r\n",
     {HELLO,
      {"250 mx\r\n", "MAIL FROM:<a@b.c>\r\n"},
      {"250 m\r\n250 r\r\n", "RCPT TO:<r0@d.e>\r\n"}},
     OPENED "0: RCPT TO -1 250 r\ndone 0\nfailed: RCPT TO -1 250 r\n"},
    {"a smuggled reply for the next message",
     NEVER_BDAT | WHOLE_ONLY | TWICE,
     1,
     "x\r\n",
     {HELLO,
      {PIPE, "MAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nDATA\r\n"},
      {"250 m\r\n250 r\r\n354 go\r\n", "x\r\n.\r\n"},
      {"250 ok\r\n250 m\r\n", "MAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nDATA\r\n"}},
     OPENED "0: end of content 0 250 ok\ndone 1\n0: MAIL FROM -1 250 m\ndone 0\nfailed: MAIL FROM "
            "-1 250 m\n"},
    {"no content for nobody in LMTP",
     LMTP | NEVER_BDAT,
     1,
     "x\r\n",
     {{"220 mx\r\n", "LHLO relay.example\r\n"},
      {PIPE, "MAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nDATA\r\n"},
      {"250 m\r\n550 r0\r\n354 go\r\n", ""}},
     OPENED "0: RCPT TO 0 550 r0\ndone 0\nfailed: DATA -1 354 go\n"},
    {"two replies to the end",
     NEVER_BDAT,
     1,
     "x\r\n",
     {HELLO,
      {PIPE, "MAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nDATA\r\n"},
      {"250 m\r\n250 r\r\n354 go\r\n", "x\r\n.\r\n"},
      {"250 ok\r\n250 smuggled\r\n", ""}},
     OPENED "0: end of content 0 250 ok\ndone 1\nfailed: idle -1 250 smuggled\n"},
    {"code changes within a reply",
     0,
     1,
     "x\r\n",
     {HELLO, {"250-mx\r\n550 no\r\n", ""}},
     "failed: EHLO -1\n"},
    {"enhanced code of another class",
     NEVER_BDAT,
     1,
     "x\r\n",
     {HELLO, {"250 mx\r\n", "MAIL FROM:<a@b.c>\r\n"}, {"550 4.1.1 odd\r\n", ""}},
     OPENED "0: MAIL FROM 0 550 4.1.1 odd\ndone 1\n"},
    {"auth asks on and on",
     TLS_ACTIVE | LOGIN,
     0,
     "",
     {HELLO, {"250-mx\r\n250 AUTH PLAIN\r\n", AUTH_LINE}, {"334 \r\n", ""}},
     "failed: AUTH -1\n"},
};

struct fixture {
    const struct row *row;
    struct smtp_client_config config;
    struct smtp_client *client;
    struct smtp_transaction transaction;
    struct smtp_client_rcpt rcpts[3];
    char paths[3][32];
    size_t at;      // of the content
    unsigned piece; // longest piece the content is given in
    int rounds;
    struct buf log, told;
    struct mono now;
};

static void log_outcome(struct fixture *f, const struct smtp_outcome *outcome)
{
    buf_printf(&f->log, "%s %d%s", smtp_step_name(outcome->step), outcome->err,
               outcome->unsent ? " unsent" : "");
    if (outcome->reply) {
        const struct smtp_reply *r = outcome->reply;
        buf_printf(&f->log, " %u", r->code);
        if (r->enhanced.class)
            buf_printf(&f->log, " %u.%u.%u", r->enhanced.class, r->enhanced.subject,
                       r->enhanced.detail);
        buf_printf(&f->log, " %.*s", BYTES_FMT(r->text));
    }
    buf_add_cstr(&f->log, "\n");
}

static int content(void *ctx, size_t max, struct bytes *out, bool *out_end)
{
    struct fixture *f = ctx;
    struct bytes all = bytes_cstr(f->row->content);
    if ((f->row->setup & CONTENT_FAILS) && f->at == 2)
        return E_IO;
    size_t n = f->piece && f->piece < max ? f->piece : max;
    if (f->row->setup & CONTENT_FAILS)
        n = 2;
    *out = bytes_mid(all, f->at, n);
    f->at += out->len;
    *out_end = f->at == all.len;
    return OK;
}

static void start(struct fixture *f)
{
    f->at = 0;
    f->rounds++;
    smtp_client_send(f->client, &f->transaction, f->now);
}

static void on_ready(void *ctx, const struct smtp_caps *caps)
{
    struct fixture *f = ctx;
    buf_add_cstr(&f->log, "ready\n");
    if (f->row->rcpts)
        start(f);
}

static void on_outcome(void *ctx, uint32_t rcpt, const struct smtp_outcome *outcome)
{
    struct fixture *f = ctx;
    buf_printf(&f->log, "%u: ", rcpt);
    log_outcome(f, outcome);
}

static void on_done(void *ctx, bool reusable)
{
    struct fixture *f = ctx;
    buf_printf(&f->log, "done %d\n", reusable);
    if (reusable && (f->row->setup & TWICE) && f->rounds == 1)
        start(f);
}

static void on_failed(void *ctx, const struct smtp_outcome *why)
{
    struct fixture *f = ctx;
    buf_add_cstr(&f->log, "failed: ");
    log_outcome(f, why);
}

static void on_bindings(void *ctx, struct sasl_bindings *out)
{
    struct fixture *f = ctx;
    CHECK(f->row->setup & (TLS_ACTIVE | TLS_IF | TLS_REQUIRED));
    out->of[SASL_TLS_EXPORTER].len = f->row->setup & BINDS ? 32 : 0;
}

static void random_octets(void *ctx, void *out, size_t n)
{
    memset(out, 'r', n);
}

static void on_line(void *ctx, enum smtp_client_line kind, uint64_t number, struct bytes text)
{
    struct fixture *f = ctx;
    if (kind == SMTP_LINE_SENT)
        buf_printf(&f->told, "> %.*s\n", BYTES_FMT(text));
    else if (kind == SMTP_LINE_REPLY)
        buf_printf(&f->told, "< %llu %.*s\n", (unsigned long long)number, BYTES_FMT(text));
    else
        buf_printf(&f->told, "= %llu\n", (unsigned long long)number);
}

static const struct smtp_client_handlers handlers = {on_ready,  on_outcome,  on_done,
                                                     on_failed, on_bindings, on_line};

static enum smtp_client_tls tls_mode(unsigned setup)
{
    return setup & TLS_ACTIVE     ? SMTP_CLIENT_TLS_ACTIVE
           : setup & TLS_REQUIRED ? SMTP_CLIENT_TLS_REQUIRED
           : setup & TLS_IF       ? SMTP_CLIENT_TLS_IF_OFFERED
                                  : SMTP_CLIENT_TLS_NEVER;
}

static void setup(struct fixture *f, const struct row *row)
{
    *f = (struct fixture){.row = row, .now = {1000}};
    unsigned s = row->setup;
    f->config = (struct smtp_client_config){.helo_name = BYTES("relay.example"),
                                            .lmtp = s & LMTP,
                                            .tls = tls_mode(s),
                                            .chunking = s & ALWAYS_BDAT  ? SMTP_CHUNKING_ALWAYS
                                                        : s & NEVER_BDAT ? SMTP_CHUNKING_NEVER
                                                                         : SMTP_CHUNKING_AUTO,
                                            .auth_without_tls = s & LOGIN_CLEAR};
    f->config.random = s & RANDOM ? random_octets : NULL;
    if (s & LOGIN) {
        f->config.login = BYTES("user");
        f->config.password = BYTES("secret");
    }
    for (uint32_t i = 0; i < 3; i++) {
        snprintf(f->paths[i], sizeof f->paths[i],
                 s & BAD_RCPT && i == 1 ? "r>\r\nDATA\r\n%u" : "r%u@d.e", i);
        f->rcpts[i].path = bytes_cstr(f->paths[i]);
        f->rcpts[i].notify = NOTIFY_SUCCESS | NOTIFY_DELAY;
        f->rcpts[i].orcpt = s & UTF8_ORCPT  ? BYTES("utf-8;\xc3\xb6\\x{2B}x@d.e")
                            : s & ANGLES    ? BYTES("rfc822;<o@d.e>")
                            : s & BAD_ORCPT ? BYTES("rfc822;o@d.e\r\nDATA")
                                            : BYTES("rfc822;o@d.e");
    }
    f->transaction = (struct smtp_transaction){
        .reverse_path = BYTES("a@b.c"),
        .body = s & BODY_8BIT ? BODY_8BITMIME : BODY_7BIT,
        .smtputf8 = s & UTF8,
        .ret = RET_HDRS,
        .envid = s & ANGLES      ? BYTES("<e>")
                 : s & BAD_ENVID ? BYTES("e SIZE=1")
                                 : BYTES("e+2Bv"),
        .size = s & NO_SIZE ? 0 : strlen(row->content) - (s & SIZE_LIES ? 1 : 0),
        .rcpts = f->rcpts,
        .rcpts_count = row->rcpts,
        .content = content,
        .content_ctx = f};
    f->client = smtp_client_new(&f->config, &handlers, f, f->now);
}

static void drain(struct fixture *f, struct buf *got)
{
    struct buf *out = smtp_client_output(f->client);
    while (out->len > 0) {
        buf_add(got, buf_bytes(out));
        buf_consume(out, out->len);
        smtp_client_more(f->client, f->now);
    }
}

static void feed(struct fixture *f, struct bytes in, unsigned cuts, struct buf *got)
{
    unsigned seed = cuts;
    while (in.len > 0) {
        size_t n = cuts == 0 ? in.len : cuts == 1 ? 1 : 1 + (size_t)rand_r(&seed) % 9;
        smtp_client_feed(f->client, bytes_first(in, n), f->now);
        in = bytes_skip(in, n);
        if (smtp_client_wants(f->client) == SMTP_CLIENT_TLS) {
            drain(f, got);
            buf_add_cstr(got, "[tls]");
            smtp_client_tls_started(f->client, f->now);
        }
        drain(f, got);
    }
}

// What a dialogue must never have: the password, alone and among others, in base64 at each offset.
static void check_no_secret(const struct fixture *f, const char *name)
{
    static const char *const SECRETS[] = {"secret",  "c2VjcmV0", "NlY3JldA",
                                          "zZWNyZX", "AHVzZXIA", "bj11c2Vy"};
    for (size_t i = 0; i < COUNT_OF(SECRETS); i++)
        if (bytes_search(buf_bytes(&f->told), bytes_cstr(SECRETS[i])) >= 0)
            fail_msg("%s: a secret is told:\n%.*s", name, BYTES_FMT(buf_bytes(&f->told)));
}

static void run(const struct row *row, unsigned cuts)
{
    struct fixture f;
    setup(&f, row);
    f.piece = cuts;
    for (size_t i = 0; i < COUNT_OF(row->turns) && row->turns[i].server; i++) {
        struct buf got = {0};
        feed(&f, bytes_cstr(row->turns[i].server), cuts, &got);
        if (strcmp(buf_cstr(&got), row->turns[i].client) != 0)
            fail_msg("%s, turn %zu, cuts %u\nwant: %s\ngot: %s", row->name, i, cuts,
                     row->turns[i].client, buf_cstr(&got));
        buf_done(&got);
    }
    if (row->want && strcmp(row->want, "") != 0 && smtp_client_step(f.client) == SMTP_STEP_MAIL)
        smtp_client_hangup(f.client, E_CLOSED);
    if (row->want && strcmp(buf_cstr(&f.log), row->want) != 0)
        fail_msg("%s, cuts %u\nwant: %s\ngot: %s", row->name, cuts, row->want, buf_cstr(&f.log));
    check_no_secret(&f, row->name);
    smtp_client_free(f.client);
    buf_done(&f.log);
    buf_done(&f.told);
}

// What on_line() tells of a session, its secrets hidden.
static void test_told(void **state)
{
    static const struct {
        struct row row;
        const char *want;
    } cases[] = {
        {{"mail",
          0,
          2,
          "S: x\r\n\r\nThe body\r\n",
          {HELLO,
           {"250-mx\r\n250 DSN\r\n", NULL},
           {"250 2.1.0 ok\r\n", NULL},
           {"250 ok\r\n", NULL},
           {"550-5.1.1 no\r\n550 5.1.1 such user\r\n", NULL},
           {"354 go\r\n", NULL},
           {"250 2.0.0 taken\r\n", NULL}},
          NULL},
         "< 220 mx ESMTP\n> EHLO relay.example\n< 250 mx\nDSN\n"
         "> MAIL FROM:<a@b.c> RET=HDRS ENVID=e+2Bv\n< 250 2.1.0 ok\n"
         "> RCPT TO:<r0@d.e> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o@d.e\n< 250 ok\n"
         "> RCPT TO:<r1@d.e> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o@d.e\n"
         "< 550 5.1.1 no\nsuch user\n> DATA\n< 354 go\n= 18\n< 250 2.0.0 taken\n"},
        {{"PLAIN",
          TLS_ACTIVE | LOGIN,
          0,
          "",
          {HELLO, {"250-mx\r\n250 AUTH PLAIN\r\n", NULL}, {"235 2.7.0 welcome\r\n", NULL}},
          NULL},
         "< 220 mx ESMTP\n> EHLO relay.example\n< 250 mx\nAUTH PLAIN\n> AUTH PLAIN ***\n< 235 "
         "2.7.0 ***\n"},
        {{"LOGIN",
          TLS_ACTIVE | LOGIN,
          0,
          "",
          {HELLO,
           {"250-mx\r\n250 AUTH LOGIN\r\n", NULL},
           {"334 VXNlcm5hbWU6\r\n", NULL},
           {"334 UGFzc3dvcmQ6\r\n", NULL},
           {"535 5.7.8 authentication of user failed: c2VjcmV0 https://example.org/login\r\n",
            NULL}},
          NULL},
         "< 220 mx ESMTP\n> EHLO relay.example\n< 250 mx\nAUTH LOGIN\n> AUTH LOGIN\n< 334 ***\n> "
         "***\n"
         "< 334 ***\n> ***\n"
         "< 535 5.7.8 authentication of user failed: *** https://example.org/login\n"},
        {{"a password said aloud",
          TLS_ACTIVE | LOGIN,
          0,
          "",
          {HELLO, {"250-mx\r\n250 AUTH PLAIN\r\n", NULL}, {"535 5.7.8 what is secret?\r\n", NULL}},
          NULL},
         "< 220 mx ESMTP\n> EHLO relay.example\n< 250 mx\nAUTH PLAIN\n> AUTH PLAIN ***\n< 535 "
         "5.7.8 ***\n"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct fixture f;
        const struct row *row = &cases[i].row;
        setup(&f, row);
        for (size_t k = 0; k < COUNT_OF(row->turns) && row->turns[k].server; k++) {
            struct buf got = {0};
            feed(&f, bytes_cstr(row->turns[k].server), 0, &got);
            buf_done(&got);
        }
        check_no_secret(&f, row->name);
        if (strcmp(buf_cstr(&f.told), cases[i].want) != 0)
            fail_msg("%s\nwant: %s\ngot: %s", row->name, cases[i].want, buf_cstr(&f.told));
        smtp_client_free(f.client);
        buf_done(&f.log);
        buf_done(&f.told);
    }
}

static void run_all(const struct row *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (unsigned cuts = 0; cuts < (list[i].setup & WHOLE_ONLY ? 1u : 5u); cuts++)
            run(&list[i], cuts);
}

static void test_rows(void **state)
{
    run_all(rows, COUNT_OF(rows));
}

static void test_d_starttls(void **state)
{
    run_all(starttls_rows, COUNT_OF(starttls_rows));
}

static void test_g_hostile_servers(void **state)
{
    run_all(hostile_rows, COUNT_OF(hostile_rows));
}

// ---- time-outs of RFC 5321 4.5.3.2, in minutes

static void test_time_outs(void **state)
{
    static const struct row row = {
        .name = "time", .setup = NEVER_BDAT, .rcpts = 1, .content = "x\r\n"};
    static const struct {
        const char *server;
        int minutes;
    } turns[] = {{"", 5},          {"220 mx\r\n", 5}, {"250 mx\r\n", 5},
                 {"250 m\r\n", 5}, {"250 r\r\n", 2},  {"354 go\r\n", 10}};
    for (size_t last = 0; last < COUNT_OF(turns); last++) {
        struct fixture f;
        struct buf got = {0};
        setup(&f, &row);
        for (size_t i = 0; i <= last; i++) {
            f.now = mono_add_ms(f.now, 60000);
            if (i > 0)
                feed(&f, bytes_cstr(turns[i].server), 0, &got);
        }
        struct mono from = last == 0 ? (struct mono){1000} : f.now;
        assert_int_equal(mono_ms_between(from, smtp_client_deadline(f.client)),
                         turns[last].minutes * 60000);
        smtp_client_tick(f.client, mono_add_ms(from, turns[last].minutes * 60000 - 1));
        assert_int_equal(smtp_client_wants(f.client), SMTP_CLIENT_INPUT);
        smtp_client_tick(f.client, mono_add_ms(from, turns[last].minutes * 60000));
        assert_int_equal(smtp_client_wants(f.client), SMTP_CLIENT_CLOSE);
        assert_non_null(strstr(buf_cstr(&f.log), "failed: "));
        smtp_client_free(f.client);
        buf_done(&f.log);
        buf_done(&f.told);
        buf_done(&got);
    }
}

// STARTTLS and the handshake have a minute each.
static void test_time_outs_of_tls(void **state)
{
    static const struct row row = {.name = "time of TLS", .setup = TLS_IF, .content = ""};
    static const char *const want[] = {"failed: STARTTLS -8\n", "failed: TLS handshake -8\n"};
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        struct fixture f;
        setup(&f, &row);
        smtp_client_feed(f.client, BYTES("220 mx\r\n250-mx\r\n"), f.now);
        f.now = mono_add_ms(f.now, 60000);
        smtp_client_feed(f.client, BYTES("250 STARTTLS\r\n"), f.now);
        f.now = mono_add_ms(f.now, 30000 * (int64_t)i);
        if (i > 0)
            smtp_client_feed(f.client, BYTES("220 go\r\n"), f.now);
        smtp_client_tick(f.client, mono_add_ms(f.now, 59999));
        assert_string_equal(f.log.len ? buf_cstr(&f.log) : "", "");
        smtp_client_tick(f.client, mono_add_ms(f.now, 60000));
        assert_string_equal(buf_cstr(&f.log), want[i]);
        smtp_client_free(f.client);
        buf_done(&f.log);
        buf_done(&f.told);
    }
}

// A reply of one byte a minute does not put the deadline off.
static void test_g_slow_reply(void **state)
{
    static const struct row row = {.name = "slow", .content = ""};
    struct fixture f;
    setup(&f, &row);
    for (int i = 0; i < 5; i++) {
        f.now = mono_add_ms(f.now, 60000);
        smtp_client_feed(f.client, BYTES("2"), f.now);
        smtp_client_tick(f.client, f.now);
    }
    assert_int_equal(smtp_client_wants(f.client), SMTP_CLIENT_CLOSE);
    assert_string_equal(buf_cstr(&f.log), "failed: greeting -8\n");
    smtp_client_free(f.client);
    buf_done(&f.log);
    buf_done(&f.told);
}

static void open_session(struct fixture *f, const struct row *row, const char *ehlo,
                         struct buf *got)
{
    setup(f, row);
    feed(f, BYTES("220 mx\r\n"), 0, got);
    feed(f, bytes_cstr(ehlo), 0, got);
}

static void test_quit(void **state)
{
    static const struct row row = {.name = "quit", .content = ""};
    struct fixture f;
    struct buf got = {0};
    open_session(&f, &row, "250 mx\r\n", &got);
    buf_clear(&got);
    smtp_client_quit(f.client, f.now);
    assert_false(smtp_client_is_ready(f.client));
    drain(&f, &got);
    assert_string_equal(buf_cstr(&got), "QUIT\r\n");
    assert_int_equal(smtp_client_wants(f.client), SMTP_CLIENT_INPUT);
    feed(&f, BYTES("221 bye\r\n"), 0, &got);
    assert_int_equal(smtp_client_wants(f.client), SMTP_CLIENT_CLOSE);
    assert_string_equal(buf_cstr(&f.log), "ready\n");
    smtp_client_free(f.client);
    buf_done(&f.log);
    buf_done(&f.told);
    buf_done(&got);
}

static void test_caps(void **state)
{
    static const struct row row = {.name = "caps", .content = ""};
    struct fixture f;
    struct buf got = {0};
    open_session(
        &f, &row,
        "250-mx STARTTLS\r\n250-Pipelining\r\n250-SIZE 1000\r\n250-AUTH plain SCRAM-SHA-256 X\r\n"
        "250-CHUNKING\r\n250-LIMITS RCPTMAX=1 X mailmax=999999 "
        "RCPTDOMAINMAX=0\r\n250-DELIVERBY 30\r\n250-MT-PRIORITY MIXER\r\n250-BINARYMIME\r\n250 "
        "SIZEX 5\r\n",
        &got);
    const struct smtp_caps *c = smtp_client_caps(f.client);
    assert_true(c->extended && c->pipelining && c->chunking && c->binarymime && c->size);
    assert_false(c->starttls || c->eightbitmime || c->smtputf8 || c->dsn);
    assert_int_equal(c->size_max, 1000);
    assert_int_equal(c->rcpts_max, 1);
    assert_true(c->deliverby && c->mt_priority);
    assert_int_equal(c->deliverby_min_s, 30);
    assert_int_equal(c->mails_max, 999999);
    assert_int_equal(c->rcpt_domains_max, 0);
    assert_int_equal(c->auth, 1u << SASL_PLAIN | 1u << SASL_SCRAM_SHA_256);
    assert_int_equal(smtp_client_can_carry(f.client, BODY_7BIT, false, 1000), SMTP_CARRY_OK);
    assert_int_equal(smtp_client_can_carry(f.client, BODY_7BIT, false, 1001), SMTP_CARRY_TOO_LARGE);
    assert_int_equal(smtp_client_can_carry(f.client, BODY_8BITMIME, false, 1),
                     SMTP_CARRY_NEEDS_8BITMIME);
    assert_int_equal(smtp_client_can_carry(f.client, BODY_BINARYMIME, false, 1), SMTP_CARRY_OK);
    assert_int_equal(smtp_client_can_carry(f.client, BODY_7BIT, true, 1),
                     SMTP_CARRY_NEEDS_SMTPUTF8);
    smtp_client_free(f.client);
    buf_done(&f.log);
    buf_done(&f.told);
    buf_done(&got);
}

// An EHLO reply of a hundred thousand keywords, as lines or in one line, is no reply.
static void test_g_many_keywords(void **state)
{
    static const struct row row = {.name = "keywords", .content = ""};
    static const struct {
        const char *keyword, *end;
        int times;
        const char *want;
    } cases[] = {
        {"250-KEYWORD\r\n", "250 mx\r\n", 99, "ready\n"},
        {"250-KEYWORD\r\n", "250 mx\r\n", 100000, "failed: EHLO -1\n"},
        {" KEYWORD", "\r\n", 200, "ready\n"},
        {" KEYWORD", "\r\n", 100000, "failed: EHLO -1\n"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct fixture f;
        struct buf ehlo = {0}, got = {0};
        if (cases[i].keyword[0] == ' ')
            buf_add_cstr(&ehlo, "250 AUTH");
        for (int k = 0; k < cases[i].times; k++)
            buf_add_cstr(&ehlo, cases[i].keyword);
        buf_add_cstr(&ehlo, cases[i].end);
        open_session(&f, &row, buf_cstr(&ehlo), &got);
        assert_string_equal(buf_cstr(&f.log), cases[i].want);
        assert_int_equal(smtp_client_wants(f.client),
                         i % 2 ? SMTP_CLIENT_CLOSE : SMTP_CLIENT_INPUT);
        smtp_client_free(f.client);
        buf_done(&f.log);
        buf_done(&f.told);
        buf_done(&ehlo);
        buf_done(&got);
    }
}

// An early refusal of content ends the session; it never counts as the answer to the whole.
static void test_g_early_replies(void **state)
{
    static const char big[100000] = {[0 ... 99998] = 'x'};
    static const struct {
        const char *reply, *want;
        unsigned setup;
    } cases[] = {
        {"552 5.3.4 too big\r\n",
         "0: content 0 552 5.3.4 too big\ndone 0\nfailed: content 0 552 5.3.4 too big\n",
         NEVER_BDAT},
        {"250 ok\r\n", "0: content -1 250 ok\ndone 0\nfailed: content -1 250 ok\n", NEVER_BDAT},
        {"552 5.3.4 too big\r\n",
         "0: content 0 552 5.3.4 too big\ndone 0\nfailed: content 0 552 5.3.4 too big\n",
         ALWAYS_BDAT},
        {"250 ok\r\n", "0: content -1 250 ok\ndone 0\nfailed: content -1 250 ok\n", ALWAYS_BDAT},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct row row = {.name = "early", .setup = cases[i].setup, .rcpts = 1, .content = big};
        struct fixture f;
        struct buf got = {0};
        open_session(&f, &row, "250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n", &got);
        smtp_client_feed(f.client, BYTES("250 m\r\n250 r\r\n"), f.now);
        if (cases[i].setup & NEVER_BDAT)
            smtp_client_feed(f.client, BYTES("354 go\r\n"), f.now);
        assert_int_equal(smtp_client_step(f.client), SMTP_STEP_CONTENT);
        assert_true(smtp_client_output(f.client)->len < SMTP_CLIENT_OUTPUT_HIGH + 100);
        smtp_client_feed(f.client, bytes_cstr(cases[i].reply), f.now);
        assert_string_equal(buf_cstr(&f.log) + strlen("ready\n"), cases[i].want);
        assert_int_equal(smtp_client_wants(f.client), SMTP_CLIENT_CLOSE);
        smtp_client_free(f.client);
        buf_done(&f.log);
        buf_done(&f.told);
        buf_done(&got);
    }
}

// The connection breaks behind the final dot: the answer is unknown, and said to be.
static void test_hangup_after_dot(void **state)
{
    static const struct row row = {
        .name = "dot", .setup = NEVER_BDAT, .rcpts = 1, .content = "x\r\n"};
    struct fixture f;
    struct buf got = {0};
    open_session(&f, &row, PIPE, &got);
    feed(&f, BYTES("250 m\r\n250 r\r\n354 go\r\n"), 0, &got);
    smtp_client_hangup(f.client, E_CLOSED);
    assert_string_equal(buf_cstr(&f.log),
                        "ready\n0: end of content -7\ndone 0\nfailed: end of content -7\n");
    smtp_client_free(f.client);
    buf_done(&f.log);
    buf_done(&f.told);
    buf_done(&got);
}

// Content that leaves before the replies may have been taken, whatever reply the break was at. So it leaves first only
// where a connection is hardly at its end: not after one message, not after a pause, not behind a RSET.
static void test_content_in_advance(void **state)
{
    static const struct row row = {.name = "advance", .rcpts = 1, .content = "x\r\n"};
    static const struct {
        int64_t pause_ms;
        const char *want, *server, *then;
    } turns[] = {
        {0, "BDAT 3 LAST\r\nx\r\n", "250 m\r\n250 r\r\n", "250 ok\r\n"},
        {0, "DATA\r\n", "250 m\r\n250 r\r\n354 go\r\n", "250 ok\r\n"},
        {0, "BDAT 3 LAST\r\nx\r\n", "250 m\r\n250 r\r\n", "250 ok\r\n"},
        {1000, "DATA\r\n", "250 m\r\n250 r\r\n354 go\r\n", "250 ok\r\n"},
        {0, "BDAT 3 LAST\r\nx\r\n", "250 m\r\n550 r\r\n", "503 nobody\r\n"},
        {0, "RSET\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<r0@d.e>\r\nDATA\r\n",
         "250 0\r\n250 m\r\n250 r\r\n354 go\r\n", "250 ok\r\n"},
        {0, "BDAT 3 LAST\r\nx\r\n", "", ""},
    };
    struct fixture f;
    struct buf got = {0};
    open_session(&f, &row, "250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n", &got);
    for (size_t i = 0; i < COUNT_OF(turns); i++) {
        f.now = mono_add_ms(f.now, turns[i].pause_ms);
        if (i > 0)
            start(&f);
        drain(&f, &got);
        if (!bytes_ends(buf_bytes(&got), bytes_cstr(turns[i].want)))
            fail_msg("turn %zu:\n%s", i, buf_cstr(&got));
        feed(&f, bytes_cstr(turns[i].server), 0, &got);
        feed(&f, bytes_cstr(turns[i].then), 0, &got);
        buf_clear(&got);
    }
    buf_clear(&f.log);
    smtp_client_hangup(f.client, E_CLOSED);
    assert_string_equal(buf_cstr(&f.log),
                        "0: end of content -7\ndone 0\nfailed: end of content -7\n");
    smtp_client_free(f.client);
    buf_done(&f.log);
    buf_done(&f.told);
    buf_done(&got);
}

// The limit of the parameter holds for what is sent, too.
static void test_original_recipients_in_ascii(void **state)
{
    (void)state;
    struct buf longest = {0}, too_long = {0}, got = {0};
    buf_add_cstr(&longest, "utf-8;");
    for (size_t i = 0; i < (500 - strlen("utf-8;@d")) / strlen("\\x{20AC}"); i++)
        buf_add_cstr(&longest, "\xe2\x82\xac");
    buf_add(&too_long, buf_bytes(&longest));
    buf_add_cstr(&longest, "@d");
    buf_add_cstr(&too_long, "\xe2\x82\xac@d");
    smtp_orcpt_add_ascii(buf_bytes(&longest), &got);
    assert_int_equal(got.len, 496);
    assert_true(smtp_orcpt_is_valid(buf_bytes(&got), false));
    buf_clear(&got);
    smtp_orcpt_add_ascii(buf_bytes(&too_long), &got);
    smtp_orcpt_add_ascii(BYTES("utf-8;\xff@d"), &got);
    smtp_orcpt_add_ascii(BYTES("rfc822;\xc3\xb6@d"), &got); // which has no such form
    smtp_orcpt_add_ascii(BYTES("\xc3\xb6@d"), &got);
    assert_int_equal(got.len, 0);
    buf_done(&longest);
    buf_done(&too_long);
    buf_done(&got);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_d_starttls),
        cmocka_unit_test(test_g_hostile_servers),
        cmocka_unit_test(test_told),
        cmocka_unit_test(test_time_outs),
        cmocka_unit_test(test_time_outs_of_tls),
        cmocka_unit_test(test_g_slow_reply),
        cmocka_unit_test(test_quit),
        cmocka_unit_test(test_caps),
        cmocka_unit_test(test_g_many_keywords),
        cmocka_unit_test(test_g_early_replies),
        cmocka_unit_test(test_hangup_after_dot),
        cmocka_unit_test(test_content_in_advance),
        cmocka_unit_test(test_original_recipients_in_ascii),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
