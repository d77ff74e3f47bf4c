/* What the two arguments of cp mean, and the names files get, by docker cp's rules. Text in, values out. */
#pragma once
#include <stdbool.h>

#include "base/error.h"

struct cp_arg {
        bool in_box;
        bool stream;    /* "-": a tar stream on stdin or stdout */
        char *box;      /* NULL: the current one */
        char *path;     /* as written, at least "." */
        bool contents;  /* ends in "/." : what is in the folder, not the folder */
        bool as_folder; /* ends in "/" or is a folder by its text ("." or "..") */
};

/** "BOX:path", ":path", "path" or "-". A colon after a slash, or after what is no box name, belongs to a path. */
void cp_parse(const char *text, struct cp_arg *ret);
void cp_arg_clear(struct cp_arg *a);
/** The folder to enter and the name in it, as tar -C FOLDER ./NAME wants them. NAME is "." for contents and for folders
 *  without a name of their own. New strings. */
void cp_split(const struct cp_arg *a, char **ret_folder, char **ret_name);
/** An archive member's name below `root` (the NAME that was asked for), made relative: new string, "" for the root itself;
 *  NULL if the name is absolute, has "..", or lies elsewhere. */
char *cp_member(const char *name, const char *root);
