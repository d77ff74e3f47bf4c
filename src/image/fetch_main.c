/* main() of nixbox-fetch (see fetch_engine.h): items from stdin, progress on stderr, the result on stdout. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "image/fetch_engine.h"

#define INPUT_MAX (64u << 20)

static void on_step(void *user, const char *step, const char *detail, unsigned long long done, unsigned long long total) {
        (void)user;
        (void)step;
        fprintf(stderr, "%llu %llu %s\n", done, total, detail);
}

static const char *text_of(const json_t *object, const char *key) {
        const char *text = json_string_value(json_object_get(object, key));
        return text ? text : "";
}

/* The texts stay the document's; the lists of addresses are the caller's. */
static struct fetch_item *read_items(const json_t *doc, size_t *ret_n) {
        struct fetch_item *items = nb_calloc(json_array_size(doc), sizeof *items);
        size_t i, k;
        json_t *one, *url;
        json_array_foreach(doc, i, one) {
                char **urls = NULL;
                json_array_foreach(json_object_get(one, "urls"), k, url) {
                        nb_strv_add(&urls, json_string_value(url) ? json_string_value(url) : "");
                }
                items[i] = (struct fetch_item){ .label = text_of(one, "label"),
                                                .urls = (const char *const *)urls,
                                                .hash = text_of(one, "hash"),
                                                .size = (uint64_t)json_integer_value(json_object_get(one, "size")) };
        }
        *ret_n = json_array_size(doc);
        return items;
}

int main(int argc, char **argv) {
        NB_AUTO_FREE char *text = NULL;
        NB_AUTO_ERROR err = { 0 };
        size_t len = 0, n = 0, failed = 0;
        int r = nb_read_fd(STDIN_FILENO, INPUT_MAX, &text, &len);
        json_t *doc = r == 0 ? json_loadb(text, len, 0, NULL) : NULL;
        if (argc != 2 || !json_is_array(doc)) {
                fprintf(stderr, "nixbox-fetch is started by nixbox\n");
                json_decref(doc);
                return 2;
        }
        struct store s = { .cache = argv[1] };
        struct image_progress progress = { .step = on_step };
        struct fetch_item *items = read_items(doc, &n);
        (void)fetch_engine(&s, items, n, &progress, &failed, &err);
        json_t *result = json_pack("{s:I, s:i, s:s, s:s}", "failed", (json_int_t)failed, "code", err.code, "what",
                                   err.what ? err.what : "", "hint", err.hint ? err.hint : "");
        r = result ? json_dumpf(result, stdout, JSON_COMPACT) : -1;
        json_decref(result);
        for (size_t i = 0; i < n; i++)
                nb_strv_free((char **)items[i].urls);
        free(items);
        json_decref(doc);
        return r == 0 && fflush(stdout) == 0 ? 0 : 1;
}
