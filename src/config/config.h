/* nixbox.yaml resolved to one struct. Loading parses YAML with positions, merges profiles, checks types, fills defaults
 * and checks what can be checked without starting anything. Every error has file:line:column and the way out. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "policy/policy.h"

struct config_pos {
        const char *file;      /* as messages show it, owned by the config; "default" for built-in values */
        unsigned line, column; /* from 1; 0 for built-in values */
};

struct config_mount {
        char *source; /* real path (no symbolic links in it) where it exists, else absolute and normalized */
        char *target; /* absolute, normalized */
        bool write;
        bool is_file;
        struct config_pos pos;
};

/* A folder of nixbox's own that the box keeps and shares with the caller's other boxes that name it. */
struct config_volume {
        char *name;
        char *target; /* absolute, normalized */
        struct config_pos pos;
};

enum config_base { CONFIG_BASE_DEBIAN, CONFIG_BASE_OCI, CONFIG_BASE_NIX, CONFIG_BASE_DIR };
/* A package whose install scripts run when the image is built. */
struct config_npm_script {
        char *package;
        struct config_pos pos;
};
/* A command that is a file of an npm package. */
struct config_npm_bin {
        char *command, *package, *file;
        struct config_pos pos;
};
struct config_image {
        enum config_base kind;
        char *base;      /* as written: "debian-13"; paths in it are absolute */
        char *base_name; /* the same for a lock: a path below the config's folder is relative to it; NULL: as `base` */
        char **packages; /* sorted, without duplicates */
        char **npm;      /* "name" or "name@version", sorted, each package once */
        struct config_npm_script *npm_scripts;
        size_t n_npm_scripts;
        struct config_npm_bin *npm_bin; /* sorted by command */
        size_t n_npm_bin;
        char *locale; /* "de_DE.UTF-8"; NULL: C.UTF-8 */
        bool docs;    /* manual pages and documentation are kept */
};

/* A port of the guest that is reachable on the host: "8080:80", "0.0.0.0:8080:80", "3000". */
struct config_port {
        char *address; /* of the host; default 127.0.0.1 */
        uint16_t host_port, guest_port;
        struct config_pos pos;
};

enum config_secret_from { CONFIG_SECRET_ENV, CONFIG_SECRET_FILE, CONFIG_SECRET_COMMAND };
struct config_secret {
        char *name; /* the variable inside */
        enum config_secret_from from;
        char *arg; /* variable, absolute path (real where it exists), or shell command */
        char *dir; /* folder a command runs in: that of the file that names it */
        char **hosts;
        struct config_pos pos;
};

struct config_hook {
        char *command;
        char *dir; /* folder of the file that names it; a host hook runs there */
        struct config_pos pos;
};

/* A file that a command of the config makes the host run or read, as it was when the config was loaded. */
struct config_file {
        char *path; /* real path */
        char *bytes;
        size_t len;
        bool executable;
        char sha256[65];
};

#define CONFIG_FLOOR_USUAL UINT64_MAX

struct config {
        char *file;      /* absolute path of nixbox.yaml */
        char *dir;       /* its folder */
        char *name;      /* box name */
        char **profiles; /* as named; paths are absolute */
        struct config_image image;
        unsigned cpus;
        uint64_t memory;     /* bytes, a multiple of 2 MiB */
        uint64_t disk;       /* bytes, 0: scratch space in memory */
        bool keep_disk;      /* it outlives the box */
        uint64_t disk_floor; /* bytes that stay free behind writable mounts; CONFIG_FLOOR_USUAL: not said */
        struct config_mount *mounts;
        size_t n_mounts;
        struct config_volume *volumes;
        size_t n_volumes;
        struct policy *policy; /* network: mode, allow and deny; each rule's origin says where it stands */
        struct config_pos network_pos;
        struct config_port *ports;
        size_t n_ports;
        char **env;     /* "NAME=value" */
        char **protect; /* patterns of files that the box must not change, resolved; NULL: none */
        struct config_secret *secrets;
        size_t n_secrets;
        struct config_hook *setup; /* commands in the guest, once per boot */
        size_t n_setup;
        struct config_hook *pre_up, *post_up, *pre_down, *post_down; /* on the host: run them through approval_command() */
        size_t n_pre_up, n_post_up, n_pre_down, n_post_down;
        struct config_file *files;
        size_t n_files;
        struct config_file lock;  /* nixbox.lock beside it, to be used as it was read; path NULL if there is none */
        struct config_tree *tree; /* the merged document with the origin of each value; for `nixbox config` and the hash */
};

/** Finds the nearest nixbox.yaml from `dir` upward. Returns a new string; -ENOENT with a hint to run `nixbox init`. */
int config_find(const char *dir, char **ret_file, struct nb_error *err);
/** Loads, merges, checks. With `for_start`, also checks what only a start needs (mount sources exist, secrets can be
 *  read, network mode is supported). The result is freed with config_free(). */
int config_load(const char *file, bool for_start, struct config **ret, struct nb_error *err);
/** Only the box's name (cheap; for verbs that act on a running box, so errors elsewhere in the file do not matter where the
 *  file itself states the name). New string. */
int config_box_name(const char *file, char **ret, struct nb_error *err);
void config_free(struct config *c);
static inline void config_freep(struct config **c) {
        config_free(*c);
}

/** One mount from the command line: "SOURCE[:TARGET][:rw|:ro]"; SOURCE relative to `dir`. Checks that the source exists and
 *  is not nixbox's own. */
int config_parse_mount(const char *spec, const char *dir, struct config_mount *ret, struct nb_error *err);
void config_mount_clear(struct config_mount *m);
/** The real path of a volume's folder, whether it is there or not; with NULL, of the folder of all volumes. New string. */
char *config_volume_path(const char *name);

/** One published port from the command line, as in the config. */
int config_parse_port(const char *spec, struct config_port *ret, struct nb_error *err);
void config_port_clear(struct config_port *p);

/** Adds rules (texts as policy_rule_parse() takes them) to network.allow or, with `deny`, network.deny of the file, keeping
 * comments, order and layout, in one atomic step; a rule that is there already is not added again, and an equal rule in the
 * opposite list of this file is removed. The result is parsed again before it replaces the file, and must differ by exactly
 * these rules. Does not touch profiles. *ret_changed tells whether the file was changed. */
int config_save_rules(const char *file, char *const *rules, bool deny, bool *ret_changed, struct nb_error *err);

/** The resolved config for people (each value with where it came from) or as JSON. New string. */
char *config_to_text(const struct config *c, bool json);
/** SHA-256 of the resolved config in canonical form, the files it makes the host run included. */
void config_hash(const struct config *c, char ret_hex[65]);

/** Reads a secret's value as the config says. `ret` is the caller's; wipe it with explicit_bzero before freeing. */
int config_secret_read(const struct config_secret *s, const struct config *c, char **ret, size_t *ret_len,
                       struct nb_error *err);
