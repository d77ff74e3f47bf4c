/* What the owner's commands may ask the supervisor for: status, sessions, mounts while running, and the end. */
#include "box/supervisor_requests.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "box/supervisor_gateway.h"

#define COMMAND_MAX 4096 /* bytes of a command that the event log keeps */
#define DETACH_TRIES 20  /* the guest's kernel lets go of a mount a moment after it was unmounted */
#define DETACH_RETRY_MS 150

static bool is_open(const struct supervisor *s) {
        return s->phase == SUPER_READY || s->phase == SUPER_UP;
}

static void refuse_closed(struct super_client *c) {
        if (c->super->phase == SUPER_BOOTING)
                client_refuse(c, EAGAIN, "nixbox up waits until it is", "the box '%s' is not up yet", c->super->m.name);
        else
                client_refuse(c, ESHUTDOWN, "nixbox up starts it again", "the box '%s' is ending", c->super->m.name);
}

json_t *super_mounts(const struct supervisor *s) {
        json_t *list = json_array();
        for (size_t i = 0; i < s->m.n_mounts; i++) {
                const struct start_mount *m = &s->m.mounts[i];
                (void)json_array_append_new(list,
                                            json_pack("{s:s, s:s, s:s*, s:b, s:b}", "source", m->source, "target", m->target,
                                                      "volume", m->volume, "write", m->write, "file", m->is_file));
        }
        return list;
}

static json_t *memory_status(const struct supervisor *s) {
        uint64_t guest = 0, own = 0;
        if (s->child[CHILD_QEMU].proc.pid > 0)
                (void)vmm_memory_use(s->child[CHILD_QEMU].proc.pid, &guest, &own);
        uint64_t peak = guest > s->memory_peak ? guest : s->memory_peak;
        return json_pack("{s:I, s:I, s:I, s:I}", "limit", (json_int_t)s->m.memory, "used", (json_int_t)guest, "returned",
                         (json_int_t)(peak - guest), "own", (json_int_t)own);
}

static void on_status(struct super_client *c, const json_t *request) {
        (void)request;
        struct supervisor *s = c->super;
        const struct start_message *m = &s->m;
        enum box_state state = s->phase >= SUPER_ENDING ? BOX_STOPPING : s->phase == SUPER_UP ? BOX_RUNNING : BOX_STARTING;
        json_t *answer = json_pack(
            "{s:s, s:s, s:i, s:f, s:s, s:s*, s:s*, s:s*, s:s*, s:i, s:o, s:s, s:o, s:o, s:i, s:I, s:s*, s:s*}", "box", m->name,
            "state", box_state_name(state), "pid", (int)getpid(), "uptime",
            s->ready_ms ? (double)(nb_now_ms() - s->ready_ms) / 1000.0 : 0.0, "accelerator",
            m->accel.kind == ACCEL_KVM ? "kvm" : "tcg", "accelerator_why", m->accel.why, "config", m->config_file,
            "config_hash", m->config_hash, "image", m->image.digest, "cpus", (int)m->cpus, "memory", memory_status(s),
            "network", policy_mode_name(m->policy->mode), "mounts", super_mounts(s), "protect", guarding_words(s), "sessions",
            (int)s->n_sessions, "sessions_total", (json_int_t)s->sessions_total, "reason", s->reason, "paused", s->paused);
        (void)json_object_update_missing_new(answer, egress_status(s));
        client_answer(c, answer);
}

static void on_down(struct super_client *c, const json_t *request) {
        struct supervisor *s = c->super;
        c->waits_for = WAITS_END;
        s->keep_disk = s->keep_disk || json_is_true(json_object_get(request, "keep_disk"));
        super_end(s, ECANCELED, "down was asked for");
}

static void on_wait(struct super_client *c, const json_t *request) {
        (void)request;
        c->waits_for = WAITS_READY;
        if (c->super->phase == SUPER_UP)
                client_answer(c, NULL);
}

/* ---- sessions */

