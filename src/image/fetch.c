/* Having files downloaded (see fetch.h) by the program nixbox-fetch, so that nixbox itself does not load the libraries of the
 * network at each start. */
#include "image/fetch.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/proc.h"
#include "image/fetch_part.h"

#define PROGRAM "nixbox-fetch"
#define RESULT_MAX (1u << 20)
#define STEP "downloading"

static json_t *describe(const struct fetch_item *items, size_t n) {
        json_t *list = json_array();
        for (size_t i = 0; i < n; i++) {
                json_t *urls = json_array();
                for (size_t k = 0; items[i].urls[k]; k++)
                        (void)json_array_append_new(urls, json_string(items[i].urls[k]));
                (void)json_array_append_new(list, json_pack("{s:s, s:o, s:s, s:I}", "label", items[i].label, "urls", urls,
                                                            "hash", items[i].hash, "size", (json_int_t)items[i].size));
        }
        return list;
}

/* "BYTES TOTAL TEXT" */
static void on_line(void *user, const char *line) {
        char *end = NULL;
        unsigned long long done = strtoull(line, &end, 10);
        unsigned long long total = end ? strtoull(end, &end, 10) : 0;
        if (end && *end == ' ')
                store_step(user, STEP, end + 1, done, total);
}

static int take_result(const char *text, size_t n, size_t *ret_failed, struct nb_error *err) {
        json_t *doc = json_loads(text, 0, NULL);
        const char *what = json_string_value(json_object_get(doc, "what"));
        const char *hint = json_string_value(json_object_get(doc, "hint"));
        json_int_t code = json_integer_value(json_object_get(doc, "code"));
        json_int_t failed = json_integer_value(json_object_get(doc, "failed"));
        int r = 0;
        if (!what || !hint || code < 0 || code > INT32_MAX)
                r = nb_fail(err, EPROTO, PROGRAM " gives no result");
        else if (code > 0)
                r = nb_fail(err, (int)code, "%s", what);
        if (r < 0 && hint && *hint)
                (void)nb_hint(err, "%s", hint);
        *ret_failed = failed >= 0 && (size_t)failed < n ? (size_t)failed : n;
        json_decref(doc);
        return r;
}

static bool all_there(const struct store *s, const struct fetch_item *items, size_t n) {
        for (size_t i = 0; i < n; i++) {
                NB_AUTO_FREE char *path = fetch_path(s, items[i].hash);
                if (access(path, R_OK) < 0)
                        return false;
        }
        return true;
}

int fetch_some(const struct store *s, const struct fetch_item *items, size_t n, const struct image_progress *progress,
               size_t *ret_failed, struct nb_error *err) {
        NB_AUTO_FREE char *program = nb_installed_program(PROGRAM), *output = NULL;
        *ret_failed = n;
        if (all_there(s, items, n))
                return 0;
        json_t *doc = describe(items, n);
        char *text = json_dumps(doc, JSON_COMPACT);
        json_decref(doc);
        if (!text)
                return nb_fail(err, EINVAL, "cannot describe what is to be downloaded");
        char *argv[] = { program, s->cache, NULL };
        struct proc_spec spec = { .argv = argv,
                                  .input = text,
                                  .input_len = strlen(text),
                                  .output_max = RESULT_MAX,
                                  .stdout_fd = -1,
                                  .stderr_fd = -1,
                                  .on_stderr_line = on_line,
                                  .user = (void *)progress };
        store_step(progress, STEP, NULL, 0, 0);
        int r = proc_run(&spec, &output, NULL, err);
        free(text);
        return r < 0 ? r : take_result(output, n, ret_failed, err);
}

int fetch_all(const struct store *s, const struct fetch_item *items, size_t n, const struct image_progress *progress,
              struct nb_error *err) {
        size_t failed = n;
        int r = fetch_some(s, items, n, progress, &failed, err);
        if (r == -ENETUNREACH && err && !err->hint)
                (void)nb_hint(err,
                              "check the network connection; what has arrived is kept, and the next try goes on from there");
        return r < 0 ? nb_context(err, "cannot download") : 0;
}
