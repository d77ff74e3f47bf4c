/* The message from the starting command to the supervisor: descriptors first (one a message, the mounts' and then the published
 * ports'), then one JSON document, then
 * the secrets as plain bytes that never pass through the JSON library, so that they can be wiped. Both sides are this
 * program, one started by the other over a socketpair; still every length is checked. */
#include <errno.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/supervisor_impl.h"

static json_t *strv_json(char *const *list) {
        json_t *a = json_array();
        for (size_t i = 0; list && list[i]; i++)
                (void)json_array_append_new(a, json_string(list[i]));
        return a;
}

static char **json_strv(const json_t *a) {
        char **list = NULL;
        size_t i;
        json_t *v;
        json_array_foreach(a, i, v) {
                nb_strv_add(&list, json_string_value(v));
        }
        return list;
}

static json_t *mounts_json(const struct start_message *m) {
        json_t *a = json_array();
        for (size_t i = 0; i < m->n_mounts; i++) {
                const struct start_mount *x = &m->mounts[i];
                (void)json_array_append_new(a, json_pack("{s:s, s:s, s:s*, s:b, s:b}", "source", x->source, "target", x->target,
                                                         "volume", x->volume, "write", x->write, "file", x->is_file));
        }
        return a;
}

static json_t *ports_json(const struct start_message *m) {
        json_t *a = json_array();
        for (size_t i = 0; i < m->n_ports; i++) {
                const struct start_port *x = &m->ports[i];
                (void)json_array_append_new(a, json_pack("{s:s, s:i, s:i}", "address", x->address, "host_port",
                                                         (int)x->host_port, "guest_port", (int)x->guest_port));
        }
        return a;
}

static json_t *message_json(const struct start_message *m) {
        const struct image *i = &m->image;
        json_t *image =
            json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s*, s:s*, s:s*, s:s*, s:o, s:s*}", "runtime", i->runtime,
                      "vmlinux", i->vmlinux, "modules", i->modules, "initrd", i->initrd, "rootfs", i->rootfs, "digest",
                      i->digest, "runtime_digest", i->runtime_digest, "kernel_digest", i->kernel_digest, "rootfs_seal",
                      i->rootfs_seal, "vmlinux_seal", i->vmlinux_seal, "modules_seal", i->modules_seal, "initrd_seal",
                      i->initrd_seal, "env", strv_json(i->env), "workdir", i->workdir);
        json_t *accel = json_pack("{s:i, s:s*, s:I}", "kind", (int)m->accel.kind, "why", m->accel.why, "tsc_khz",
                                  (json_int_t)m->accel.tsc_khz);
        return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:i, s:I, s:I, s:I, s:b, s:b, s:b, s:I, s:I, s:I, s:s, s:s, s:s*, "
                         "s:s, s:s, s:o, s:O*, "
                         "s:o, s:o, s:o, s:o, s:o}",
                         "name", m->name, "runtime", m->runtime, "state", m->state, "control", m->control, "image", image,
                         "accel", accel, "cpus", (int)m->cpus, "memory", (json_int_t)m->memory, "disk", (json_int_t)m->disk,
                         "disk_floor", (json_int_t)m->disk_floor, "disk_file", m->disk_file, "disk_kept", m->disk_kept,
                         "disk_persistent", m->disk_persistent, "boot_seconds", (json_int_t)m->boot_seconds, "uid",
                         (json_int_t)m->uid, "gid", (json_int_t)m->gid, "user", m->user, "home", m->home, "timezone",
                         m->timezone, "config_file", m->config_file, "config_hash", m->config_hash, "policy",
                         policy_json(m->policy), "proxy", m->proxy, "ports", ports_json(m), "env", strv_json(m->env),
                         "secret_names", strv_json(m->secret_names), "protect", strv_json(m->protect), "mounts",
                         mounts_json(m));
}

static int put_block(int sock, const void *bytes, size_t len) {
        uint32_t n = (uint32_t)len;
        int r = nb_write_all(sock, &n, sizeof n);
        return r < 0 ? r : nb_write_all(sock, bytes, len);
}

int start_message_send(int sock, const struct start_message *m, struct nb_error *err) {
        int r = 0;
        for (size_t i = 0; r >= 0 && i < m->n_mounts; i++) {
                const int fds[] = { m->mounts[i].fd, m->mounts[i].lock };
                r = (int)nb_send_fds(sock, "F", 1, fds, m->mounts[i].lock < 0 ? 1 : 2);
        }
        for (size_t i = 0; r >= 0 && i < m->n_ports; i++)
                r = (int)nb_send_fds(sock, "P", 1, &m->ports[i].fd, 1);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot hand mounts and ports to the supervisor");
        json_t *doc = message_json(m);
        char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
        json_decref(doc);
        if (!text)
                return nb_fail(err, EINVAL, "cannot describe the box to its supervisor: a value is not valid UTF-8");
        size_t len = strlen(text);
        if (len > SUPER_MESSAGE_MAX)
                r = -E2BIG;
        if (r >= 0)
                r = (int)nb_send_fds(sock, "J", 1, NULL, 0);
        if (r >= 0)
                r = put_block(sock, text, len);
        free(text);
        for (size_t i = 0; r >= 0 && m->secrets && m->secrets[i]; i++)
                r = put_block(sock, m->secrets[i], strlen(m->secrets[i]));
        if (r >= 0)
                r = put_block(sock, NULL, 0);
        return r < 0 ? nb_fail_errno(err, -r, "cannot talk to the supervisor") : 0;
}

