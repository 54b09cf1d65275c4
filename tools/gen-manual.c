// SPDX-License-Identifier: MIT
//
// gen-manual - writes the manual pages and the completion scripts from the tables of commands and parameters
//
// Usage: gen-manual man MAN1 MAN5             the folders' pages; what else is in them goes
//        gen-manual completion BASH ZSH FISH  the files
// The date of the pages is SOURCE_DATE_EPOCH's, else today.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/cli_commands.h"
#include "cli/completion.h"
#include "cli/manual.h"

static int write_file(const char *path, struct buf *text)
{
    FILE *file = fopen(path, "we");
    bool ok = file && fwrite(text->at, 1, text->len, file) == text->len;
    if (file && fclose(file) != 0)
        ok = false;
    if (!ok)
        fprintf(stderr, "gen-manual: cannot write %s: %s\n", path, strerror(errno));
    buf_clear(text);
    return ok ? 0 : 1;
}

static int write_page(const char *folder, struct bytes name, int section, struct buf *text)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%.*s.%d", folder, BYTES_FMT(name), section);
    int failed = write_file(buf_cstr(&path), text);
    buf_done(&path);
    return failed;
}

// Makes the folder, and empties it of what was made before: a command may be gone.
static int empty_folder(const char *path)
{
    if (mkdir(path, 0777) == -1 && errno != EEXIST) {
        fprintf(stderr, "gen-manual: cannot make %s: %s\n", path, strerror(errno));
        return 1;
    }
    DIR *folder = opendir(path);
    if (!folder)
        return 1;
    for (struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
    return 0;
}

static void format_date(char *out, size_t size)
{
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    uint64_t seconds;
    time_t now = time(NULL);
    struct tm tm;
    if (epoch && bytes_to_u64(bytes_cstr(epoch), INT64_MAX, &seconds) == OK)
        now = (time_t)seconds;
    gmtime_r(&now, &tm);
    strftime(out, size, "%B %e, %Y", &tm);
}

static int write_pages(const char *man1, const char *man5)
{
    char date[64];
    struct buf text = {0}, name = {0};
    format_date(date, sizeof date);
    int failed = empty_folder(man1) | empty_folder(man5);
    manual_program(date, &text);
    failed |= write_page(man1, BYTES("posthaste"), 1, &text);
    for (int i = 0; i < cli_commands_count; i++) {
        struct bytes group = manual_group_of(cli_commands[i]);
        buf_clear(&name);
        manual_name(bytes_cstr(cli_commands[i]->name), &name);
        manual_command(cli_commands[i], date, &text);
        failed |= write_page(man1, buf_bytes(&name), 1, &text);
        if (!manual_begins_group(i))
            continue;
        buf_clear(&name);
        manual_name(group, &name);
        manual_group(group, date, &text);
        failed |= write_page(man1, buf_bytes(&name), 1, &text);
    }
    manual_configuration(date, &text);
    failed |= write_page(man5, BYTES("posthaste.yaml"), 5, &text);
    buf_done(&name);
    buf_done(&text);
    return failed;
}

static int write_completion(char **paths)
{
    struct buf text = {0};
    completion_bash(&text);
    int failed = write_file(paths[0], &text);
    completion_zsh(&text);
    failed |= write_file(paths[1], &text);
    completion_fish(&text);
    failed |= write_file(paths[2], &text);
    buf_done(&text);
    return failed;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "man") == 0)
        return write_pages(argv[2], argv[3]);
    if (argc == 5 && strcmp(argv[1], "completion") == 0)
        return write_completion(argv + 2);
    fputs("usage: gen-manual man MAN1 MAN5 | completion BASH ZSH FISH\n", stderr);
    return 64;
}
