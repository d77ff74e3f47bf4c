/* Between looks.c and look_jails.c: what a look has to look at. */
#pragma once
#include "attack/scene.h"

struct look {
        const struct attack_scene *scene;
        const json_t *before, *after; /* the box's status */
        char **texts;                 /* what must be in no log */
        pid_t supervisor;
};
typedef void look_fn(const struct look *l, struct attack_row *row);
#define LOOK_DECLARE(class, name, function, description) look_fn look_##function;
ATTACK_LOOKS(LOOK_DECLARE)
/** The box's child whose command line has this word among its first (folders apart); 0 if there is none. */
pid_t look_child(const struct look *l, const char *word);
/** A file of a process in /proc. New string, "" if it cannot be read. */
char *look_file(pid_t pid, const char *name);
/** The row is not applicable. */
void look_skip(struct attack_row *row, const char *why);