static void record_session(struct supervisor *s, uint32_t id, const json_t *request) {
        json_t *fields = json_pack("{s:I}", "session", (json_int_t)id);
        const json_t *argv = json_object_get(request, "argv");
        const char *cmd = json_string_value(json_object_get(request, "cmd"));
        char *text = json_is_array(argv) ? json_dumps(argv, JSON_COMPACT) : nb_strdup(cmd);
        if (text && strlen(text) > COMMAND_MAX) {
                size_t at = COMMAND_MAX;
                while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80)
                        at--;
                text[at] = 0;
                (void)json_object_set_new(fields, "truncated", json_true());
                (void)json_object_set_new(fields, "cmd", json_string(text));
        } else if (json_is_array(argv)) {
                (void)json_object_set(fields, "argv", json_object_get(request, "argv"));
        } else if (text) {
                (void)json_object_set_new(fields, "cmd", json_string(text));
        }
        free(text);
        events_add(s->events, "run.start", fields);
}

static void on_session(struct super_client *c, const json_t *request) {
        struct supervisor *s = c->super;
        if (!is_open(s)) {
                refuse_closed(c);
                return;
        }
        if (s->paused) {
                client_refuse(c, EAGAIN, "make room there, and the box goes on by itself", "the box stands still: %s",
                              s->paused);
                return;
        }
        if (s->n_sessions >= WIRE_STREAMS_MAX) {
                client_refuse(c, EBUSY, "wait until some of them have ended", "the box runs %u commands at once already",
                              WIRE_STREAMS_MAX);
                return;
        }
        struct super_session *x = nb_calloc(1, sizeof *x);
        if (++s->next_session == 0)
                s->next_session = 1;
        *x = (struct super_session){ .id = s->next_session, .since_ms = nb_now_ms() };
        TAILQ_INSERT_TAIL(&s->sessions, x, link);
        s->n_sessions++;
        s->sessions_total++;
        record_session(s, x->id, request);
        c->session = x->id;
        client_answer(c, json_pack("{s:I, s:s, s:o, s:s*}", "session", (json_int_t)x->id, "home", s->m.home, "mounts",
                                   super_mounts(s), "workdir", s->m.image.workdir));
}

/* ---- mounts while running */

static struct super_op *op_new(struct super_client *c) {
        struct super_op *op = nb_calloc(1, sizeof *op);
        op->client = c;
        op->super = c->super;
        op->mount.fd = op->mount.lock = -1;
        c->op = op;
        return op;
}

static void op_free(struct super_op *op) {
        if (op->client)
                op->client->op = NULL;
        if (op->retry)
                event_free(op->retry);
        free(op->mount.source);
        free(op->mount.target);
        nb_close(op->mount.fd);
        free(op);
}

static struct start_mount *find_mount(struct supervisor *s, const char *target) {
        for (size_t i = 0; i < s->m.n_mounts; i++)
                if (strcmp(s->m.mounts[i].target, target) == 0)
                        return &s->m.mounts[i];
        return NULL;
}

static void record_mount(struct supervisor *s, const char *action, const struct start_mount *m) {
        events_add(s->events, "mount",
                   json_pack("{s:s, s:s, s:s, s:b, s:s}", "action", action, "source", m->source, "target", m->target, "write",
                             m->write, "decision", "allow"));
}

static void on_mounted(struct supervisor *s, void *user, int code, const char *text) {
        struct super_op *op = user;
        if (code != 0) {
                (void)share_detach(s->share, op->mount.id, NULL);
                if (op->client)
                        client_refuse(op->client, code, NULL, "the guest could not mount %s: %s", op->mount.target,
                                      text ? text : strerror(code));
                op_free(op);
                return;
        }
        record_mount(s, "mount", &op->mount);
        s->m.mounts = nb_realloc(s->m.mounts, s->m.n_mounts + 1, sizeof *s->m.mounts);
        s->m.mounts[s->m.n_mounts++] = op->mount;
        op->mount = (struct start_mount){ .fd = -1, .lock = -1 };
        if (op->client)
                client_answer(op->client, NULL);
        op_free(op);
}