static int get_block(int sock, char **ret, size_t *ret_len) {
        uint32_t n;
        ssize_t got = nb_read_full(sock, &n, sizeof n);
        if (got != sizeof n)
                return got < 0 ? (int)got : -EPIPE;
        if (n > SUPER_MESSAGE_MAX)
                return -EFBIG;
        char *bytes = nb_calloc((size_t)n + 1, 1);
        got = nb_read_full(sock, bytes, n);
        if (got != (ssize_t)n) {
                explicit_bzero(bytes, n);
                free(bytes);
                return got < 0 ? (int)got : -EPIPE;
        }
        *ret = bytes;
        *ret_len = n;
        return 0;
}

static void take_strings(struct start_message *m, const json_t *doc) {
        const struct {
                char **to;
                const char *key;
        } strings[] = {
                { &m->name, "name" },
                { &m->runtime, "runtime" },
                { &m->state, "state" },
                { &m->control, "control" },
                { &m->user, "user" },
                { &m->home, "home" },
                { &m->timezone, "timezone" },
                { &m->config_file, "config_file" },
                { &m->config_hash, "config_hash" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(strings); i++)
                *strings[i].to = nb_strdup(json_string_value(json_object_get(doc, strings[i].key)));
        const json_t *image = json_object_get(doc, "image");
        const struct {
                char **to;
                const char *key;
        } images[] = {
                { &m->image.runtime, "runtime" },
                { &m->image.vmlinux, "vmlinux" },
                { &m->image.modules, "modules" },
                { &m->image.initrd, "initrd" },
                { &m->image.rootfs, "rootfs" },
                { &m->image.digest, "digest" },
                { &m->image.runtime_digest, "runtime_digest" },
                { &m->image.kernel_digest, "kernel_digest" },
                { &m->image.rootfs_seal, "rootfs_seal" },
                { &m->image.vmlinux_seal, "vmlinux_seal" },
                { &m->image.modules_seal, "modules_seal" },
                { &m->image.initrd_seal, "initrd_seal" },
                { &m->image.workdir, "workdir" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(images); i++)
                *images[i].to = nb_strdup(json_string_value(json_object_get(image, images[i].key)));
        m->image.env = json_strv(json_object_get(image, "env"));
        m->env = json_strv(json_object_get(doc, "env"));
        m->secret_names = json_strv(json_object_get(doc, "secret_names"));
        m->protect = json_strv(json_object_get(doc, "protect"));
}

static uint64_t number(const json_t *doc, const char *key) {
        return (uint64_t)json_integer_value(json_object_get(doc, key));
}

static int take_mounts(struct start_message *m, const json_t *list) {
        if (json_array_size(list) != m->n_mounts)
                return -EPROTO;
        size_t i;
        json_t *v;
        json_array_foreach(list, i, v) {
                struct start_mount *x = &m->mounts[i];
                x->source = nb_strdup(json_string_value(json_object_get(v, "source")));
                x->target = nb_strdup(json_string_value(json_object_get(v, "target")));
                x->volume = nb_strdup(json_string_value(json_object_get(v, "volume")));
                x->write = json_is_true(json_object_get(v, "write"));
                x->is_file = json_is_true(json_object_get(v, "file"));
                if (!x->source || !x->target)
                        return -EPROTO;
        }
        return 0;
}

static int take_ports(struct start_message *m, const json_t *list) {
        if (json_array_size(list) != m->n_ports)
                return -EPROTO;
        size_t i;
        json_t *v;
        json_array_foreach(list, i, v) {
                struct start_port *x = &m->ports[i];
                x->address = nb_strdup(json_string_value(json_object_get(v, "address")));
                x->host_port = (uint16_t)number(v, "host_port");
                x->guest_port = (uint16_t)number(v, "guest_port");
                if (!x->address || x->guest_port == 0)
                        return -EPROTO;
        }
        return 0;
}

static int take_document(struct start_message *m, const char *text) {
        json_t *doc = json_loads(text, 0, NULL);
        if (!doc)
                return -EPROTO;
        take_strings(m, doc);
        const json_t *accel = json_object_get(doc, "accel");
        m->accel.kind = number(accel, "kind") == ACCEL_KVM ? ACCEL_KVM : ACCEL_TCG;
        m->accel.why = nb_strdup(json_string_value(json_object_get(accel, "why")));
        m->accel.tsc_khz = number(accel, "tsc_khz");
        m->cpus = (unsigned)number(doc, "cpus");
        m->memory = number(doc, "memory");
        m->disk = number(doc, "disk");
        m->disk_floor = number(doc, "disk_floor");
        m->disk_file = json_is_true(json_object_get(doc, "disk_file"));
        m->disk_kept = json_is_true(json_object_get(doc, "disk_kept"));
        m->disk_persistent = json_is_true(json_object_get(doc, "disk_persistent"));
        m->boot_seconds = (unsigned)number(doc, "boot_seconds");
        m->uid = (unsigned)number(doc, "uid");
        m->gid = (unsigned)number(doc, "gid");
        m->proxy = json_incref(json_object_get(doc, "proxy"));
        int r = policy_from_json(json_object_get(doc, "policy"), &m->policy, NULL);
        if (r == 0)
                r = take_mounts(m, json_object_get(doc, "mounts"));
        if (r == 0)
                r = take_ports(m, json_object_get(doc, "ports"));
        json_decref(doc);
        return m->name && m->runtime && m->state && m->control && m->user && m->home ? r : -EPROTO;
}

static int receive_fds(int sock, struct start_message *m) {
        for (;;) {
                char kind = 0;
                int fds[2] = { -1, -1 };
                size_t n = NB_ARRAY_LEN(fds);
                ssize_t got = nb_recv_fds(sock, &kind, 1, fds, &n);
                if (got <= 0)
                        return got < 0 ? (int)got : -EPIPE;
                if (kind == 'J')
                        return 0;
                if (n >= 1 && kind == 'F' && m->n_mounts < SUPER_MOUNTS_MAX) {
                        m->mounts = nb_realloc(m->mounts, m->n_mounts + 1, sizeof *m->mounts);
                        m->mounts[m->n_mounts++] = (struct start_mount){ .fd = fds[0], .lock = fds[1] };
                } else if (n == 1 && kind == 'P' && m->n_ports < SUPER_PORTS_MAX) {
                        m->ports = nb_realloc(m->ports, m->n_ports + 1, sizeof *m->ports);
                        m->ports[m->n_ports++] = (struct start_port){ .fd = fds[0] };
                } else {
                        for (size_t i = 0; i < n; i++)
                                nb_close(fds[i]);
                        return -EPROTO;
                }
        }
}

int start_message_receive(int sock, struct start_message *ret, struct nb_error *err) {
        *ret = (struct start_message){ 0 };
        char *text = NULL;
        size_t len = 0;
        int r = receive_fds(sock, ret);
        if (r == 0)
                r = get_block(sock, &text, &len);
        if (r == 0)
                r = take_document(ret, text);
        free(text);
        size_t n = 0;
        while (r == 0) {
                char *secret = NULL;
                r = get_block(sock, &secret, &len);
                if (r < 0 || len == 0) {
                        free(secret);
                        break;
                }
                ret->secrets = nb_realloc(ret->secrets, n + 2, sizeof *ret->secrets);
                ret->secrets[n++] = secret;
                ret->secrets[n] = NULL;
        }
        return r < 0 ? nb_fail_errno(err, -r, "cannot read the start message") : 0;
}

void start_message_wipe_secrets(struct start_message *m) {
        for (size_t i = 0; m->secrets && m->secrets[i]; i++)
                explicit_bzero(m->secrets[i], strlen(m->secrets[i]));
        nb_strv_free(m->secrets);
        m->secrets = NULL;
}

void start_message_clear(struct start_message *m) {
        start_message_wipe_secrets(m);
        for (size_t i = 0; i < m->n_mounts; i++) {
                free(m->mounts[i].source);
                free(m->mounts[i].target);
                free(m->mounts[i].volume);
                nb_close(m->mounts[i].fd);
                nb_close(m->mounts[i].lock);
        }
        free(m->mounts);
        for (size_t i = 0; i < m->n_ports; i++) {
                free(m->ports[i].address);
                nb_close(m->ports[i].fd);
        }
        free(m->ports);
        policy_free(m->policy);
        json_decref(m->proxy);
        char *strings[] = { m->name,
                            m->runtime,
                            m->state,
                            m->control,
                            m->user,
                            m->home,
                            m->timezone,
                            m->config_file,
                            m->config_hash,
                            m->image.runtime,
                            m->image.vmlinux,
                            m->image.modules,
                            m->image.initrd,
                            m->image.rootfs,
                            m->image.digest,
                            m->image.runtime_digest,
                            m->image.kernel_digest,
                            m->image.rootfs_seal,
                            m->image.vmlinux_seal,
                            m->image.modules_seal,
                            m->image.initrd_seal,
                            m->image.workdir,
                            m->accel.why };
        for (size_t i = 0; i < NB_ARRAY_LEN(strings); i++)
                free(strings[i]);
        nb_strv_free(m->image.env);
        nb_strv_free(m->env);
        nb_strv_free(m->secret_names);
        nb_strv_free(m->protect);
        *m = (struct start_message){ 0 };
}
