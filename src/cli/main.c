// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#include "cli/cli.h"

// A standard descriptor that is closed must not become a file of ours, which what is printed would go into. Output that
// goes nowhere is told, as a write to it fails.
static void hold_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF)
            (void)!open("/dev/null", fd == 1 ? O_RDONLY : O_RDWR);
}

int main(int argc, char **argv)
{
    hold_standard_descriptors();
    signal(SIGPIPE, SIG_IGN); // a write that fails is told where it is written
    return cli_main(argc, argv);
}
