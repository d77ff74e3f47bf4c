/* The SETUP frame: everything the guest needs to become this box, secrets included. The supervisor writes it to the guest's
 * channel before the conduit exists, so no other process of the box ever holds it. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/mem.h"
#include "box/supervisor_impl.h"
#include "gateway/gateway.h"

#define SEED_BYTES 64

static const struct wire_net net = { .address = NET_GUEST, .bits = NET_LINK_BITS, .router = NET_GATEWAY, .mtu = NET_MTU };

void guest_mount_tlv(struct nb_buf *out, const struct start_mount *m) {
        wire_tlv_str(out, WIRE_T_ID, m->id);
        wire_tlv_str(out, WIRE_T_TARGET, m->target);
        wire_tlv_u32(out, WIRE_T_FLAGS, (m->is_file ? WIRE_MOUNT_FILE : 0) | (m->write ? WIRE_MOUNT_WRITE : 0));
}

static void put_seed(struct nb_buf *out) {
        uint8_t seed[SEED_BYTES];
        for (size_t have = 0; have < sizeof seed;) {
                ssize_t n = getrandom(seed + have, sizeof seed - have, 0);
                if (n > 0)
                        have += (size_t)n;
        }
        wire_tlv_bytes(out, WIRE_T_SEED, seed, sizeof seed);
        explicit_bzero(seed, sizeof seed);
}

static void put_strings(struct nb_buf *out, uint16_t tag, char *const *list) {
        for (size_t i = 0; list && list[i]; i++)
                wire_tlv_str(out, tag, list[i]);
}

int setup_build(struct supervisor *s, struct nb_buf *out, struct nb_error *err) {
        struct start_message *m = &s->m;
        struct nb_buf tlv = { 0 };
        /* room at once: a buffer that grows leaves copies of the secrets behind in freed memory */
        (void)nb_buf_reserve(&tlv, WIRE_HOST_MAX);
        (void)nb_buf_reserve(out, WIRE_HOST_MAX + WIRE_HEADER);
        struct timespec now;
        wire_tlv_u32(&tlv, WIRE_T_VERSION, WIRE_VERSION);
        wire_tlv_str(&tlv, WIRE_T_HOSTNAME, m->name);
        wire_tlv_str(&tlv, WIRE_T_USER, m->user);
        wire_tlv_u32(&tlv, WIRE_T_UID, m->uid);
        wire_tlv_u32(&tlv, WIRE_T_GID, m->gid);
        wire_tlv_str(&tlv, WIRE_T_HOME, m->home);
        if (m->timezone)
                wire_tlv_str(&tlv, WIRE_T_TIMEZONE, m->timezone);
        put_seed(&tlv);
        put_strings(&tlv, WIRE_T_ENV, m->image.env);
        put_strings(&tlv, WIRE_T_ENV, m->env);
        put_strings(&tlv, WIRE_T_SECRET, m->secrets);
        for (size_t i = 0; i < m->n_mounts; i++) {
                NB_AUTO_BUF one = { 0 };
                guest_mount_tlv(&one, &m->mounts[i]);
                wire_tlv_bytes(&tlv, WIRE_T_MOUNT, nb_buf_bytes(&one), one.len);
        }
        if (m->disk_file)
                wire_tlv_u32(&tlv, WIRE_T_DISK, m->disk_persistent ? WIRE_DISK_KEEP : WIRE_DISK_SCRATCH);
        if (s->egress)
                wire_tlv_net(&tlv, &net);
        (void)clock_gettime(CLOCK_REALTIME, &now);
        wire_tlv_u64(&tlv, WIRE_T_TIME, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
        size_t len = tlv.len;
        if (len <= WIRE_HOST_MAX)
                wire_put(out, WIRE_SETUP, 0, 0, nb_buf_bytes(&tlv), len);
        nb_buf_wipe(&tlv);
        if (len > WIRE_HOST_MAX) {
                nb_fail(err, E2BIG, "env, secrets and mounts together take %zu bytes, more than the %u that fit", len,
                        WIRE_HOST_MAX);
                return nb_hint(err, "give large values to the box as files in a mount");
        }
        return 0;
}
