/* What an image says about the commands that run in it: kept in the record of what a description was built to, since two
 * descriptions may give the same files and say different things. */
#pragma once
#include <jansson.h>

#include <stddef.h>

#define META_ENV_MAX 256u                /* variables */
#define META_ENV_BYTES_MAX (64u * 1024u) /* of all of them; they travel to the guest in one message */
#define META_USER_MAX 256u

struct image_meta {
        char **env;    /* "NAME=value" */
        char *workdir; /* absolute; NULL: none */
        char *user;    /* as the image names it, "node" or "1000:1000"; for people only */
};

void image_meta_clear(struct image_meta *m);
/** Adds a variable. Those that describe the user are left out: the user of a box is not the image's. 0, or -E2BIG. */
int image_meta_add_env(struct image_meta *m, const char *variable);
/** Takes a working folder if it is one. */
void image_meta_set_workdir(struct image_meta *m, const char *path);
/** What the image's record keeps of it; NULL where there is nothing to say. The caller's reference. */
json_t *image_meta_json(const struct image_meta *m);
/** Reads that back; what no image says is passed over. */
void image_meta_from_json(const json_t *json, struct image_meta *ret);