static int send_mount(struct supervisor *s, uint8_t type, struct super_op *op,
                      void (*done)(struct supervisor *, void *, int, const char *)) {
        NB_AUTO_BUF tlv = { 0 };
        if (type == WIRE_MOUNT) {
                guest_mount_tlv(&tlv, &op->mount);
        } else {
                wire_tlv_str(&tlv, WIRE_T_ID, op->mount.id);
                wire_tlv_str(&tlv, WIRE_T_TARGET, op->mount.target);
        }
        return guest_request(s, type, nb_buf_bytes(&tlv), tlv.len, done, op);
}

static void on_mount(struct super_client *c, const json_t *request) {
        struct supervisor *s = c->super;
        const char *source = json_string_value(json_object_get(request, "source"));
        const char *target = json_string_value(json_object_get(request, "target"));
        struct stat st;
        if (!is_open(s)) {
                refuse_closed(c);
        } else if (!source || !target || target[0] != '/' || c->n_fds != 1 || fstat(c->fds[0], &st) < 0) {
                client_refuse(c, EPROTO, NULL, "the request for a mount is not complete");
        } else if (find_mount(s, target)) {
                client_refuse(c, EEXIST, "nixbox unmount removes it first", "something is mounted on %s already", target);
        } else if (s->m.n_mounts >= SUPER_MOUNTS_MAX) {
                client_refuse(c, EBUSY, NULL, "the box has %u mounts already", SUPER_MOUNTS_MAX);
        } else {
                NB_AUTO_ERROR err = { 0 };
                struct super_op *op = op_new(c);
                op->mount.source = nb_strdup(source);
                op->mount.target = nb_strdup(target);
                op->mount.write = json_is_true(json_object_get(request, "write"));
                op->mount.is_file = !S_ISDIR(st.st_mode);
                c->n_fds = 0;
                NB_AUTO_CLOSE int tree = c->fds[0];
                char id[16];
                share_next_id(s->share, id);
                int r = guarding_mount(s, id, &op->mount, &err);
                if (r == 0)
                        r = share_attach(s->share, nb_steal_fd(&tree), op->mount.is_file, op->mount.write, op->mount.id, &err);
                if (r == 0 && (r = room_begin(s, &op->mount, &err)) < 0)
                        (void)share_detach(s->share, op->mount.id, NULL);
                if (r == 0 && send_mount(s, WIRE_MOUNT, op, on_mounted) < 0) {
                        (void)share_detach(s->share, op->mount.id, NULL);
                        r = nb_fail(&err, EBUSY, "too many requests at once");
                }
                if (r < 0) {
                        op_free(op);
                        client_refuse(c, err.code, err.hint, "%s", err.what);
                }
        }
}

static void forget_mount(struct supervisor *s, const char *target) {
        struct start_mount *m = find_mount(s, target);
        if (!m)
                return;
        record_mount(s, "unmount", m);
        free(m->source);
        free(m->target);
        free(m->volume);
        nb_close(m->lock);
        size_t at = (size_t)(m - s->m.mounts);
        memmove(m, m + 1, (s->m.n_mounts - at - 1) * sizeof *m);
        s->m.n_mounts--;
}

/* In use: --force ends the box, because handles that the guest holds would stay valid. */
static void unmount_busy(struct super_op *op, const char *users) {
        struct supervisor *s = op->super;
        struct super_client *c = op->client;
        NB_AUTO_FREE char *target = nb_strdup(op->mount.target);
        bool force = op->force;
        op_free(op);
        if (force) {
                if (c)
                        c->waits_for = WAITS_END;
                super_end(s, ECANCELED, "%s was unmounted by force while in use", target);
                return;
        }
        if (c)
                client_refuse(c, EBUSY, "end what uses it, or nixbox unmount --force, which ends the box", "%s is in use%s%s",
                              target, users && users[0] ? ": " : "", users ? users : "");
}

static void on_remounted(struct supervisor *s, void *user, int code, const char *text) {
        (void)s;
        struct super_op *op = user;
        if (code != 0)
                nb_warn("%s could not be mounted again in the guest: %s", op->mount.target, text ? text : strerror(code));
        unmount_busy(op, "the guest's kernel still holds files of it");
}

