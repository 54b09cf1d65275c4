// SPDX-License-Identifier: MIT
//
// replay - feed every file of a corpus directory to a fuzz target; prints TAP
//
// Each input is copied into a heap block of exactly its size, so that the address sanitizer sees a
// read of one byte too many. The empty input is always fed first. An empty or missing corpus is a
// failure.
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_BYTES_MAX (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool feed_file(const char *dir, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    uint8_t *whole = malloc(INPUT_BYTES_MAX);
    size_t size = f && whole ? fread(whole, 1, INPUT_BYTES_MAX, f) : 0;
    bool read = f && whole && !ferror(f) && feof(f);
    if (f)
        fclose(f);
    uint8_t *exact = malloc(size ? size : 1);
    if (read && exact) {
        memcpy(exact, whole, size);
        LLVMFuzzerTestOneInput(exact, size);
    }
    free(exact);
    free(whole);
    return read && exact;
}

static int is_input(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
    struct dirent **inputs = NULL;
    int count = argc == 2 ? scandir(argv[1], &inputs, is_input, alphasort) : -1;
    if (count <= 0) {
        printf("1..1\nnot ok 1 - corpus # %s: no inputs\n",
               argc == 2 ? argv[1] : "usage: replay DIR");
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("1..%d\n", count + 1);
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    printf("ok 1 - (empty)\n");
    bool all = true;
    for (int i = 0; i < count; i++) {
        bool fed = feed_file(argv[1], inputs[i]->d_name);
        all = all && fed;
        printf("%s %d - %s\n", fed ? "ok" : "not ok", i + 2, inputs[i]->d_name);
        free(inputs[i]);
    }
    free(inputs);
    return all ? 0 : 1;
}
