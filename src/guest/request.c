/* Reading the host's requests (see request.h). */
#include "request.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"

#define NAME_MAX_LEN 64u
#define PATH_MAX_LEN 4096u
#define ARGS_MAX 16384u
#define MOUNTS_MAX 256u
#define NET_BITS_MIN 1u
#define NET_BITS_MAX 30u
#define NET_MTU_MIN 576u
#define NET_MTU_MAX 65535u

static int bad(struct nb_error *err, const char *what) {
        return nb_fail(err, EPROTO, "malformed request: %s", what);
}

/* A string field that must not be there yet. */
static int take_str(const struct wire_field *f, char **slot, const char *what, struct nb_error *err) {
        if (*slot || wire_field_str(f, slot) < 0)
                return bad(err, what);
        return 0;
}

static int take_list(const struct wire_field *f, char ***list, const char *what, struct nb_error *err) {
        NB_AUTO_FREE char *text = NULL;
        if (wire_field_str(f, &text) < 0 || nb_strv_len(*list) >= ARGS_MAX)
                return bad(err, what);
        nb_strv_add(list, text);
        return 0;
}

static bool is_variable(const struct wire_field *f) {
        const uint8_t *eq = f->len > 0 ? memchr(f->bytes, '=', f->len) : NULL;
        return eq && eq > f->bytes && !memchr(f->bytes, 0, f->len);
}

