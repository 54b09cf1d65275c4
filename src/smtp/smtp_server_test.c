// SPDX-License-Identifier: MIT
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "smtp/smtp_testkit.h"

#define G "220 mx.example.org ESMTP posthaste\r\n"
#define EHLO_IN "EHLO c.example\r\n"
#define EHLO_HEAD                                                                                  \
    "250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n"                \
    "250-SMTPUTF8\r\n250-DSN\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250-LIMITS RCPTMAX=1000\r\n"
#define EHLO_OUT EHLO_HEAD "250-STARTTLS\r\n250 ENHANCEDSTATUSCODES\r\n"
#define EHLO_FEW                                                                                   \
    "250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n"                \
    "250-SMTPUTF8\r\n250-DSN\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250-LIMITS RCPTMAX=1000 "        \
    "MAILMAX=2\r\n"                                                                                \
    "250-STARTTLS\r\n250 ENHANCEDSTATUSCODES\r\n"
#define EHLO_TLS EHLO_HEAD "250-AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n250 ENHANCEDSTATUSCODES\r\n"
#define OFFERS                                                                                     \
    "250-FUTURERELEASE 1000 2027-01-15T08:16:40Z\r\n250-DELIVERBY 10\r\n250-MT-PRIORITY\r\n"
#define M(params) "MAIL FROM:<a@b.c> " params "\r\nRSET\r\n"
#define MAIL_IN "MAIL FROM:<a@example.com>\r\n"
#define MAIL_OUT "250 2.1.0 Ok\r\n"
#define RCPT_IN "RCPT TO:<b@example.net>\r\n"
#define RCPT_OUT "250 2.1.5 Ok\r\n"
#define OPEN_IN EHLO_IN MAIL_IN RCPT_IN
#define OPEN_OUT G EHLO_OUT MAIL_OUT RCPT_OUT
#define BINARY_MORE "MAIL FROM:<a@b.c> BODY=binarymime\r\n" RCPT_IN
#define BINARY_IN EHLO_IN BINARY_MORE
#define BINARY_OUT OPEN_OUT
#define GO "354 Send the message; end it with a line that has only a dot\r\n"
#define BYE "221 2.0.0 Bye\r\n[close]"
#define NEED(what) "503 5.5.1 Not now; send " what " first\r\n"
#define UNKNOWN "500 5.5.1 Unknown command; HELP lists those known here\r\n"
#define BAD_LINE                                                                                   \
    "500 5.5.2 A command line is printable text ended by CRLF; this one has a control character "  \
    "or a bare CR or LF\r\n"
#define RSET_OUT "250 2.0.0 Ok: nothing is open\r\n"
#define NO_VALID "554 5.5.1 No valid recipients\r\n"
#define BAD_SENDER                                                                                 \
    "501 5.1.7 Sender address not valid; the form is MAIL FROM:<name@example.com> or MAIL "        \
    "FROM:<>\r\n"
#define BAD_RCPT "501 5.1.3 Recipient address not valid; the form is RCPT TO:<name@example.com>\r\n"
#define AUTH_SYNTAX "501 5.5.2 Not valid base64, or not a valid message of this mechanism\r\n"
#define AUTH_BAD "535 5.7.8 Login or password wrong\r\n"
#define AUTH_OK "235 2.7.0 Logged in\r\n"
#define XCLIENT_OFFER "250-XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT\r\n"
#define XCLIENT_EHLO                                                                               \
    EHLO_HEAD "250-STARTTLS\r\n250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n"  \
              "250 ENHANCEDSTATUSCODES\r\n"
#define UNBOUND                                                                                    \
    "535 5.7.8 The login is bound to another TLS connection or another offer than this one has; "  \
    "something between us changed it\r\n"
#define DENIED                                                                                     \
    "550 5.7.0 XCLIENT, or its LOGIN, is not for you: the listener's configuration names who may " \
    "use it\r\n"
#define BAD_XCLIENT(name) "501 5.5.4 Value not valid for XCLIENT's " name "\r\n"
#define BARE_LF "550 5.6.0 Message has a bare LF; lines must end in CRLF\r\n"
#define BARE_CR "550 5.6.0 Message has a bare CR; lines must end in CRLF\r\n"

enum {
    TLS = 1,
    TRUSTED = 2,
    REQUIRED = 4,
    NO_LOGINS = 8,
    REFUSE_DATA = 16,
    WHOLE_ONLY = 32,
    NO_CHUNKING = 64,
    SMALL = 128,     // size 20, recipients 2, text line 10
    FEW_MAILS = 512, // two MAIL commands
    XCLIENT = 1024,
    BINDS = 4096,
    KNOWN = 8192,
    EXTERNAL = 16384,
    XCLIENT_LOGIN = 2048,
    SCHEDULING = 65536,
    PLAIN_HELO = 256, // none of the extensions that can be left out
};

struct dialogue {
    const char *name;
    unsigned setup;
    struct bytes input;
    const char *want;
    const char *body; // of the last accepted message; NULL: not looked at
};

#define ROW(name, setup, input, want)                                                              \
    {                                                                                              \
        name, setup, BYTES(input), want, NULL                                                      \
    }
#define ROW_BODY(name, setup, input, want, body)                                                   \
    {                                                                                              \
        name, setup, BYTES(input), want, body                                                      \
    }

