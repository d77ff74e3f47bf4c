/* nixbox image ls and rm: what is in the store, and which boxes use it. The store knows that something is in use; by whom, the
 * boxes say. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/text.h"
#include "box/control.h"
#include "box/state.h"
#include "cli/image_parts.h"
#include "image/image.h"

#define DIGEST_SHOWN 19 /* "sha256:" and 12 digits */

static char *image_of_box(const char *name) {
        __attribute__((cleanup(box_paths_freep))) struct box_paths *paths = NULL;
        enum box_state state;
        NB_AUTO_CLOSE int fd = -1;
        /* one that is starting answers only once it is up */
        if (box_paths_new(name, &paths, NULL) < 0 || box_probe(paths, &state, NULL) < 0 ||
            (state != BOX_RUNNING && state != BOX_STOPPING) || box_connect(paths, &fd, NULL) < 0)
                return NULL;
        json_t *answer = NULL, *request = json_pack("{s:s}", "op", "status");
        (void)control_call(fd, request, NULL, 0, &answer, NULL);
        char *digest = nb_strdup(json_string_value(json_object_get(answer, "image")));
        json_decref(request);
        json_decref(answer);
        return digest;
}

/* From digest to an array of names of boxes. */
static json_t *boxes_by_image(void) {
        NB_AUTO_STRV char **names = NULL;
        json_t *all = json_object();
        if (box_list(&names, NULL) < 0)
                return all;
        for (size_t i = 0; names && names[i]; i++) {
                NB_AUTO_FREE char *digest = image_of_box(names[i]);
                if (!digest)
                        continue;
                json_t *list = json_object_get(all, digest);
                if (!list) {
                        list = json_array();
                        (void)json_object_set_new(all, digest, list);
                }
                (void)json_array_append_new(list, json_string(names[i]));
        }
        return all;
}

/* Seconds since a time as records have it; -1 if it is none. */
static long long age_of(const char *built, time_t now) {
        struct tm tm = { 0 };
        const char *end = built ? strptime(built, "%Y-%m-%dT%H:%M:%SZ", &tm) : NULL;
        if (!end || *end)
                return -1;
        long long age = (long long)(now - timegm(&tm));
        return age < 0 ? 0 : age;
}

/* "3 days": one unit is enough. */
static char *age_text(long long age) {
        static const struct {
                long long seconds;
                const char *name;
        } units[] = { { 86400, "day" }, { 3600, "hour" }, { 60, "minute" }, { 1, "second" } };
        for (size_t i = 0; age >= 0 && i < NB_ARRAY_LEN(units); i++) {
                long long n = age / units[i].seconds;
                if (n > 0 || i + 1 == NB_ARRAY_LEN(units))
                        return nb_asprintf("%lld %s%s", n, units[i].name, n == 1 ? "" : "s");
        }
        return nb_strdup("?");
}

static void join(json_t *image, const json_t *boxes, time_t now) {
        const char *digest = json_string_value(json_object_get(image, "digest"));
        json_t *users = json_object_get(boxes, digest ? digest : "");
        (void)json_object_set_new(image, "boxes", users ? json_incref(users) : json_array());
        long long age = age_of(json_string_value(json_object_get(image, "built")), now);
        if (age >= 0)
                (void)json_object_set_new(image, "age", json_integer(age));
}

static void print_names(const char *before, const json_t *list) {
        size_t i;
        json_t *name;
        json_array_foreach((json_t *)list, i, name) {
                NB_AUTO_FREE char *text = nb_text_clean(json_string_value(name) ? json_string_value(name) : "", 0);
                printf("%s%s", i == 0 ? before : " ", text);
        }
}

static void print_line(const json_t *image) {
        const char *digest = json_string_value(json_object_get(image, "digest"));
        const char *base = json_string_value(json_object_get(image, "base"));
        const json_t *age = json_object_get(image, "age");
        NB_AUTO_FREE char *size = nb_format_size((uint64_t)json_integer_value(json_object_get(image, "size")));
        NB_AUTO_FREE char *old = age_text(age ? json_integer_value(age) : -1), *from = nb_text_clean(base ? base : "?", 0);
        printf("%.*s  %8s  %-10s  %s", DIGEST_SHOWN, digest ? digest : "?", size, old, from);
        print_names("  ", json_object_get(image, "packages"));
        print_names("  used by ", json_object_get(image, "boxes"));
        putchar('\n');
}

int image_ls(struct cli *cli, char **args, bool force) {
        NB_AUTO_ERROR err = { 0 };
        json_t *images = NULL, *one;
        (void)force;
        if (args[0]) {
                nb_fail(&err, EINVAL, "image ls takes no '%s'", args[0]);
                nb_hint(&err, "it lists all images; nixbox image ls --json says more about each");
                return cli_fail(&err);
        }
        if (image_list(&images, &err) < 0)
                return cli_fail(&err);
        json_t *boxes = boxes_by_image();
        time_t now = time(NULL);
        size_t i;
        json_array_foreach(images, i, one) {
                join(one, boxes, now);
                if (!cli->json)
                        print_line(one);
        }
        json_decref(boxes);
        if (cli->json)
                return image_print_json(images);
        json_decref(images);
        return 0;
}

int image_rm(struct cli *cli, char **args, bool force) {
        NB_AUTO_ERROR err = { 0 };
        (void)cli;
        if (!args[0]) {
                nb_fail(&err, EINVAL, "image rm needs the image to remove");
                nb_hint(&err, "nixbox image ls lists the images");
                return cli_fail(&err);
        }
        json_t *boxes = boxes_by_image();
        int r = image_remove(args, force, boxes, &err);
        json_decref(boxes);
        return r < 0 ? cli_fail(&err) : 0;
}
