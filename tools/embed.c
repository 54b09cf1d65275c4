// SPDX-License-Identifier: MIT
//
// embed - writes a file's bytes as a C array: embed NAME < FILE > FILE.c
#include <stdio.h>

int main(int argc, char **argv)
{
    if (argc != 2)
        return 64;
    unsigned count = 0;
    printf("// Made from a file of data/ by tools/embed.c.\nextern const char %s[];\n"
           "extern const unsigned %s_len;\nconst char %s[] = {",
           argv[1], argv[1], argv[1]);
    for (int c = getchar(); c != EOF; c = getchar())
        printf("%s%d,", count++ % 24 ? "" : "\n", c < 128 ? c : c - 256);
    printf("0};\nconst unsigned %s_len = %u;\n", argv[1], count);
    return ferror(stdin) || fflush(stdout) ? 74 : 0;
}