static const struct dialogue dialogues[] = {
    ROW("greeting", 0, "", G),
    ROW("quit", 0, "QUIT\r\n", G BYE),
    ROW("lower case, trailing blank", 0, "quit \r\n", G BYE),
    ROW("helo", 0, "HELO c.example\r\n", G "250 mx.example.org\r\n"),
    ROW("ehlo", 0, EHLO_IN, G EHLO_OUT),
    ROW("ehlo under tls", TLS, EHLO_IN, G EHLO_TLS),
    ROW("ehlo trusted", TRUSTED, EHLO_IN,
        G EHLO_HEAD
        "250-STARTTLS\r\n250-AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n250 ENHANCEDSTATUSCODES\r\n"),
    ROW("ehlo without name", 0, "EHLO\r\nEHLO  \r\n",
        G "501 5.5.4 Give your host name or an address in brackets: letters, digits, dots, "
          "hyphens\r\n"
          "501 5.5.4 Give your host name or an address in brackets: letters, digits, dots, "
          "hyphens\r\n"),
    ROW("helo name that would end a comment", 0, "HELO a)(b\r\n",
        G "501 5.5.4 Give your host name or an address in brackets: letters, digits, dots, "
          "hyphens\r\n"),
    ROW("helo literal", 0, "HELO [IPv6:2001:db8::1]\r\n", G "250 mx.example.org\r\n"),
    ROW("extensions left out", PLAIN_HELO, EHLO_IN,
        G "250-mx.example.org\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n250-LIMITS RCPTMAX=1000\r\n"
          "250-STARTTLS\r\n"
          "250 ENHANCEDSTATUSCODES\r\n"),
    ROW("small commands", 0, "NOOP\r\nNOOP x\r\nRSET\r\nVRFY bob\r\nEXPN list\r\nHELP\r\n",
        G "250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n" RSET_OUT
          "252 2.0.0 Addresses are not verified here; send RCPT TO to find out\r\n"
          "502 5.5.1 This command is not implemented\r\n"
          "214 2.0.0 Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS AUTH HELP "
          "QUIT\r\n"),
    ROW("before hello", 0, MAIL_IN RCPT_IN "DATA\r\nSTARTTLS\r\nAUTH PLAIN\r\n",
        G NEED("EHLO") NEED("EHLO") NEED("EHLO") NEED("EHLO") NEED("EHLO")),
    ROW("order", 0, EHLO_IN "DATA\r\n" RCPT_IN MAIL_IN "DATA\r\n" MAIL_IN,
        G EHLO_OUT NEED("MAIL FROM") NEED("MAIL FROM") MAIL_OUT NEED(
            "RCPT TO") "503 5.5.1 A message is open already; finish it or send RSET\r\n"),
    ROW("unknown commands", 0, "\r\nFOO\r\nMAILFROM\r\nABCDEFGHIJKLMNOPQRSTUVWXYZ\r\n",
        G UNKNOWN UNKNOWN UNKNOWN UNKNOWN),
    ROW("bad lines", 0, "NOOP\nNO\rOP\r\nNO\0OP\r\nNOOP\t\r\nNOOP \x7f\r\nNOOP\r\r\nNOOP\r\n",
        G BAD_LINE BAD_LINE BAD_LINE BAD_LINE BAD_LINE BAD_LINE "250 2.0.0 Ok\r\n"),
    ROW("http", 0, "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        G "554 5.5.0 This is an SMTP server; closing\r\n[close]"),
    ROW("http post", 0, "POST / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<a@b.c>\r\n",
        G "554 5.5.0 This is an SMTP server; closing\r\n[close]"),
    ROW("client hello on a plain port", 0, "\x16\x03\x01\x02\x00",
        G "554 5.5.0 This port starts without TLS; use STARTTLS, or the port for implicit "
          "TLS\r\n[close]"),

    // A transaction
    ROW_BODY("message", 0, OPEN_IN "DATA\r\nSubject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n",
             OPEN_OUT GO "250 2.0.0 Ok: queued as M1\r\n" BYE, "Subject: x\r\n\r\nhello\r\n"),
    ROW_BODY("dots", 0, OPEN_IN "DATA\r\n..\r\n...\r\n.a\r\n..b.\r\n.\r\n",
             OPEN_OUT GO "250 2.0.0 Ok: queued as M1\r\n", ".\r\n..\r\na\r\n.b.\r\n"),
    ROW_BODY("empty content", 0, OPEN_IN "DATA\r\n.\r\n",
             OPEN_OUT GO "250 2.0.0 Ok: queued as M1\r\n", ""),
    ROW_BODY("two messages, pipelined", 0,
             OPEN_IN "DATA\r\none\r\n.\r\n" MAIL_IN RCPT_IN RCPT_IN "DATA\r\ntwo\r\n.\r\nQUIT\r\n",
             OPEN_OUT GO "250 2.0.0 Ok: queued as M1\r\n" MAIL_OUT RCPT_OUT RCPT_OUT GO
                         "250 2.0.0 Ok: queued as M2\r\n" BYE,
             "two\r\n"),
    ROW("refused by the decision", 0,
        OPEN_IN "DATA\r\n\r\nREFUSE-ME\r\n.\r\nDATA\r\n" RCPT_IN MAIL_IN RCPT_IN
                "DATA\r\nok\r\n.\r\n",
        OPEN_OUT GO "451 4.3.0 Local error; the message was not taken, try again later\r\n" NEED(
            "MAIL FROM") NEED("MAIL FROM") MAIL_OUT RCPT_OUT GO "250 2.0.0 Ok: queued as M1\r\n"),
    ROW("sender refused", 0,
        EHLO_IN "MAIL FROM:<refused@example.com>\r\n" RCPT_IN
                "DATA\r\nMAIL FROM:<busy@example.com>\r\n" MAIL_IN,
        G EHLO_OUT "550 5.7.1 Your account may not send as example.com; use one of its domains, or "
                   "have this one "
                   "added (posthaste domain add) and verified\r\n" NEED("MAIL FROM")
                       NEED("MAIL FROM") "451 4.3.0 Local error; the message was not taken, try "
                                         "again later\r\n" MAIL_OUT),
    ROW("all recipients refused", 0,
        EHLO_IN MAIL_IN "RCPT TO:<unknown@example.com>\r\nDATA\r\n" RCPT_IN "DATA\r\n.\r\n",
        G EHLO_OUT MAIL_OUT
        "550 5.1.1 No such recipient here: unknown@example.com\r\n" NO_VALID RCPT_OUT GO
        "250 2.0.0 Ok: queued as M1\r\n"),
    ROW("data refused", REFUSE_DATA, OPEN_IN "DATA\r\nDATA\r\n" MAIL_IN,
        OPEN_OUT "452 4.3.1 No room for mail at the moment; try again later\r\n" NEED("MAIL FROM")
            MAIL_OUT),
    ROW("data with arguments", 0, OPEN_IN "DATA now\r\nDATA\r\n",
        OPEN_OUT "501 5.5.4 Wrong or missing arguments; the form is: DATA\r\n" GO),
    ROW("rset, ehlo and helo drop it", 0,
        OPEN_IN "RSET\r\nDATA\r\n" MAIL_IN EHLO_IN "DATA\r\n" MAIL_IN "HELO c\r\nDATA\r\n",
        OPEN_OUT RSET_OUT NEED("MAIL FROM") MAIL_OUT EHLO_OUT NEED("MAIL FROM") MAIL_OUT
        "250 mx.example.org\r\n" NEED("MAIL FROM")),
    ROW("noop, vrfy, help and a bad ehlo keep it", 0,
        OPEN_IN "NOOP\r\nVRFY x\r\nEHLO (\r\nFOO\r\nDATA\r\n.\r\n",
        OPEN_OUT
        "250 2.0.0 Ok\r\n252 2.0.0 Addresses are not verified here; send RCPT TO to find out\r\n"
        "501 5.5.4 Give your host name or an address in brackets: letters, digits, dots, "
        "hyphens\r\n" UNKNOWN GO "250 2.0.0 Ok: queued as M1\r\n"),
    ROW("too many recipients", SMALL, OPEN_IN RCPT_IN RCPT_IN "DATA\r\n.\r\n",
        G
        "250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE "
        "20\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n"
        "250-CHUNKING\r\n250-BINARYMIME\r\n250-LIMITS RCPTMAX=2\r\n250-STARTTLS\r\n250 "
        "ENHANCEDSTATUSCODES\r\n" MAIL_OUT RCPT_OUT RCPT_OUT
        "452 4.5.3 Too many recipients; at most 2 for one message, send the rest in another\r\n" GO
        "250 2.0.0 Ok: queued as M1\r\n"),
    ROW("too large, line too long", SMALL,
        "HELO c\r\nMAIL FROM:<a@b.c> SIZE=21\r\n" MAIL_IN RCPT_IN
        "DATA\r\n123456789\r\n12345678\r\n.\r\n" MAIL_IN RCPT_IN
        "DATA\r\n12345678\r\n12345678\r\n.\r\n" MAIL_IN RCPT_IN
        "DATA\r\n12345678901\r\n.\r\n" MAIL_IN RCPT_IN "DATA\r\n\r\n..23456789.\r\n.\r\n",
        G "250 mx.example.org\r\n552 5.3.4 Message too large; at most 20 octets are taken "
          "here\r\n" MAIL_OUT RCPT_OUT GO
          "552 5.3.4 Message too large; at most 20 octets are taken here\r\n" MAIL_OUT RCPT_OUT GO
          "250 2.0.0 Ok: queued as M1\r\n" MAIL_OUT RCPT_OUT GO
          "550 5.6.0 Message has a line of more than 10 octets; wrap it, or encode the part as "
          "quoted-printable or base64\r\n" MAIL_OUT RCPT_OUT GO "250 2.0.0 Ok: queued as M2\r\n"),
    ROW_BODY("nul in the body", 0, OPEN_IN "DATA\r\nA: b\r\n\r\na\0b\r\n.\r\n",
             OPEN_OUT GO "250 2.0.0 Ok: queued as M1\r\n", NULL),
    ROW("nul in the header", 0, OPEN_IN "DATA\r\nA: \0b\r\n\r\nab\r\n.\r\nNOOP\r\n",
        OPEN_OUT GO "550 5.6.0 Message has a NUL character in its header\r\n250 2.0.0 Ok\r\n"),

    ROW("too many messages in a session", FEW_MAILS,
        EHLO_IN MAIL_IN "RSET\r\nMAIL FROM:<refused@example.com>\r\n" MAIL_IN MAIL_IN,
        G EHLO_FEW MAIL_OUT RSET_OUT "550 5.7.1 Your account may not send as example.com; use one "
                                     "of its domains, or have this one "
                                     "added (posthaste domain add) and verified\r\n"
                                     "421 4.7.0 Too many messages in one session, at most 2; "
                                     "closing, send the rest in another\r\n"
                                     "[close]"),

    // What is asked of the queue
    ROW("scheduling is for who may submit", SCHEDULING, EHLO_IN "MAIL FROM:<a@b.c> HOLDFOR=1\r\n",
        G EHLO_OUT "555 5.5.4 Parameter not known or not offered here: HOLDFOR\r\n"),
    ROW("offered to the trusted", SCHEDULING | TRUSTED,
        EHLO_IN "MAIL FROM:<a@b.c> HOLDFOR=10 BY=10;RT MT-PRIORITY=-9\r\n",
        G EHLO_HEAD OFFERS "250-STARTTLS\r\n250-AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n250 "
                           "ENHANCEDSTATUSCODES\r\n" MAIL_OUT),
    ROW("offered where a login comes first", SCHEDULING | REQUIRED | TLS, EHLO_IN,
        G EHLO_HEAD OFFERS "250-AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n250 ENHANCEDSTATUSCODES\r\n"),
    ROW("offered after a login", SCHEDULING | TLS,
        EHLO_IN "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n" EHLO_IN "MAIL FROM:<a@b.c> MT-PRIORITY=9\r\n",
        G EHLO_TLS AUTH_OK EHLO_HEAD OFFERS "250-AUTH SCRAM-SHA-256 PLAIN "
                                            "LOGIN\r\n250 ENHANCEDSTATUSCODES\r\n" MAIL_OUT),
    ROW("times within what is offered", SCHEDULING | TRUSTED,
        "HELO c\r\n" M("HOLDFOR=1001") M("HOLDUNTIL=2027-01-15T08:16:41Z") M("BY=9;R")
            M("BY=+000000010;r") M("HOLDUNTIL=2027-01-15T09:16:40+01:00")
                M("HOLDUNTIL=1999-01-01T00:00:00Z") M("BY=-999999999;N") M("HOLDFOR=60 BY=59;R"),
        G "250 mx.example.org\r\n501 5.5.4 Messages are held at most 1000 seconds here\r\n" RSET_OUT
          "501 5.5.4 Messages are held at most 1000 seconds here\r\n" RSET_OUT
          "555 5.5.4 BY=...;R needs at least 10 seconds here\r\n" RSET_OUT MAIL_OUT RSET_OUT
              MAIL_OUT RSET_OUT MAIL_OUT RSET_OUT MAIL_OUT RSET_OUT
          "501 5.5.4 The time of BY= is over before the message is released, in 60 "
          "seconds\r\n" RSET_OUT),

    // Parameters
    ROW("parameters", 0,
        EHLO_IN "MAIL FROM:<> SIZE=100 BODY=8bitmime SMTPUTF8 RET=HDRS ENVID=a+2Bb AUTH=<>\r\n"
                "RCPT TO:<b@example.net> NOTIFY=success,DELAY ORCPT=rfc822;b+40example.net\r\n"
                "RCPT TO:<Postmaster>\r\n",
        G EHLO_OUT MAIL_OUT RCPT_OUT RCPT_OUT),
    ROW("null sender, source route, blanks", 0,
        EHLO_IN "MAIL FROM: <>\r\nRSET\r\nmail from:<@a.example,@b.example:c@d.example>\r\n"
                "RCPT TO:<\"a b\"@example.net>\r\nRCPT TO:<x@[192.0.2.1]>\r\n",
        G EHLO_OUT MAIL_OUT RSET_OUT MAIL_OUT RCPT_OUT RCPT_OUT),
    ROW("bad paths", 0,
        EHLO_IN
        "MAIL FROM:a@b.c\r\nMAIL FROM:<a@b.c\r\nMAIL FROM:<a@b.c>x\r\nMAIL FROM:<a b@c.d>\r\n"
        "MAIL FROM:<a@-b.c>\r\n" MAIL_IN "RCPT TO:<>\r\nRCPT TO:<a@>\r\nRCPT TO:<a>\r\n"
        "RCPT <a@b.c>\r\n",
        G EHLO_OUT BAD_SENDER BAD_SENDER BAD_SENDER BAD_SENDER BAD_SENDER MAIL_OUT BAD_RCPT BAD_RCPT
            BAD_RCPT
        "501 5.5.4 Wrong or missing arguments; the form is: RCPT TO:<address> [parameters]\r\n"),
    ROW("bad parameters", 0,
        EHLO_IN "MAIL FROM:<a@b.c> FOO=1\r\nMAIL FROM:<a@b.c> SIZE=1 SIZE=1\r\nMAIL FROM:<a@b.c> "
                "SIZE=-1\r\n"
                "MAIL FROM:<a@b.c> SIZE\r\nMAIL FROM:<a@b.c> BODY=BINARY\r\n"
                "MAIL FROM:<a@b.c> SMTPUTF8=1\r\nMAIL FROM:<a@b.c> RET=x\r\nMAIL FROM:<a@b.c> "
                "ENVID=+0D+0A\r\n"
                "MAIL FROM:<a@b.c> ENVID=a+b\r\nMAIL FROM:<a@b.c> NOTIFY=NEVER\r\n",
        G EHLO_OUT
        "555 5.5.4 Parameter not known or not offered here: FOO\r\n"
        "501 5.5.4 Parameter given twice: SIZE\r\n501 5.5.4 Value not valid for parameter SIZE\r\n"
        "501 5.5.4 Value not valid for parameter SIZE\r\n501 5.5.4 Value not valid for parameter "
        "BODY\r\n"
        "501 5.5.4 Value not valid for parameter SMTPUTF8\r\n"
        "501 5.5.4 Value not valid for parameter RET\r\n501 5.5.4 Value not valid for parameter "
        "ENVID\r\n"
        "501 5.5.4 Value not valid for parameter ENVID\r\n"
        "555 5.5.4 Parameter not known or not offered here: NOTIFY\r\n"),
    ROW("bad recipient parameters", 0,
        EHLO_IN MAIL_IN
        "RCPT TO:<a@b.c> NOTIFY=NEVER,DELAY\r\nRCPT TO:<a@b.c> NOTIFY=\r\n"
        "RCPT TO:<a@b.c> NOTIFY=DELAY,DELAY\r\nRCPT TO:<a@b.c> ORCPT=rfc822\r\n"
        "RCPT TO:<a@b.c> ORCPT=rfc822;a+0Ab\r\nRCPT TO:<a@b.c> ORCPT=utf-8;\\x{D}\r\n"
        "RCPT TO:<a@b.c> ORCPT=utf-8;\\x{E9}a@b.c\r\nRCPT TO:<a@b.c> SIZE=1\r\n",
        G EHLO_OUT MAIL_OUT "501 5.5.4 Value not valid for parameter NOTIFY\r\n"
                            "501 5.5.4 Value not valid for parameter NOTIFY\r\n"
                            "501 5.5.4 Value not valid for parameter NOTIFY\r\n"
                            "501 5.5.4 Value not valid for parameter ORCPT\r\n"
                            "501 5.5.4 Value not valid for parameter ORCPT\r\n"
                            "501 5.5.4 Value not valid for parameter ORCPT\r\n" RCPT_OUT
                            "555 5.5.4 Parameter not known or not offered here: SIZE\r\n"),
    ROW("parameters of an extension left out", PLAIN_HELO,
        "HELO c\r\nMAIL FROM:<a@b.c> RET=FULL\r\nMAIL FROM:<a@b.c> SMTPUTF8\r\n" MAIL_IN RCPT_IN
        "BDAT 1\r\n",
        G "250 mx.example.org\r\n555 5.5.4 Parameter not known or not offered here: RET\r\n"
          "555 5.5.4 Parameter not known or not offered here: SMTPUTF8\r\n" MAIL_OUT RCPT_OUT
              UNKNOWN),
    ROW("utf-8 addresses", 0,
        EHLO_IN "MAIL FROM:<\xc3\xa9@example.com>\r\n" MAIL_IN
                "RCPT TO:<\xc3\xa9@example.com>\r\nRSET\r\n"
                "MAIL FROM:<\xc3\xa9@example.com> SMTPUTF8\r\nRCPT TO:<\xc3\xa9@example.com>\r\n"
                "RCPT TO:<\xff@example.com>\r\n",
        G EHLO_OUT
        "553 5.6.7 An address beyond ASCII needs the SMTPUTF8 parameter on MAIL FROM\r\n" MAIL_OUT
        "553 5.6.7 An address beyond ASCII needs the SMTPUTF8 parameter on MAIL FROM\r\n" RSET_OUT
            MAIL_OUT RCPT_OUT BAD_RCPT),

    // BDAT
    ROW_BODY("chunks", 0, OPEN_IN "BDAT 7\r\nab\r\n.\r\nBDAT 0\r\nBDAT 4 last\r\n..\r\nNOOP\r\n",
             OPEN_OUT "250 2.0.0 Ok: 7 octets received\r\n250 2.0.0 Ok: 0 octets received\r\n"
                      "250 2.0.0 Ok: queued as M1\r\n250 2.0.0 Ok\r\n",
             "ab\r\n.\r\n..\r\n"),
    ROW_BODY("one chunk; content without a last CRLF", 0, OPEN_IN "BDAT 3 LAST\r\nabcQUIT\r\n",
             OPEN_OUT "250 2.0.0 Ok: queued as M1\r\n" BYE, "abc"),
    ROW_BODY("empty last chunk", 0, OPEN_IN "BDAT 2\r\n\r\nBDAT 0 LAST\r\n",
             OPEN_OUT "250 2.0.0 Ok: 2 octets received\r\n250 2.0.0 Ok: queued as M1\r\n", "\r\n"),
    ROW_BODY("nothing at all", 0, OPEN_IN "BDAT 0 LAST\r\n",
             OPEN_OUT "250 2.0.0 Ok: queued as M1\r\n", ""),
    ROW("data, mail and rcpt after bdat", 0,
        OPEN_IN "BDAT 1\r\nxDATA\r\n" RCPT_IN MAIL_IN "BDAT 0 LAST\r\n",
        OPEN_OUT
        "250 2.0.0 Ok: 1 octets received\r\n"
        "503 5.5.1 A message in chunks is open; finish it with BDAT SIZE LAST, or send RSET\r\n"
        "503 5.5.1 A message in chunks is open; finish it with BDAT SIZE LAST, or send RSET\r\n"
        "503 5.5.1 A message is open already; finish it or send RSET\r\n250 2.0.0 Ok: queued as "
        "M1\r\n"),
    ROW("bdat out of place is consumed", 0,
        "BDAT 6 LAST\r\nQUIT\r\n" EHLO_IN "BDAT 6\r\nQUIT\r\n" MAIL_IN "BDAT 6\r\nQUIT\r\n"
        "RCPT TO:<unknown@b.c>\r\nBDAT 6\r\nQUIT\r\n" RCPT_IN "BDAT 0 LAST\r\nBDAT 1 LAST\r\nx",
        G NEED("EHLO") EHLO_OUT NEED("MAIL FROM") MAIL_OUT NEED(
            "RCPT TO") "550 5.1.1 No such recipient here: unknown@example.com\r\n" NO_VALID RCPT_OUT
                       "250 2.0.0 Ok: queued as M1\r\n" NEED("MAIL FROM")),
    ROW("bdat refused by the decision", REFUSE_DATA,
        OPEN_IN "BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n" MAIL_IN,
        OPEN_OUT "452 4.3.1 No room for mail at the moment; try again later\r\n" NEED("MAIL FROM")
            MAIL_OUT),
    ROW("a bad chunk is consumed and ends the message", 0,
        OPEN_IN "BDAT 10\r\na\nb.QUIT\r\nBDAT 6\r\nQUIT\r\nDATA\r\n" MAIL_IN,
        OPEN_OUT BARE_LF NEED("MAIL FROM") NEED("MAIL FROM") MAIL_OUT),
    ROW_BODY("crlf over two chunks", 0, OPEN_IN "BDAT 2\r\na\rBDAT 1\r\n\nBDAT 0 LAST\r\n",
             OPEN_OUT "250 2.0.0 Ok: 2 octets received\r\n250 2.0.0 Ok: 1 octets received\r\n"
                      "250 2.0.0 Ok: queued as M1\r\n",
             "a\r\n"),
    ROW("cr at the end of the last chunk", 0, OPEN_IN "BDAT 2 LAST\r\na\rNOOP\r\n",
        OPEN_OUT BARE_CR "250 2.0.0 Ok\r\n"),
    ROW("rset between chunks", 0, OPEN_IN "BDAT 1\r\nxRSET\r\nBDAT 1\r\nx" MAIL_IN,
        OPEN_OUT "250 2.0.0 Ok: 1 octets received\r\n" RSET_OUT NEED("MAIL FROM") MAIL_OUT),
    ROW("too large in chunks", SMALL,
        "HELO c\r\n" MAIL_IN RCPT_IN "BDAT 21\r\n1234567\r\n1234567\r\n123BDAT 1 LAST\r\nx" MAIL_IN,
        G "250 mx.example.org\r\n" MAIL_OUT RCPT_OUT
          "552 5.3.4 Message too large; at most 20 octets are taken here\r\n" NEED("MAIL FROM")
              MAIL_OUT),
#define CHUNK_SIZE_OUT                                                                             \
    "501 5.5.4 Chunk size not valid; the form is: BDAT SIZE [LAST]. Closing, as what follows "     \
    "can't be "                                                                                    \
    "told from commands\r\n[close]"
    ROW("bdat +5", 0, OPEN_IN "BDAT +5\r\nQUIT\r\n", OPEN_OUT CHUNK_SIZE_OUT),
    ROW("bdat -1", 0, OPEN_IN "BDAT -1\r\nQUIT\r\n", OPEN_OUT CHUNK_SIZE_OUT),
    ROW("bdat hex", 0, OPEN_IN "BDAT 0x5\r\nQUIT\r\n", OPEN_OUT CHUNK_SIZE_OUT),
    ROW("bdat nothing", 0, OPEN_IN "BDAT\r\nQUIT\r\n", OPEN_OUT CHUNK_SIZE_OUT),
    ROW("bdat word", 0, OPEN_IN "BDAT 5 FIRST\r\nQUIT\r\n", OPEN_OUT CHUNK_SIZE_OUT),
    ROW("bdat 2^63", 0, OPEN_IN "BDAT 9223372036854775808\r\nQUIT\r\n", OPEN_OUT CHUNK_SIZE_OUT),
    ROW("bdat 2^64", 0, EHLO_IN "BDAT 18446744073709551616 LAST\r\nQUIT\r\n",
        G EHLO_OUT CHUNK_SIZE_OUT),
    ROW("bdat 2^32", 0, OPEN_IN "BDAT 4294967296\r\nQUIT\r\n",
        OPEN_OUT "552 5.3.4 Message far too large; at most 52428800 octets are taken here; "
                 "closing\r\n[close]"),

    // BINARYMIME
    // clang-format off
    ROW("binary needs bdat", 0, BINARY_IN "DATA\r\nBDAT 0 LAST\r\n" MAIL_IN RCPT_IN "DATA\r\n.\r\n",
        BINARY_OUT "503 5.5.1 A message with BODY=BINARYMIME comes by BDAT, not by DATA\r\n" "250 2.0.0 Ok: queued as M1\r\n" MAIL_OUT RCPT_OUT GO "250 2.0.0 Ok: queued as M2\r\n"),
    ROW_BODY("binary body", 0, BINARY_IN "BDAT 24\r\nA: b\r\n\r\n\n.\n\r\n.\r\n\r.\rQUIT\nBDAT 1 LAST\r\n\rNOOP\r\n",
        BINARY_OUT "250 2.0.0 Ok: 24 octets received\r\n250 2.0.0 Ok: queued as M1\r\n250 2.0.0 Ok\r\n", "A: b\r\n\r\n\n.\n\r\n.\r\n\r.\rQUIT\n\r"),
    ROW("binary body has a header all the same", 0, BINARY_IN "BDAT 10 LAST\r\nA: b\nC: d\r" BINARY_MORE "BDAT 7 LAST\r\nA: b\0\r\n",
        BINARY_OUT BARE_LF MAIL_OUT RCPT_OUT "550 5.6.0 Message has a NUL character in its header\r\n"),
    ROW("binary lines have no limit, content has", SMALL, "HELO c\r\n" BINARY_MORE "BDAT 20 LAST\r\n\r\n012345678901234567" BINARY_MORE "BDAT 21 LAST\r\n\r\n0123456789012345678",
        G "250 mx.example.org\r\n" MAIL_OUT RCPT_OUT "250 2.0.0 Ok: queued as M1\r\n" MAIL_OUT RCPT_OUT "552 5.3.4 Message too large; at most 20 octets are taken here\r\n"),
    ROW("what was binary is over with the message", 0, BINARY_IN "RSET\r\n" MAIL_IN RCPT_IN "BDAT 4 LAST\r\n\r\na\n", BINARY_OUT RSET_OUT MAIL_OUT RCPT_OUT BARE_LF),
    // clang-format on

    // STARTTLS
    ROW("starttls", WHOLE_ONLY, EHLO_IN "STARTTLS\r\n",
        G EHLO_OUT "220 2.0.0 Ready to start TLS\r\n[tls]\r\n"),
    ROW("pipelined behind starttls", WHOLE_ONLY,
        EHLO_IN "STARTTLS\r\n" EHLO_IN MAIL_IN RCPT_IN "DATA\r\nx\r\n.\r\n",
        G EHLO_OUT "220 2.0.0 Ready to start TLS\r\n[tls]\r\n"),
    ROW("starttls not now", 0, EHLO_IN "STARTTLS x\r\n" MAIL_IN "STARTTLS\r\n",
        G EHLO_OUT "501 5.5.4 Wrong or missing arguments; the form is: STARTTLS\r\n" MAIL_OUT
                   "503 5.5.1 STARTTLS can not come within a message; send RSET first\r\n"),
    ROW("starttls twice", TLS, EHLO_IN "STARTTLS\r\n",
        G EHLO_TLS "503 5.5.1 TLS is active already\r\n"),

    // AUTH
    ROW("auth plain", TLS, EHLO_IN "AUTH PLAIN AHVzZXIAc2VjcmV0\r\nAUTH PLAIN AHVzZXIAc2VjcmV0\r\n",
        G EHLO_TLS AUTH_OK "503 5.5.1 Already logged in\r\n"),
    ROW("auth plain in two steps", TLS, EHLO_IN "auth plain\r\nAHVzZXIAc2VjcmV0\r\nNOOP\r\n",
        G EHLO_TLS "334 \r\n" AUTH_OK "250 2.0.0 Ok\r\n"),
    ROW("auth plain, own authzid", TLS, EHLO_IN "AUTH PLAIN dXNlcgB1c2VyAHNlY3JldA==\r\n",
        G EHLO_TLS AUTH_OK),
    ROW("auth plain, other authzid", TLS, EHLO_IN "AUTH PLAIN cm9vdAB1c2VyAHNlY3JldA==\r\n",
        G EHLO_TLS AUTH_BAD),
    ROW("auth login", TLS, EHLO_IN "AUTH LOGIN\r\ndXNlcg==\r\nc2VjcmV0\r\n",
        G EHLO_TLS "334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n" AUTH_OK),
    ROW("auth login with an initial response", TLS, EHLO_IN "AUTH LOGIN dXNlcg==\r\nc2VjcmV0\r\n",
        G EHLO_TLS "334 UGFzc3dvcmQ6\r\n" AUTH_OK),
    ROW("wrong passwords, then sent away", TLS,
        EHLO_IN "AUTH PLAIN AHVzZXIAeA==\r\nAUTH LOGIN\r\neA==\r\neA==\r\nAUTH PLAIN "
                "AHVzZXIAeA==\r\n" MAIL_IN "RSET\r\nAUTH PLAIN AHVzZXIAc2VjcmV0\r\n",
        G EHLO_TLS AUTH_BAD
        "334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n" AUTH_BAD AUTH_BAD MAIL_OUT RSET_OUT
        "421 4.7.0 Too many errors; closing\r\n[close]"),
    ROW("auth garbage", TLS,
        EHLO_IN
        "AUTH\r\nAUTH CRAM-MD5\r\nAUTH PLAIN =\r\nAUTH PLAIN ====\r\nAUTH PLAIN AHVzZXIAc2VjcmV\r\n"
        "AUTH PLAIN !!!!\r\nAUTH PLAIN AHVzZXIA\r\nAUTH PLAIN AHVzZXIAc2VjAHJldA==\r\n"
        "AUTH LOGIN\r\n*\r\nAUTH LOGIN\r\nAAAA\r\nAUTH LOGIN\r\nx\ry\r\nNOOP\r\n",
        G EHLO_TLS
        "501 5.5.4 Wrong or missing arguments; the form is: AUTH mechanism [response]\r\n"
        "504 5.5.4 Mechanism not supported; use one of those that EHLO names\r\n" AUTH_SYNTAX
            AUTH_SYNTAX AUTH_SYNTAX AUTH_SYNTAX AUTH_SYNTAX AUTH_SYNTAX
        "334 VXNlcm5hbWU6\r\n501 5.7.0 Login cancelled\r\n334 VXNlcm5hbWU6\r\n" AUTH_SYNTAX
        "334 VXNlcm5hbWU6\r\n" AUTH_SYNTAX "250 2.0.0 Ok\r\n"),
    ROW("auth in a transaction, without tls, without logins", TLS, EHLO_IN MAIL_IN "AUTH LOGIN\r\n",
        G EHLO_TLS MAIL_OUT "503 5.5.1 AUTH can not come within a message; send RSET first\r\n"),
    ROW("auth without tls", 0, EHLO_IN "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n",
        G EHLO_OUT "530 5.7.0 Logging in needs encryption; send STARTTLS first\r\n"),
    ROW("auth where there are no logins", TLS | NO_LOGINS, EHLO_IN "AUTH LOGIN\r\n",
        G EHLO_HEAD "250 ENHANCEDSTATUSCODES\r\n503 5.5.1 This listener has no logins\r\n"),
    ROW("auth trusted without tls", TRUSTED, "HELO c\r\nAUTH PLAIN AHVzZXIAc2VjcmV0\r\n",
        G "250 mx.example.org\r\n" AUTH_OK),
    ROW("auth required", TLS | REQUIRED, EHLO_IN MAIL_IN "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n" MAIL_IN,
        G EHLO_TLS "530 5.7.0 Log in first: send AUTH (and STARTTLS before it, if TLS is not "
                   "active)\r\n" AUTH_OK MAIL_OUT),
    ROW("auth required, trusted", TRUSTED | REQUIRED, "HELO c\r\n" MAIL_IN,
        G "250 mx.example.org\r\n530 5.7.0 Log in first: send AUTH (and STARTTLS before it, if TLS "
          "is not "
          "active)\r\n"),

// SCRAM, the numbers by Python's hmac and hashlib. Whether a proof is right is told by nothing but its last words,
// so not to who may not know.
#define SCRAM_IN(first, final) "AUTH SCRAM-SHA-256 " first "\r\n" final "\r\n"
#define SCRAM_OUT                                                                                  \
    "334 "                                                                                         \
    "cj1yT3ByTkdmd0ViZVJXZ2JORWtxT2VIaDRlSGg0ZUhoNGVIaDRlSGg0ZUhoNCxzPU1ERXlNelExTmpjNE9XRmlZMlJs" \
    "Wmc9PSxpPTQwOTY=\r\n"
#define NEEDS_LOGIN                                                                                \
    "530 5.7.0 Log in first: send AUTH (and STARTTLS before it, if TLS is not active)\r\n"
#define TOO_MANY_LOGINS "454 4.7.0 Too many failed logins from your address; try again later\r\n"
    ROW("scram", TLS | REQUIRED,
        EHLO_IN SCRAM_IN(
            "biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=",
            "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU9lSGg0ZUhoNGVIaDRlSGg0ZUhoNGVIaDQscD0wVDJBUS9YUU"
            "x4UTNxaCtHT3k3SEt1SHNSSUt5KzFOaW1KVzdLOTl0WFNvPQ==") "\r\n" MAIL_IN,
        G EHLO_TLS SCRAM_OUT
        "334 dj1JR2tHYXQ0NFRCU285KzhYUk5NZGNwQ2l2SXFVeFpGT3g4UFZ1OWlWYUI4PQ==\r\n" AUTH_OK
            MAIL_OUT),
    ROW("scram, wrong", TLS,
        EHLO_IN SCRAM_IN("biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=",
                         "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU9lSGg0ZUhoNGVIaDRlSGg0ZUhoNGVIaDQsc"
                         "D1ia210TlhNK1JDTkowT0w2Tk5OTkxZWTBBazErMXR5N3BIVWh1RVBVVHBBPQ=="),
        G EHLO_TLS SCRAM_OUT AUTH_BAD),
    ROW("scram is not in before its last line", TLS | REQUIRED,
        EHLO_IN SCRAM_IN(
            "biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=",
            "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU9lSGg0ZUhoNGVIaDRlSGg0ZUhoNGVIaDQscD0wVDJBUS9YUU"
            "x4UTNxaCtHT3k3SEt1SHNSSUt5KzFOaW1KVzdLOTl0WFNvPQ==") "*\r\n" MAIL_IN
            SCRAM_IN(
                "biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=",
                "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU9lSGg0ZUhoNGVIaDRlSGg0ZUhoNGVIaDQscD0wVDJBUS"
                "9YUUx4UTNxaCtHT3k3SEt1SHNSSUt5KzFOaW1KVzdLOTl0WFNvPQ==") "eA==\r\n" MAIL_IN,
        G EHLO_TLS SCRAM_OUT
        "334 dj1JR2tHYXQ0NFRCU285KzhYUk5NZGNwQ2l2SXFVeFpGT3g4UFZ1OWlWYUI4PQ==\r\n"
        "501 5.7.0 Login cancelled\r\n" NEEDS_LOGIN SCRAM_OUT
        "334 dj1JR2tHYXQ0NFRCU285KzhYUk5NZGNwQ2l2SXFVeFpGT3g4UFZ1OWlWYUI4PQ==\r\n" AUTH_SYNTAX
            NEEDS_LOGIN),
    ROW("scram, too many failed meanwhile", TLS,
        EHLO_IN SCRAM_IN(
            "biwsbj1sb2NrZWQscj1yT3ByTkdmd0ViZVJXZ2JORWtxTw==",
            "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU9lSGg0ZUhoNGVIaDRlSGg0ZUhoNGVIaDQscD1hOGJBNEQ5Zn"
            "dIK3dtMGpKQktOaldXL1Q3SGh3NW55UmM5ZDFKSW96dS9vPQ==") "NOOP\r\n" SCRAM_IN("biwsbj1sb2Nr"
                                                                                      "ZWQscj1yT3By"
                                                                                      "Tkdmd0ViZVJX"
                                                                                      "Z2JORWtxTw="
                                                                                      "=",
                                                                                      "Yz1iaXdzLHI9"
                                                                                      "ck9wck5HZndF"
                                                                                      "YmVSV2diTkVr"
                                                                                      "cU9lSGg0ZUho"
                                                                                      "NGVIaDRlSGg0"
                                                                                      "ZUhoNGVIaDQs"
                                                                                      "cD1yYXBmVitZ"
                                                                                      "WEJBblM0d2Rv"
                                                                                      "cXM3OGhCV1M5"
                                                                                      "MWdmc3JSeEgw"
                                                                                      "ZkZJanBTSUZr"
                                                                                      "PQ=="),
        G EHLO_TLS SCRAM_OUT TOO_MANY_LOGINS "250 2.0.0 Ok\r\n" SCRAM_OUT TOO_MANY_LOGINS),

    // Clients that are known without a login
    ROW("known where a login is required", KNOWN | REQUIRED, EHLO_IN MAIL_IN RCPT_IN, OPEN_OUT),
    ROW("external", TLS | EXTERNAL | REQUIRED, EHLO_IN MAIL_IN "AUTH EXTERNAL dXNlcg==\r\n" MAIL_IN,
        G EHLO_HEAD "250-AUTH EXTERNAL SCRAM-SHA-256 PLAIN LOGIN\r\n250 ENHANCEDSTATUSCODES\r\n"
                    "530 5.7.0 Log in first: send AUTH (and STARTTLS before it, if TLS is not "
                    "active)\r\n" AUTH_OK MAIL_OUT),
    ROW("external in two steps, refused", TLS | EXTERNAL, "HELO c\r\nAUTH EXTERNAL\r\ncm9vdA==\r\n",
        G "250 mx.example.org\r\n334 \r\n" AUTH_BAD),
    ROW("external without a certificate", TLS, "HELO c\r\nAUTH EXTERNAL =\r\n",
        G "250 mx.example.org\r\n504 5.5.4 Mechanism not supported; use one of those that EHLO "
          "names\r\n"),

    // Channel binding: offered with TLS that can be bound to; who says that it was not, was lied to
    ROW("plus is offered", TLS | BINDS, EHLO_IN,
        G EHLO_HEAD "250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN\r\n250 "
                    "ENHANCEDSTATUSCODES\r\n"),
    ROW("plus without tls", TRUSTED | BINDS, "HELO c\r\nAUTH SCRAM-SHA-256-PLUS\r\n",
        G "250 mx.example.org\r\n504 5.5.4 Mechanism not supported; use one of those that EHLO "
          "names\r\n"),
    ROW("plus was taken out of the offer", TLS | BINDS,
        "HELO c\r\nAUTH SCRAM-SHA-256 eSwsbj11c2VyLHI9YWJj\r\n",
        G "250 mx.example.org\r\n" UNBOUND),
    ROW("plus of another type", TLS | BINDS,
        "HELO c\r\nAUTH SCRAM-SHA-256-PLUS cD10bHMtdW5pcXVlLCxuPXVzZXIscj1hYmM=\r\n",
        G "250 mx.example.org\r\n" UNBOUND),
    ROW("plus after four such", TLS | BINDS,
        "HELO c\r\nAUTH SCRAM-SHA-256 eSwsbj11c2VyLHI9YWJj\r\nAUTH SCRAM-SHA-256 "
        "eSwsbj11c2VyLHI9YWJj\r\nAUTH SCRAM-SHA-256 eSwsbj11c2VyLHI9YWJj\r\nAUTH PLAIN\r\n",
        G "250 mx.example.org\r\n" UNBOUND UNBOUND UNBOUND
          "421 4.7.0 Too many errors; closing\r\n[close]"),

    // XCLIENT: the dialogue of Postfix's XCLIENT_README, then everything that does not do
    ROW("xclient", XCLIENT,
        EHLO_IN
        "XCLIENT NAME=spike.porcupine.org ADDR=168.100.189.2\r\nHELO spike.porcupine.org\r\n"
        "MAIL FROM:<wietse@porcupine.org>\r\n",
        G EHLO_HEAD "250-STARTTLS\r\n" XCLIENT_OFFER "250 ENHANCEDSTATUSCODES\r\n" G
                    "250 mx.example.org\r\n" MAIL_OUT),
    ROW("xclient without a login", XCLIENT,
        "XCLIENT LOGIN=user\r\nXCLIENT LOGIN=[UNAVAILABLE]\r\nXCLIENT ADDR=192.0.2.1\r\n",
        G DENIED DENIED G),
    ROW("xclient with a login", XCLIENT | XCLIENT_LOGIN | REQUIRED,
        "XCLIENT LOGIN=u+73er\r\n" EHLO_IN MAIL_IN "RSET\r\nXCLIENT LOGIN=root\r\n"
        "XCLIENT ADDR=192.0.2.1\r\n" EHLO_IN MAIL_IN,
        G G XCLIENT_EHLO MAIL_OUT RSET_OUT
        "550 5.7.8 XCLIENT names a login that no active account has: root\r\n" G XCLIENT_EHLO
        "530 5.7.0 Log in first: send AUTH (and STARTTLS before it, if TLS is not active)\r\n"),
    ROW("xclient ends a login", XCLIENT | TRUSTED | REQUIRED,
        "HELO c\r\nAUTH PLAIN AHVzZXIAc2VjcmV0\r\nXCLIENT NAME=[TEMPUNAVAIL]\r\n" EHLO_IN MAIL_IN,
        G "250 mx.example.org\r\n" AUTH_OK G XCLIENT_EHLO
          "530 5.7.0 Log in first: send AUTH (and STARTTLS before it, if TLS is not active)\r\n"),
    ROW("xclient for others", 0, EHLO_IN "XCLIENT NAME=a\r\nXCLIENT\r\n", G EHLO_OUT DENIED DENIED),
    ROW("xclient in a transaction", XCLIENT, "HELO c\r\n" MAIL_IN "XCLIENT NAME=a\r\nRSET\r\n",
        G "250 mx.example.org\r\n" MAIL_OUT
          "503 5.5.1 XCLIENT can not come within a message; send RSET first\r\n" RSET_OUT),
    ROW("xclient's attributes", XCLIENT | XCLIENT_LOGIN,
        "XCLIENT\r\nXCLIENT SESSION=1\r\nXCLIENT NAME\r\nXCLIENT name=a NAME=b\r\nXCLIENT NAME=\r\n"
        "XCLIENT NAME=a+2\r\nXCLIENT NAME=a+29b\r\nXCLIENT PORT=65536\r\nXCLIENT DESTPORT=x\r\n"
        "XCLIENT PROTO=LMTP\r\nXCLIENT LOGIN=a+0Db\r\nXCLIENT ADDR=refused\r\nXCLIENT HELO=a=b\r\n"
        "XCLIENT HELO=a+00b\r\nXCLIENT NAME=+00\r\n",
        G "501 5.5.4 Wrong or missing arguments; the form is: XCLIENT name=value ...\r\n"
          "501 5.5.4 XCLIENT has no attribute SESSION here\r\n" BAD_XCLIENT(
              "NAME") "501 5.5.4 Parameter given twice: NAME\r\n" BAD_XCLIENT("NAME")
              BAD_XCLIENT("NAME") BAD_XCLIENT("NAME") BAD_XCLIENT("PORT") BAD_XCLIENT("DESTPORT")
                  BAD_XCLIENT("PROTO") BAD_XCLIENT("LOGIN") BAD_XCLIENT("ADDR") BAD_XCLIENT("HELO")
                      BAD_XCLIENT("HELO") BAD_XCLIENT("NAME")),
};

static struct buf all_replies; // of all tests, for test_each_reply_was_reached

static void done(struct testkit *t)
{
    buf_add(&all_replies, buf_bytes(&t->transcript));
    testkit_done(t);
}

static void setup(struct testkit *t, unsigned flags)
{
    testkit_init(t);
    if (flags & REQUIRED)
        t->config.auth = SMTP_AUTH_REQUIRED;
    if (flags & NO_LOGINS)
        t->config.auth = SMTP_AUTH_NONE;
    if (flags & PLAIN_HELO)
        t->config.no_pipelining = t->config.no_chunking = t->config.no_smtputf8 = t->config.no_dsn =
            true;
    t->config.scheduling = flags & SCHEDULING;
    if (flags & FEW_MAILS)
        t->config.mails_max = 2;
    if (flags & SMALL) {
        t->config.message_size_max = 20;
        t->config.recipients_max = 2;
        t->config.text_line_max = 10;
    }
    t->refuse_data = flags & REFUSE_DATA;
    testkit_start(t, flags & TLS, flags & TRUSTED);
    t->binds = flags & BINDS;
    if (flags & (KNOWN | EXTERNAL))
        smtp_server_set_rights(
            t->server,
            (struct smtp_server_rights){.known = flags & KNOWN, .external = flags & EXTERNAL});
    if (flags & XCLIENT)
        smtp_server_set_rights(t->server,
                               (struct smtp_server_rights){.trusted = flags & TRUSTED,
                                                           .xclient = true,
                                                           .xclient_login = flags & XCLIENT_LOGIN});
}

static void expect(const struct dialogue *d, struct testkit *t, unsigned cuts)
{
    struct bytes got = buf_bytes(&t->transcript);
    if (!bytes_eq(got, bytes_cstr(d->want)))
        fail_msg("%s (cuts %u, later %d)\nwant:\n%s\ngot:\n%.*s", d->name, cuts, t->later, d->want,
                 BYTES_FMT(got));
    if (d->body && !bytes_eq(buf_bytes(&t->last_body), bytes_cstr(d->body)))
        fail_msg("%s: body: %.*s", d->name, BYTES_FMT(buf_bytes(&t->last_body)));
}

static void test_dialogues(void **state)
{
    for (size_t i = 0; i < COUNT_OF(dialogues); i++) {
        const struct dialogue *d = &dialogues[i];
        for (unsigned cuts = 0; cuts < (d->setup & WHOLE_ONLY ? 1u : 6u); cuts++) {
            for (int later = 0; later < 2; later++) {
                struct testkit t;
                setup(&t, d->setup);
                t.later = later;
                testkit_feed(&t, d->input, cuts);
                expect(d, &t, cuts);
                done(&t);
            }
        }
    }
}

// What each handler is told.
static void test_handlers_log(void **state)
{
    struct testkit t;
    setup(&t, TLS);
    testkit_feed(&t,
                 BYTES(EHLO_IN
                       "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n"
                       "MAIL FROM:<@x.example:a@b.c> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=e+2B "
                       "AUTH=<> SMTPUTF8\r\n"
                       "RCPT TO:<b@c.d> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;B@c.d\r\nRSET\r\n"
                       "MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n" EHLO_IN MAIL_IN "QUIT\r\n"),
                 0);
    const char *want =
        "auth PLAIN 0 user\n"
        "mail <a@b.c> size=100 body=1 ret=2 envid=e+2B auth=<> utf8=1\n"
        "rcpt <b@c.d> notify=6 orcpt=rfc822;B@c.d\nreset 0\n"
        "mail <> size=0 body=0 ret=0 envid= auth= utf8=0\nrcpt <postmaster> notify=0 orcpt=\n"
        "reset 1\nmail <a@example.com> size=0 body=0 ret=0 envid= auth= utf8=0\nreset 3\n";
    assert_string_equal(buf_cstr(&t.log), want);
    done(&t);
}

static void test_xclient_facts(void **state)
{
    struct testkit t;
    setup(&t, XCLIENT | XCLIENT_LOGIN);
    testkit_feed(
        &t,
        BYTES("XCLIENT addr=IPV6:2001:db8::1 PORT=4660 LOGIN=us+65r helo=told.example "
              "PROTO=smtp DESTADDR=[UNAVAILABLE] DESTPORT=25 NAME=a_b.example\r\n" EHLO_IN),
        1);
    assert_string_equal(
        buf_cstr(&t.log),
        "xclient 0=a_b.example 0\nxclient 1=IPV6:2001:db8::1 0\nxclient 2=4660 4660\n"
        "xclient 3=smtp 0\nxclient 4=told.example 0\nxclient 5=user 0\nxclient 6= 0\n"
        "xclient 7=25 25\n");
    // What the client is said to have said counts, not what its proxy says.
    assert_true(bytes_eq(smtp_server_helo(t.server), BYTES("told.example")));
    assert_false(smtp_server_is_extended(t.server));
    assert_true(smtp_server_is_authenticated(t.server));
    testkit_feed(&t, BYTES("XCLIENT NAME=b\r\nHELO c\r\n"), 0);
    assert_true(bytes_eq(smtp_server_helo(t.server), BYTES("c")));
    assert_false(smtp_server_is_authenticated(t.server));
    testkit_feed(&t, BYTES("XCLIENT PROTO=ESMTP\r\nHELO c\r\n"), 0);
    assert_true(smtp_server_is_extended(t.server));
    done(&t);
}

// ---- smuggling: none of these ends a DATA content; all spoil it (RFC 5321 2.3.8)

static const struct {
    struct bytes sequence;
    const char *want;
} false_ends[] = {
    {BYTES("\n.\n"), BARE_LF},       {BYTES("\n.\r"), BARE_LF},
    {BYTES("\r.\n"), BARE_CR},       {BYTES("\r.\r"), BARE_CR},
    {BYTES("\n.\r\n"), BARE_LF},     {BYTES("\r.\r\n"), BARE_CR},
    {BYTES("\r\n.\n"), BARE_LF},     {BYTES("\r\n.\r"), BARE_CR},
    {BYTES("\r\n.\r\r\n"), BARE_CR}, {BYTES("\r\r\n.\r\r\n"), BARE_CR},
    {BYTES("\n\n.\n\n"), BARE_LF},   {BYTES("\r\n\0.\r\n"), NULL},
    {BYTES("\r\n.\0\r\n"), NULL},    {BYTES("\r\n..\r\n"), NULL},
    {BYTES("\r\n. \r\n"), NULL},     {BYTES("\r\n.\r\0\n"), BARE_CR},
    {BYTES("\n.\r\r\n"), BARE_LF},   {BYTES("\r\n.a\r\n"), NULL},
};

static void smuggle(struct bytes sequence, const char *want, bool chunked, unsigned cuts)
{
    struct testkit t;
    struct buf input = {0}, content = {0};
    setup(&t, 0);
    buf_add_cstr(&content, "Subject: x\r\n\r\nhello");
    buf_add(&content, sequence);
    buf_add_cstr(&content,
                 "MAIL FROM:<evil@example.com>\r\nRCPT TO:<v@example.net>\r\nDATA\r\nevil\r\n");
    buf_add_cstr(&input, OPEN_IN);
    if (chunked)
        buf_printf(&input, "BDAT %zu LAST\r\n", content.len);
    else
        buf_add_cstr(&input, "DATA\r\n");
    buf_add(&input, buf_bytes(&content));
    buf_add_cstr(&input, chunked ? "" : ".\r\n");
    testkit_feed(&t, buf_bytes(&input), cuts);
    struct buf full = {0};
    buf_printf(&full, OPEN_OUT "%s%s", chunked ? "" : GO,
               want ? want : "250 2.0.0 Ok: queued as M1\r\n");
    assert_string_equal(buf_cstr(&t.transcript), buf_cstr(&full));
    assert_true(t.messages <= 1);
    buf_done(&full);
    buf_done(&input);
    buf_done(&content);
    done(&t);
}

static void test_a_smuggling(void **state)
{
    for (size_t i = 0; i < COUNT_OF(false_ends); i++)
        for (unsigned cuts = 0; cuts < 12; cuts++) {
            smuggle(false_ends[i].sequence, false_ends[i].want, false, cuts);
            smuggle(false_ends[i].sequence, false_ends[i].want, true, cuts);
        }
}

// Every split of the bytes in two, around the true end.
static void test_a_end_at_every_split(void **state)
{
    struct bytes input = BYTES("a\r\n..\r\n.b\r\n\r\n.\r\nNOOP\r\n");
    for (size_t cut = 0; cut <= input.len; cut++) {
        struct testkit t;
        setup(&t, 0);
        testkit_feed(&t, BYTES(OPEN_IN "DATA\r\n"), 0);
        testkit_feed(&t, bytes_first(input, cut), 0);
        testkit_feed(&t, bytes_skip(input, cut), 0);
        assert_string_equal(buf_cstr(&t.transcript),
                            OPEN_OUT GO "250 2.0.0 Ok: queued as M1\r\n250 2.0.0 Ok\r\n");
        assert_string_equal(buf_cstr(&t.last_body), "a\r\n.\r\nb\r\n\r\n");
        done(&t);
    }
}

// ---- limits

static void feed_repeated(struct testkit *t, const char *line, int times)
{
    for (int i = 0; i < times; i++)
        testkit_feed(t, bytes_cstr(line), 0);
}

static void expect_end(struct testkit *t, const char *want)
{
    if (!bytes_ends(buf_bytes(&t->transcript), bytes_cstr(want)))
        fail_msg("want at the end: %s\ngot: %s", want, buf_cstr(&t->transcript));
    done(t);
}

static void test_i_limits(void **state)
{
    struct testkit t;
    setup(&t, 0);
    feed_repeated(&t, "FOO\r\n", 19);
    assert_int_equal(smtp_server_wants(t.server), SMTP_SERVER_INPUT);
    feed_repeated(&t, "FOO\r\n", 1);
    expect_end(&t, "421 4.7.0 Too many errors; closing\r\n[close]");

    setup(&t, 0);
    feed_repeated(&t, "NOOP\r\n", 200);
    assert_int_equal(smtp_server_wants(t.server), SMTP_SERVER_INPUT);
    feed_repeated(&t, "RSET\r\n", 1);
    expect_end(&t, "421 4.7.0 Too many commands without a message; closing\r\n[close]");

    setup(&t, 0); // who guesses recipients is sent away
    testkit_feed(&t, BYTES(EHLO_IN MAIL_IN), 0);
    feed_repeated(&t, "RCPT TO:<unknown@example.com>\r\n", 20);
    expect_end(&t, "421 4.7.0 Too many errors; closing\r\n[close]");

    setup(&t, TRUSTED); // but one who logged in, or is trusted, may have an old list
    testkit_feed(&t, BYTES(EHLO_IN MAIL_IN), 0);
    feed_repeated(&t, "RCPT TO:<unknown@example.com>\r\n", 2000);
    assert_int_equal(smtp_server_wants(t.server), SMTP_SERVER_INPUT);
    expect_end(&t, "550 5.1.1 No such recipient here: unknown@example.com\r\n");

    setup(&t, SMALL); // not for ever, though
    testkit_feed(&t, BYTES(EHLO_IN MAIL_IN), 0);
    feed_repeated(&t, RCPT_IN, 1003);
    expect_end(&t, "421 4.7.0 Too many errors; closing\r\n[close]");
}

static void test_long_lines(void **state)
{
    for (unsigned cuts = 0; cuts < 3; cuts++) {
        static const struct {
            size_t bytes;
            const char *verb, *want;
        } rows[] = {
            {2046, "NOOP ", "250 2.0.0 Ok\r\n"},
            {2047, "NOOP ", "500 5.5.2 Command line too long\r\n"},
            {100000, "NOOP ", "500 5.5.2 Command line too long\r\n"},
            {12286, "AUTH PLAIN ", AUTH_SYNTAX},
            {12287, "AUTH PLAIN ", "500 5.5.2 Command line too long\r\n"},
            {12287, "AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n500 5.5.6 Login line too long\r\n"},
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
            struct testkit t;
            struct buf line = {0};
            setup(&t, TLS);
            testkit_feed(&t, BYTES(EHLO_IN), 0);
            buf_clear(&t.transcript);
            bool second = strchr(rows[i].verb, '\n') != NULL;
            size_t verb = second ? 0 : strlen(rows[i].verb);
            buf_add_cstr(&line, rows[i].verb);
            for (size_t n = verb; n < rows[i].bytes; n++)
                buf_add_byte(&line, 'x');
            buf_add_cstr(&line, "\r\n");
            testkit_feed(&t, buf_bytes(&line), cuts);
            assert_string_equal(buf_cstr(&t.transcript), rows[i].want);
            assert_int_equal(t.kept.len, 0);
            buf_done(&line);
            done(&t);
        }
    }
}

// A client that never reads must not make us keep replies without end.
static void test_output_is_bounded(void **state)
{
    struct testkit t;
    struct buf input = {0};
    setup(&t, 0);
    t.config.junk_max = 100000000;
    for (int i = 0; i < 20000; i++)
        buf_add_cstr(&input, "NOOP\r\n");
    size_t used = smtp_server_feed(t.server, buf_bytes(&input), t.now);
    assert_true(used < input.len);
    assert_int_equal(smtp_server_wants(t.server), SMTP_SERVER_DRAIN);
    assert_true(smtp_server_output(t.server)->len < SMTP_SERVER_OUTPUT_HIGH + 600);
    buf_consume(&input, used);
    testkit_feed(&t, buf_bytes(&input), 0);
    assert_int_equal(t.transcript.len, strlen(G) + 20000 * strlen("250 2.0.0 Ok\r\n"));
    buf_done(&input);
    done(&t);
}

static size_t allocated(void)
{
    return mallinfo2().uordblks + mallinfo2().hblkhd; // under a sanitizer nothing
}

static void test_c_many_chunks_keep_memory_flat(void **state)
{
    static const struct {
        const char *chunk, *reply;
        size_t octets;
    } cases[] = {{"BDAT 0\r\n", "250 2.0.0 Ok: 0 octets received\r\n", 0},
                 {"BDAT 1\r\nx", "250 2.0.0 Ok: 1 octets received\r\n", 1}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct testkit t;
        struct buf group = {0}, replies = {0};
        for (int k = 0; k < 10000; k++) {
            buf_add_cstr(&group, cases[i].chunk);
            buf_add_cstr(&replies, cases[i].reply);
        }
        setup(&t, 0);
        testkit_feed(&t, BYTES(OPEN_IN), 0);
        size_t before = 0, body = 0;
        for (int k = 0; k < 100; k++) { // a million in all
            buf_clear(&t.transcript);
            testkit_feed(&t, buf_bytes(&group), 0);
            assert_true(bytes_eq(buf_bytes(&t.transcript), buf_bytes(&replies)));
            if (k == 0) {
                before = allocated();
                body = t.body.cap; // the test's own copy
            }
        }
        assert_in_range(allocated() + body, 0, before + t.body.cap + 65536);
        buf_clear(&t.transcript);
        testkit_feed(&t, BYTES("BDAT 0 LAST\r\n"), 0);
        assert_string_equal(buf_cstr(&t.transcript), "250 2.0.0 Ok: queued as M1\r\n");
        assert_int_equal(t.last_body.len, 1000000 * cases[i].octets);
        buf_done(&group);
        buf_done(&replies);
        done(&t);
    }
}

// ---- time

static void advance(struct testkit *t, int64_t ms)
{
    t->now = mono_add_ms(t->now, ms);
    smtp_server_tick(t->server, t->now);
    testkit_feed(t, BYTES_NONE, 0);
}

static void test_time_outs(void **state)
{
    struct testkit t;
    setup(&t, 0); // a command line that never ends, byte after byte
    for (int i = 0; i < 29; i++) {
        advance(&t, 10000);
        testkit_feed(&t, BYTES("x"), 0);
    }
    assert_int_equal(smtp_server_wants(t.server), SMTP_SERVER_INPUT);
    advance(&t, 11000);
    expect_end(&t, "421 4.4.2 Nothing complete came in time; closing\r\n[close]");

    setup(&t, 0); // a message that drips: 1 octet a second is less than 500
    testkit_feed(&t, BYTES(OPEN_IN "DATA\r\n"), 0);
    for (int i = 0; i < 299; i++) {
        advance(&t, 1000);
        testkit_feed(&t, BYTES("x"), 0);
    }
    assert_int_equal(smtp_server_wants(t.server), SMTP_SERVER_INPUT);
    advance(&t, 3000);
    expect_end(&t, "421 4.4.2 The message comes too slowly; closing\r\n[close]");

    setup(&t, 0); // the same with a chunk that nobody wants
    testkit_feed(&t, BYTES("BDAT 5000\r\n"), 0);
    for (int i = 0; i < 299; i++) {
        advance(&t, 1000);
        testkit_feed(&t, BYTES("x"), 0);
    }
    assert_int_equal(smtp_server_wants(t.server), SMTP_SERVER_INPUT);
    advance(&t, 3000);
    expect_end(&t, "421 4.4.2 The message comes too slowly; closing\r\n[close]");

    setup(&t, 0); // a session that does nothing useful
    for (int i = 0; i < 20; i++) {
        advance(&t, 60000);
        testkit_feed(&t, BYTES("NOOP\r\n"), 0);
    }
    expect_end(&t, "421 4.4.2 Nothing complete came in time; closing\r\n[close]");
}

// The time that we take for a decision is not charged to the client.
static void test_our_own_time(void **state)
{
    struct testkit t;
    setup(&t, 0);
    testkit_feed(&t, BYTES(EHLO_IN MAIL_IN), 0);
    t.later = true;
    (void)!smtp_server_feed(t.server, BYTES(RCPT_IN), t.now);
    assert_int_equal(smtp_server_wants(t.server), SMTP_SERVER_DECISION);
    assert_true(smtp_server_deadline(t.server).us == MONO_NEVER.us);
    advance(&t, 3600000);
    assert_int_equal(smtp_server_wants(t.server), SMTP_SERVER_DECISION);
    t.is_pending = false;
    smtp_server_answer(t.server, SMTP_REPLY_RCPT_OK, BYTES_NONE);
    t.later = false;
    (void)!smtp_server_feed(t.server, BYTES_NONE, t.now);
    assert_int_equal(mono_ms_between(t.now, smtp_server_deadline(t.server)), 300000);
    testkit_feed(&t, BYTES("DATA\r\nx\r\n"), 0);
    smtp_server_pause(t.server);
    assert_int_equal(smtp_server_wants(t.server), SMTP_SERVER_DECISION);
    assert_int_equal(smtp_server_feed(t.server, BYTES("y\r\n.\r\n"), t.now), 0);
    advance(&t, 3600000);
    smtp_server_resume(t.server);
    testkit_feed(&t, BYTES("y\r\n.\r\n"), 0);
    expect_end(&t, "250 2.0.0 Ok: queued as M1\r\n");
}

// ---- every reply that the session gives on its own was given in one of the tests above

static void test_each_reply_was_reached(void **state)
{
    for (int id = SMTP_REPLY_NONE + 1; id < SMTP_REPLY_COUNT; id++) {
        const struct smtp_reply_row *row = smtp_reply_row((enum smtp_reply_id)id);
        struct buf want = {0};
        const char *slot = strstr(row->text, "%s");
        size_t fixed = slot ? (size_t)(slot - row->text) : strlen(row->text);
        buf_printf(&want, "%u %s%s%.*s", row->code, row->enhanced ? row->enhanced : "",
                   row->enhanced ? " " : "", (int)fixed, row->text);
        if (row->by == SMTP_BY_SESSION &&
            bytes_search(buf_bytes(&all_replies), buf_bytes(&want)) < 0)
            fail_msg("no test reaches %s", row->name);
        buf_done(&want);
    }
    buf_done(&all_replies);
}

// ---- the ends of a session

static void test_hangup(void **state)
{
    static const struct bytes inputs[] = {BYTES(OPEN_IN), BYTES(OPEN_IN "DATA\r\nabc\r\n"),
                                          BYTES(OPEN_IN "BDAT 100\r\nabc"),
                                          BYTES(OPEN_IN "BDAT 1\r\nx"), BYTES(EHLO_IN MAIL_IN)};
    for (size_t i = 0; i < COUNT_OF(inputs); i++) {
        struct testkit t;
        setup(&t, 0);
        testkit_feed(&t, inputs[i], 0);
        assert_true(t.transaction);
        smtp_server_hangup(t.server);
        assert_false(t.transaction);
        assert_int_equal(smtp_server_wants(t.server), SMTP_SERVER_CLOSE);
        assert_int_equal(smtp_server_feed(t.server, BYTES("QUIT\r\n"), t.now), 6);
        done(&t);
    }
}

static void test_late_answer_after_hangup(void **state)
{
    struct testkit t;
    setup(&t, 0);
    t.later = true;
    (void)!smtp_server_feed(t.server, BYTES("HELO c\r\n" MAIL_IN), t.now);
    assert_int_equal(smtp_server_wants(t.server), SMTP_SERVER_DECISION);
    smtp_server_hangup(t.server);
    smtp_server_answer(t.server, SMTP_REPLY_MAIL_OK, BYTES_NONE);
    assert_int_equal(smtp_server_wants(t.server), SMTP_SERVER_CLOSE);
    done(&t);
}

static void test_shutdown(void **state)
{
    struct testkit t;
    setup(&t, 0);
    testkit_feed(&t, BYTES(EHLO_IN), 0);
    smtp_server_shutdown(t.server);
    testkit_feed(&t, BYTES("NOOP\r\n"), 0);
    expect_end(&t, "421 4.3.2 The server is stopping; try again in a moment\r\n[close]");

    for (int chunked = 0; chunked < 2; chunked++) {
        setup(&t, 0);
        testkit_feed(&t, BYTES(OPEN_IN), 0);
        smtp_server_shutdown(t.server);
        testkit_feed(
            &t, chunked ? BYTES("BDAT 1\r\nxBDAT 0 LAST\r\n") : BYTES("DATA\r\nx\r\n.\r\n"), 0);
        expect_end(&t, "250 2.0.0 Ok: queued as M1\r\n"
                       "421 4.3.2 The server is stopping; try again in a moment\r\n[close]");
    }
}

static void test_turned_away(void **state)
{
    struct testkit t;
    testkit_init(&t);
    t.server = NULL;
    testkit_start(&t, false, false);
    buf_clear(smtp_server_output(t.server));
    smtp_server_close(t.server, SMTP_REPLY_TOO_MANY_CONNECTIONS, BYTES_NONE);
    testkit_feed(&t, BYTES("x"), 0);
    expect_end(&t, "421 4.7.0 Too many connections from your address; try again later\r\n[close]");
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dialogues),
        cmocka_unit_test(test_handlers_log),
        cmocka_unit_test(test_xclient_facts),
        cmocka_unit_test(test_a_smuggling),
        cmocka_unit_test(test_a_end_at_every_split),
        cmocka_unit_test(test_i_limits),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_output_is_bounded),
        cmocka_unit_test(test_c_many_chunks_keep_memory_flat),
        cmocka_unit_test(test_time_outs),
        cmocka_unit_test(test_our_own_time),
        cmocka_unit_test(test_hangup),
        cmocka_unit_test(test_late_answer_after_hangup),
        cmocka_unit_test(test_shutdown),
        cmocka_unit_test(test_turned_away),
        cmocka_unit_test(test_each_reply_was_reached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
