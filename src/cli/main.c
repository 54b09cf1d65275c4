// SPDX-License-Identifier: MIT
#include <signal.h>

#include "cli/cli.h"

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN); // a write that fails is told where it is written
    return cli_main(argc, argv);
}