/* Names of users and hosts end up in line-based files: letters, digits and a few marks only. */
static bool valid_name(const char *name) {
        size_t len = strlen(name);
        if (len == 0 || len > NAME_MAX_LEN || name[0] == '-' || name[0] == '.')
                return false;
        static const char also[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@$-";
        return strspn(name, also) == len;
}

/* Absolute, without "." and ".." parts; fit for a line-based file if `plain`. */
static bool valid_path(const char *path, bool plain) {
        size_t len = strlen(path);
        if (path[0] != '/' || len >= PATH_MAX_LEN || (plain && strpbrk(path, ":\n")))
                return false;
        for (const char *p = path; p; p = strchr(p + 1, '/')) {
                size_t part = strcspn(p + 1, "/");
                if ((part == 1 && p[1] == '.') || (part == 2 && p[1] == '.' && p[2] == '.'))
                        return false;
        }
        return true;
}

static bool valid_timezone(const char *name) {
        static const char also[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-/";
        size_t len = strlen(name);
        return len > 0 && len <= NAME_MAX_LEN && name[0] != '/' && strspn(name, also) == len;
}

void mount_request_clear(struct mount_request *m) {
        free(m->id);
        free(m->target);
        *m = (struct mount_request){ 0 };
}

int mount_request_parse(const void *payload, size_t len, struct mount_request *ret, struct nb_error *err) {
        struct wire_reader r;
        struct wire_field f;
        int n;
        wire_reader_init(&r, payload, len);
        while ((n = wire_next(&r, &f)) > 0) {
                int e = 0;
                if (f.tag == WIRE_T_ID)
                        e = take_str(&f, &ret->id, "share entry", err);
                else if (f.tag == WIRE_T_TARGET)
                        e = take_str(&f, &ret->target, "mount target", err);
                else if (f.tag == WIRE_T_FLAGS)
                        e = wire_field_u32(&f, &ret->flags) < 0 ? bad(err, "mount flags") : 0;
                else
                        e = bad(err, "unexpected field in a mount");
                if (e < 0)
                        return e;
        }
        if (n < 0 || !ret->id || !ret->target)
                return bad(err, "mount");
        if (ret->id[0] == 0 || strchr(ret->id, '/') || strcmp(ret->id, ".") == 0 || strcmp(ret->id, "..") == 0)
                return bad(err, "name of a share entry");
        if (!valid_path(ret->target, false) || strcmp(ret->target, "/") == 0)
                return bad(err, "mount target");
        if (ret->flags & ~(WIRE_MOUNT_FILE | WIRE_MOUNT_WRITE))
                return bad(err, "mount flags");
        return 0;
}

static int add_mount(struct setup *s, const struct wire_field *f, struct nb_error *err) {
        if (s->n_mounts >= MOUNTS_MAX)
                return bad(err, "too many mounts");
        s->mounts = nb_realloc(s->mounts, s->n_mounts + 1, sizeof *s->mounts);
        s->mounts[s->n_mounts] = (struct mount_request){ 0 };
        return mount_request_parse(f->bytes, f->len, &s->mounts[s->n_mounts++], err);
}

/* An address, and a router that is another one of the same link. */
static int take_net(struct setup *s, const struct wire_field *f, struct nb_error *err) {
        struct wire_net *net = &s->net;
        if (s->has_net || wire_field_net(f, net) < 0)
                return bad(err, "network");
        if (net->bits < NET_BITS_MIN || net->bits > NET_BITS_MAX || net->mtu < NET_MTU_MIN || net->mtu > NET_MTU_MAX)
                return bad(err, "network");
        uint32_t mask = UINT32_MAX << (32u - net->bits);
        if (net->address == net->router || (net->address & mask) != (net->router & mask))
                return bad(err, "network");
        s->has_net = true;
        return 0;
}

/* Secrets are copied once, from the frame into memory that never moves. First their size is summed up. */
static int take_secrets(struct secrets *s, const void *payload, size_t len, struct nb_error *err) {
        struct wire_reader r;
        struct wire_field f;
        size_t size = 0, n = 0;
        wire_reader_init(&r, payload, len);
        while (wire_next(&r, &f) > 0)
                if (f.tag == WIRE_T_SECRET) {
                        if (!is_variable(&f))
                                return bad(err, "secret");
                        size += f.len + 1u;
                        n++;
                }
        if (n == 0)
                return 0;
        s->memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (s->memory == MAP_FAILED) {
                s->memory = NULL;
                return nb_fail_errno(err, errno, "memory for secrets");
        }
        s->size = size;
        /* best effort: a box has no swap unless its owner makes one */
        (void)mlock(s->memory, size);
        (void)madvise(s->memory, size, MADV_DONTDUMP);
        s->vars = nb_calloc(n, sizeof *s->vars);
        char *at = s->memory;
        wire_reader_init(&r, payload, len);
        while (wire_next(&r, &f) > 0)
                if (f.tag == WIRE_T_SECRET) {
                        memcpy(at, f.bytes, f.len);
                        s->vars[s->n++] = at;
                        at += f.len + 1u;
                }
        return 0;
}

/* Which fields have been seen, to refuse a repeated number and to know what is missing. */
static int take_number(const struct wire_field *f, uint32_t *seen, uint32_t *slot, struct nb_error *err) {
        if (*seen & 1u << f->tag || wire_field_u32(f, slot) < 0)
                return bad(err, "number");
        *seen |= 1u << f->tag;
        return 0;
}

static int take_setup_field(struct setup *s, const struct wire_field *f, uint32_t *seen, uint32_t *version, uint32_t *disk,
                            struct nb_error *err) {
        switch (f->tag) {
        case WIRE_T_VERSION: return take_number(f, seen, version, err);
        case WIRE_T_UID: return take_number(f, seen, &s->uid, err);
        case WIRE_T_GID: return take_number(f, seen, &s->gid, err);
        case WIRE_T_DISK: return take_number(f, seen, disk, err);
        case WIRE_T_HOSTNAME: return take_str(f, &s->hostname, "host name", err);
        case WIRE_T_USER: return take_str(f, &s->user, "user", err);
        case WIRE_T_HOME: return take_str(f, &s->home, "home", err);
        case WIRE_T_TIMEZONE: return take_str(f, &s->timezone, "time zone", err);
        case WIRE_T_TIME: return wire_field_u64(f, &s->time_ns) < 0 ? bad(err, "time") : 0;
        case WIRE_T_ENV: return is_variable(f) ? take_list(f, &s->env, "environment", err) : bad(err, "environment");
        case WIRE_T_SECRET: return 0; /* take_secrets() */
        case WIRE_T_MOUNT: return add_mount(s, f, err);
        case WIRE_T_NET: return take_net(s, f, err);
        case WIRE_T_SEED:
                if (f->len > sizeof s->seed)
                        return bad(err, "seed");
                memcpy(s->seed, f->bytes, f->len);
                s->seed_len = f->len;
                return 0;
        default: return bad(err, "unexpected field in SETUP");
        }
}

static int check_setup(const struct setup *s, uint32_t seen, uint32_t version, struct nb_error *err) {
        const uint32_t needed = 1u << WIRE_T_VERSION | 1u << WIRE_T_UID | 1u << WIRE_T_GID;
        if (!(seen & 1u << WIRE_T_VERSION) || version != WIRE_VERSION) {
                nb_fail(err, EPROTO, "the host speaks protocol version %u, the guest agent %u", version, WIRE_VERSION);
                return nb_hint(err, "use the agent that was built with this nixbox: rebuild the kernel image");
        }
        if ((seen & needed) != needed || !s->hostname || !s->user || !s->home || s->time_ns == 0)
                return bad(err, "SETUP lacks a field");
        if (!valid_name(s->hostname))
                return bad(err, "host name");
        if (!valid_name(s->user))
                return nb_fail(err, EINVAL, "the user name '%s' cannot be used in the box", s->user);
        if (strcmp(s->user, "root") == 0 && s->uid != 0)
                return nb_fail(err, EINVAL, "the user name root with the number %u cannot be used in the box", s->uid);
        if (!valid_path(s->home, true))
                return nb_fail(err, EINVAL, "the home folder '%s' cannot be used in the box", s->home);
        if (s->timezone && !valid_timezone(s->timezone))
                return bad(err, "time zone");
        return 0;
}

int setup_parse(const void *payload, size_t len, struct setup **ret, struct nb_error *err) {
        __attribute__((cleanup(setup_freep))) struct setup *s = nb_calloc(1, sizeof *s);
        struct wire_reader r;
        struct wire_field f;
        uint32_t seen = 0, version = 0, disk = 0;
        int n;
        wire_reader_init(&r, payload, len);
        while ((n = wire_next(&r, &f)) > 0) {
                int e = take_setup_field(s, &f, &seen, &version, &disk, err);
                if (e < 0)
                        return e;
        }
        if (n < 0)
                return bad(err, "SETUP");
        s->disk = disk != 0;
        s->keep_disk = disk == WIRE_DISK_KEEP;
        int e = check_setup(s, seen, version, err);
        if (e == 0)
                e = take_secrets(&s->secrets, payload, len, err);
        if (e < 0)
                return e;
        *ret = nb_steal(&s);
        return 0;
}

void setup_free(struct setup *s) {
        if (!s)
                return;
        free(s->hostname);
        free(s->user);
        free(s->home);
        free(s->timezone);
        nb_strv_free(s->env);
        for (size_t i = 0; i < s->n_mounts; i++)
                mount_request_clear(&s->mounts[i]);
        free(s->mounts);
        if (s->secrets.memory) {
                explicit_bzero(s->secrets.memory, s->secrets.size);
                munmap(s->secrets.memory, s->secrets.size);
        }
        free(s->secrets.vars);
        explicit_bzero(s->seed, sizeof s->seed);
        free(s);
}

static int take_u16(const struct wire_field *f, uint16_t *slot, struct nb_error *err) {
        uint32_t v;
        if (wire_field_u32(f, &v) < 0 || v > UINT16_MAX)
                return bad(err, "window size");
        *slot = (uint16_t)v;
        return 0;
}

static int take_open_field(struct open_request *o, const struct wire_field *f, uint32_t *flags, struct nb_error *err) {
        switch (f->tag) {
        case WIRE_T_ARG: return take_list(f, &o->argv, "argument", err);
        case WIRE_T_ENV: return is_variable(f) ? take_list(f, &o->env, "environment", err) : bad(err, "environment");
        case WIRE_T_USER: return take_str(f, &o->user, "user", err);
        case WIRE_T_CWD: return take_str(f, &o->cwd, "working folder", err);
        case WIRE_T_TERM: return take_str(f, &o->term, "terminal type", err);
        case WIRE_T_ROWS: return take_u16(f, &o->rows, err);
        case WIRE_T_COLS: return take_u16(f, &o->cols, err);
        case WIRE_T_FLAGS: return wire_field_u32(f, flags) < 0 ? bad(err, "flags") : 0;
        default: return bad(err, "unexpected field in OPEN");
        }
}

int open_request_parse(const void *payload, size_t len, struct open_request *ret, struct nb_error *err) {
        struct wire_reader r;
        struct wire_field f;
        uint32_t flags = 0;
        int n;
        wire_reader_init(&r, payload, len);
        while ((n = wire_next(&r, &f)) > 0) {
                int e = take_open_field(ret, &f, &flags, err);
                if (e < 0)
                        return e;
        }
        if (n < 0 || flags & ~(WIRE_OPEN_PTY | WIRE_OPEN_SHELL))
                return bad(err, "OPEN");
        ret->pty = flags & WIRE_OPEN_PTY;
        ret->shell = flags & WIRE_OPEN_SHELL;
        size_t args = nb_strv_len(ret->argv);
        if (ret->shell ? args > 1 : args == 0 || ret->argv[0][0] == 0)
                return bad(err, "number of arguments");
        return 0;
}

void open_request_clear(struct open_request *r) {
        nb_strv_free(r->argv);
        nb_strv_free(r->env);
        free(r->user);
        free(r->cwd);
        free(r->term);
        *r = (struct open_request){ 0 };
}
