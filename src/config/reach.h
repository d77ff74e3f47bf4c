/* What a config lets a box have, as a list of single grants that can be compared: the heart of "does this widen what was
 * approved?". Pure: works on the canonical form alone. Private to src/config. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "policy/policy.h"

struct reach {
        char *text;   /* for people, and what is compared */
        char **wider; /* other grants that include this one */
        bool beyond;  /* goes beyond the config's own folder: needs an approval */
        bool connect; /* a connection: compared by `policy` instead */
};
struct reach_list {
        struct reach *items;
        size_t n;
        struct policy *policy; /* the rules about connections */
};

/** All grants in a canonical form (see render.h); `dir` is the config's own folder. Never fails: odd values grant nothing. */
void reach_of(json_t *canonical, const char *dir, struct reach_list *ret);
void reach_clear(struct reach_list *l);
/** What `now` grants and `granted` does not: other grants, more bytes, what is not denied any more. */
void reach_widening(const struct reach_list *now, const struct reach_list *granted, struct reach_list *ret);
/** Lines "- old" and "+ new" for every value that differs; NULL-terminated list, NULL if there is no difference. */
char **reach_diff(json_t *old, json_t *now);

/** For the parts that make grants: appends one. Takes the text. */
struct reach *reach_add(struct reach_list *l, bool beyond, char *text);
/** Connections and published ports (reach_network.c): the grants of a canonical form, and what one policy lets through that
 *  another does not. */
void reach_network(struct reach_list *l, json_t *network, json_t *ports);
void reach_connections(const struct policy *now, const struct policy *granted, struct reach_list *ret);
