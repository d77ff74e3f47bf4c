/* What a config lets a box have, as a list of single grants that can be compared: the heart of "does this widen what was
 * approved?". Pure: works on the canonical form alone. Private to src/config. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct reach {
        char *text;   /* for people, and what is compared */
        char **wider; /* other grants that include this one */
        bool beyond;  /* goes beyond the config's own folder: needs an approval */
};
struct reach_list {
        struct reach *items;
        size_t n;
};

/** All grants in a canonical form (see render.h); `dir` is the config's own folder. Never fails: odd values grant nothing. */
void reach_of(json_t *canonical, const char *dir, struct reach_list *ret);
void reach_clear(struct reach_list *l);
/** True if something that was granted includes `r`. */
bool reach_covered(const struct reach *r, const struct reach_list *granted);
/** Lines "- old" and "+ new" for every value that differs; NULL-terminated list, NULL if there is no difference. */
char **reach_diff(json_t *old, json_t *now);
