// SPDX-License-Identifier: MIT
#include "cli/cli_commands.h"
#include "cli/sink.h"

static const char *const sink_tls_words[] = {"none", "starttls", NULL};
static const char *const load_tls_words[] = {"none", "starttls", "implicit", NULL};
static const char *const extension_words[] = {
    "PIPELINING",          "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "SIZE",
    "ENHANCEDSTATUSCODES", "EHLO",     NULL};

static const struct cli_option sink_options[] = {
    {"listen", "HOST:PORT", "where to take mail; port 0 lets the kernel choose (printed)", true},
    {"rules", "FILE", "who is accepted, refused, deferred, delayed, dropped, and when"},
    {"log", "FILE", "append one JSON line a recipient (-: standard output)"},
    {"count", "N", "exit after N recipients"},
    {"ready-file", "FILE", "written, as JSON, once all listen"},
    {"tls", "none|starttls", "with a certificate made for the occasion", .words = sink_tls_words},
    {"lmtp", NULL, "speak LMTP"},
    {"without", "WORD", "leave out an extension, or EHLO itself", true, extension_words},
    {"quiet", NULL, "print no addresses"},
    {NULL},
};
const struct cli_command cli_sink = {
    .name = "sink",
    .arguments = "--listen HOST:PORT",
    .help = "a receiving server for trials: takes mail, or misbehaves by rule",
    .more =
        "Extensions that --without leaves out: PIPELINING, 8BITMIME, SMTPUTF8, DSN, CHUNKING,\n"
        "SIZE, ENHANCEDSTATUSCODES; EHLO: only HELO is known.\n"
        "Rules stand one a line, the first that holds decides:\n"
        "  WHO STEP [WHEN] ACTION\n"
        "  WHO: * | domain | address\n"
        "  STEP: connect | helo | mail | rcpt | data | content | final\n"
        "  WHEN: P% | first N | after N | rate N\n"
        "  ACTION: accept | refuse [CODE TEXT] | defer [CODE TEXT] | delay MS | drop [BYTES] |\n"
        "          hang | lose\n",
    .options = sink_options,
    .run_itself = cmd_sink,
};

static const struct cli_option load_options[] = {
    {"to", "HOST:PORT", "the server"},
    {"count", "N", "messages in all (default 1000)"},
    {"sessions", "N", "connections at a time (default 10)"},
    {"rate", "R", "messages a second, in all (default: as fast as they go)"},
    {"size", "BYTES", "of a message's body (default 4096)"},
    {"recipients", "N", "of a message (default 1)"},
    {"messages-per-connection", "N", "then a new one is opened (default: no limit)"},
    {"from", "ADDRESS", "sender (default load@load.example)"},
    {"rcpt", "PATTERN", "recipients (default user%n@load.example)"},
    {"tls", "WORD", "none (default), starttls or implicit; no certificate is verified",
     .words = load_tls_words},
    {"resume", NULL, "a new TLS connection resumes the session of an earlier one"},
    {"idle", NULL, "sessions are opened, send nothing and stay until a signal"},
    {"login", "LOGIN", "log in; with --password-file"},
    {"password-file", "FILE", "the password is its first line"},
    {"lmtp", NULL, "speak LMTP"},
    {"name", "NAME", "of the run: messages are NAME-1, NAME-2 (default: a random one)"},
    {"ids", "FILE", "append a JSON line for each accepted message"},
    {"refused", "FILE", "append a JSON line for each message that a reply refused"},
    {"json", NULL, "print the report as JSON"},
    {NULL},
};
const struct cli_command cli_load = {
    .name = "load",
    .arguments = "--to HOST:PORT",
    .help = "a sending client for trials: sends much mail and measures",
    .more = "In PATTERN %n is the number of the recipient, %m that of the message. With --idle,\n"
            "{\"idle\":N} is printed once all sessions are there.\n",
    .options = load_options,
    .run_itself = cmd_load,
};
