// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <sysexits.h>

#include "cli/cli_commands.h"
#include "cli/sendmail.h"

static int run_sendmail(int argc, char **argv)
{
    struct sendmail options;
    int code = sendmail_parse(argc, argv, &options);
    return code ? code : sendmail_run(&options);
}

const struct cli_command cli_sendmail = {
    .name = "sendmail",
    .arguments = "[-ti] [-f SENDER] [-F NAME] [RECIPIENT...]",
    .help = "send the message on standard input, as cron, mail(1) and PHP know it",
    .more =
        "Called by the name sendmail, mailq or newaliases, too. The message goes to the service's\n"
        "socket (sendmail.socket), where the user who runs this sends as an account\n"
        "(sendmail.accounts). While the service is down it is left in the folder sendmail.pickup,\n"
        "if there is one. All recipients are taken, or nothing is sent.\n"
        "\n"
        "The header is completed: addresses without a domain get the service's host name; From,\n"
        "Date and Message-ID are added where they are missing. Bcc is removed, and lines end in\n"
        "CRLF whatever they ended in. Options:\n"
        "\n"
        "  -t            take the recipients of To, Cc and Bcc, beside those named\n"
        "  -i, -oi       a line of one dot does not end the message\n"
        "  -f, -r ADDR   the sender of the envelope; <> is none\n"
        "  -F NAME       the name in a From field that is added\n"
        "  -N WORDS      report to the sender: never, or success,failure,delay\n"
        "  -R WORD       reports carry the message (full) or its header (hdrs)\n"
        "  -V ID         the envelope id that reports name\n"
        "  -C FILE       the configuration\n"
        "  -v            print the message's id\n"
        "  -bm           send a message (what is done without -b)\n"
        "  -bs           speak SMTP over standard input and output\n"
        "  -bv           say whether the recipients would be taken, send nothing\n"
        "  -bp           list the queue, as mailq\n"
        "  -bi, -I       as newaliases: there is nothing to do\n"
        "  -q            try what is queued now; -qR DOMAIN and -qI ID select\n"
        "\n"
        "Other options of sendmail(1) are taken and have no effect. It exits with 64 (the command\n"
        "line), 65 (the message), 67 (a recipient is refused), 69 (refused), 75 (try again "
        "later),\n"
        "77 (this user may not send so) or 78 (the configuration).\n",
    .arguments_max = CLI_ARGUMENTS_MAX,
    .run_itself = run_sendmail,
};

static int run_newaliases(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("newaliases: nothing to do: recipient tables are read by the service itself");
    return EX_OK;
}

const struct cli_command cli_newaliases = {
    .name = "newaliases",
    .help = "does nothing, for programs that call it when /etc/aliases changes",
    .run_itself = run_newaliases,
};