static void try_detach(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct super_op *op = user;
        struct supervisor *s = op->super;
        NB_AUTO_ERROR err = { 0 };
        int r = share_detach(s->share, op->mount.id, &err);
        if (r == -EBUSY && op->tries++ < DETACH_TRIES) {
                if (op->tries % 5 == 1)
                        watch_reclaim(s, WIRE_RECLAIM_DENTRIES);
                (void)event_add(op->retry, &(struct timeval){ .tv_usec = DETACH_RETRY_MS * 1000 });
        } else if (r == -EBUSY) {
                if (send_mount(s, WIRE_MOUNT, op, on_remounted) < 0)
                        unmount_busy(op, NULL);
        } else {
                if (r == 0)
                        forget_mount(s, op->mount.target);
                if (op->client && r == 0)
                        client_answer(op->client, NULL);
                else if (op->client)
                        client_refuse(op->client, err.code, err.hint, "%s", err.what);
                op_free(op);
        }
}

static void on_unmounted(struct supervisor *s, void *user, int code, const char *text) {
        struct super_op *op = user;
        if (code == EBUSY) {
                unmount_busy(op, text);
        } else if (code != 0) {
                if (op->client)
                        client_refuse(op->client, code, NULL, "the guest could not unmount %s: %s", op->mount.target,
                                      text ? text : strerror(code));
                op_free(op);
        } else {
                op->retry = evtimer_new(s->base, try_detach, op);
                if (op->retry)
                        try_detach(-1, 0, op);
        }
}

static void on_unmount(struct super_client *c, const json_t *request) {
        struct supervisor *s = c->super;
        const char *target = json_string_value(json_object_get(request, "target"));
        const struct start_mount *m = target ? find_mount(s, target) : NULL;
        if (!is_open(s)) {
                refuse_closed(c);
        } else if (!m) {
                client_refuse(c, ENOENT, "nixbox status lists the mounts", "nothing is mounted on %s", target ? target : "?");
        } else {
                struct super_op *op = op_new(c);
                op->force = json_is_true(json_object_get(request, "force"));
                op->mount = *m;
                op->mount.source = nb_strdup(m->source);
                op->mount.target = nb_strdup(m->target);
                op->mount.volume = NULL;
                op->mount.fd = op->mount.lock = -1;
                if (send_mount(s, WIRE_UNMOUNT, op, on_unmounted) < 0) {
                        op_free(op);
                        client_refuse(c, EBUSY, NULL, "too many requests at once");
                }
        }
}

/* The owner's own probes are about to come, or are over: the log must not leave it open whose they were. */
static void on_attack(struct super_client *c, const json_t *request) {
        json_t *event = json_object();
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)request, key, value) {
                if (json_is_integer(value))
                        (void)json_object_set(event, key, value);
        }
        (void)json_object_set(event, "action", json_object_get(request, "action"));
        events_add(c->super->events, "attack", event);
        client_answer(c, NULL);
}

void request_dispatch(struct super_client *c, const json_t *request) {
        static const struct {
                const char *op;
                void (*run)(struct super_client *c, const json_t *request);
        } table[] = {
                { "status", on_status }, { "down", on_down },       { "wait", on_wait },     { "session", on_session },
                { "mount", on_mount },   { "unmount", on_unmount }, { "policy", on_policy }, { "why", on_why },
                { "port", on_port },     { "saved", on_saved },     { "review", on_review }, { "attack", on_attack },
        };
        const char *op = json_string_value(json_object_get(request, "op"));
        for (size_t i = 0; op && i < NB_ARRAY_LEN(table); i++) {
                if (strcmp(op, table[i].op) == 0) {
                        table[i].run(c, request);
                        return;
                }
        }
        client_refuse(c, ENOSYS, "the box was started by another version of nixbox; nixbox up --recreate starts it anew",
                      "the box does not know the request '%s'", op ? op : "");
}
