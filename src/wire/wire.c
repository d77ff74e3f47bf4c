/* The codec of the protocol (see wire.h and docs/protocol.md). Pure: bytes in, values out. What a frame means, and when it
 * may be sent, is decided by the two ends and not here. */
#include "wire.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"

#define FIELD_HEADER 6u /* u16 tag, u32 length */

static uint32_t get_u16(const uint8_t *p) {
        return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t get_u32(const uint8_t *p) {
        return get_u16(p) | get_u16(p + 2) << 16;
}

static uint64_t get_u64(const uint8_t *p) {
        return (uint64_t)get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

static void set_u16(uint8_t *p, uint16_t v) {
        p[0] = (uint8_t)v;
        p[1] = (uint8_t)(v >> 8);
}

static void set_u32(uint8_t *p, uint32_t v) {
        set_u16(p, (uint16_t)v);
        set_u16(p + 2, (uint16_t)(v >> 16));
}

static void set_u64(uint8_t *p, uint64_t v) {
        set_u32(p, (uint32_t)v);
        set_u32(p + 4, (uint32_t)(v >> 32));
}

static bool known_type(uint8_t type) {
        return (type >= WIRE_SETUP && type <= WIRE_CLOSE) || (type >= WIRE_DATA && type <= WIRE_CREDIT) ||
               (type >= WIRE_READY && type <= WIRE_BYE);
}

/* Only the frames of a byte stream name a channel. */
static bool valid_channel(uint8_t type, uint8_t channel) {
        return type >= WIRE_DATA && type <= WIRE_CREDIT ? channel <= WIRE_STDERR : channel == 0;
}

int wire_parse(const struct nb_buf *in, uint32_t max_payload, struct wire_frame *ret) {
        if (in->len < WIRE_HEADER)
                return 0;
        const uint8_t *p = nb_buf_bytes(in);
        struct wire_frame f = { .len = get_u32(p), .type = p[4], .channel = p[5], .stream = get_u32(p + 8) };
        if (f.len > max_payload || get_u16(p + 6) != 0 || !known_type(f.type) || !valid_channel(f.type, f.channel))
                return -EPROTO;
        if (f.type == WIRE_DATA && f.len > WIRE_DATA_MAX)
                return -EPROTO;
        if (in->len - WIRE_HEADER < f.len)
                return 0;
        f.payload = p + WIRE_HEADER;
        *ret = f;
        return (int)(WIRE_HEADER + f.len);
}

void wire_put(struct nb_buf *out, uint8_t type, uint8_t channel, uint32_t stream, const void *payload, size_t len) {
        uint8_t header[WIRE_HEADER] = { 0 };
        set_u32(header, (uint32_t)len);
        header[4] = type;
        header[5] = channel;
        set_u32(header + 8, stream);
        uint8_t *p = nb_buf_reserve(out, WIRE_HEADER + len);
        memcpy(p, header, WIRE_HEADER);
        if (len > 0)
                memcpy(p + WIRE_HEADER, payload, len);
        nb_buf_commit(out, WIRE_HEADER + len);
}

void wire_put_u32(struct nb_buf *out, uint8_t type, uint8_t channel, uint32_t stream, uint32_t value) {
        uint8_t bytes[4];
        set_u32(bytes, value);
        wire_put(out, type, channel, stream, bytes, sizeof bytes);
}

void wire_put_u64(struct nb_buf *out, uint8_t type, uint32_t stream, uint64_t value) {
        uint8_t bytes[8];
        set_u64(bytes, value);
        wire_put(out, type, 0, stream, bytes, sizeof bytes);
}

void wire_put_resize(struct nb_buf *out, uint32_t stream, uint16_t rows, uint16_t cols) {
        uint8_t bytes[4];
        set_u16(bytes, rows);
        set_u16(bytes + 2, cols);
        wire_put(out, WIRE_RESIZE, 0, stream, bytes, sizeof bytes);
}

void wire_put_exit(struct nb_buf *out, uint32_t stream, uint32_t status, uint32_t signal) {
        uint8_t bytes[8];
        set_u32(bytes, status);
        set_u32(bytes + 4, signal);
        wire_put(out, WIRE_EXIT, 0, stream, bytes, sizeof bytes);
}

int wire_get_u32(const struct wire_frame *f, uint32_t *ret) {
        if (f->len != 4)
                return -EPROTO;
        *ret = get_u32(f->payload);
        return 0;
}

int wire_get_u64(const struct wire_frame *f, uint64_t *ret) {
        if (f->len != 8)
                return -EPROTO;
        *ret = get_u64(f->payload);
        return 0;
}

int wire_get_resize(const struct wire_frame *f, uint16_t *ret_rows, uint16_t *ret_cols) {
        if (f->len != 4)
                return -EPROTO;
        *ret_rows = (uint16_t)get_u16(f->payload);
        *ret_cols = (uint16_t)get_u16(f->payload + 2);
        return 0;
}

int wire_get_exit(const struct wire_frame *f, uint32_t *ret_status, uint32_t *ret_signal) {
        if (f->len != 8)
                return -EPROTO;
        uint32_t status = get_u32(f->payload), signal = get_u32(f->payload + 4);
        if (status > WIRE_STATUS_MAX || signal > WIRE_SIGNAL_MAX)
                return -EPROTO;
        *ret_status = status;
        *ret_signal = signal;
        return 0;
}

void wire_tlv_bytes(struct nb_buf *payload, uint16_t tag, const void *bytes, size_t len) {
        uint8_t *p = nb_buf_reserve(payload, FIELD_HEADER + len);
        set_u16(p, tag);
        set_u32(p + 2, (uint32_t)len);
        if (len > 0)
                memcpy(p + FIELD_HEADER, bytes, len);
        nb_buf_commit(payload, FIELD_HEADER + len);
}

void wire_tlv_str(struct nb_buf *payload, uint16_t tag, const char *text) {
        wire_tlv_bytes(payload, tag, text, strlen(text));
}

void wire_tlv_u32(struct nb_buf *payload, uint16_t tag, uint32_t value) {
        uint8_t bytes[4];
        set_u32(bytes, value);
        wire_tlv_bytes(payload, tag, bytes, sizeof bytes);
}

void wire_tlv_u64(struct nb_buf *payload, uint16_t tag, uint64_t value) {
        uint8_t bytes[8];
        set_u64(bytes, value);
        wire_tlv_bytes(payload, tag, bytes, sizeof bytes);
}

void wire_reader_init(struct wire_reader *r, const void *payload, size_t len) {
        *r = (struct wire_reader){ .at = payload, .left = len };
}

int wire_next(struct wire_reader *r, struct wire_field *ret) {
        if (r->left == 0)
                return 0;
        if (r->left < FIELD_HEADER)
                return -EPROTO;
        struct wire_field f = { .tag = (uint16_t)get_u16(r->at), .len = get_u32(r->at + 2), .bytes = r->at + FIELD_HEADER };
        if (f.tag < WIRE_T_VERSION || f.tag > WIRE_T_LAST || f.len > r->left - FIELD_HEADER)
                return -EPROTO;
        r->at += FIELD_HEADER + f.len;
        r->left -= FIELD_HEADER + f.len;
        *ret = f;
        return 1;
}

int wire_field_u32(const struct wire_field *f, uint32_t *ret) {
        if (f->len != 4)
                return -EPROTO;
        *ret = get_u32(f->bytes);
        return 0;
}

int wire_field_u64(const struct wire_field *f, uint64_t *ret) {
        if (f->len != 8)
                return -EPROTO;
        *ret = get_u64(f->bytes);
        return 0;
}

int wire_field_str(const struct wire_field *f, char **ret) {
        if (f->len > 0 && memchr(f->bytes, 0, f->len))
                return -EPROTO;
        *ret = nb_calloc(f->len + 1u, 1);
        if (f->len > 0)
                memcpy(*ret, f->bytes, f->len);
        return 0;
}

void wire_tlv_net(struct nb_buf *payload, const struct wire_net *net) {
        NB_AUTO_BUF fields = { 0 };
        wire_tlv_u32(&fields, WIRE_T_NET_ADDRESS, net->address);
        wire_tlv_u32(&fields, WIRE_T_NET_BITS, net->bits);
        wire_tlv_u32(&fields, WIRE_T_NET_ROUTER, net->router);
        wire_tlv_u32(&fields, WIRE_T_NET_MTU, net->mtu);
        wire_tlv_bytes(payload, WIRE_T_NET, nb_buf_bytes(&fields), fields.len);
}

int wire_field_net(const struct wire_field *f, struct wire_net *ret) {
        struct wire_net net = { 0 };
        struct {
                uint16_t tag;
                uint32_t *slot;
                bool seen;
        } wanted[] = {
                { WIRE_T_NET_ADDRESS, &net.address, false },
                { WIRE_T_NET_BITS, &net.bits, false },
                { WIRE_T_NET_ROUTER, &net.router, false },
                { WIRE_T_NET_MTU, &net.mtu, false },
        };
        size_t n_seen = 0, i;
        struct wire_reader r;
        struct wire_field one;
        int n;
        wire_reader_init(&r, f->bytes, f->len);
        while ((n = wire_next(&r, &one)) > 0) {
                for (i = 0; i < NB_ARRAY_LEN(wanted) && wanted[i].tag != one.tag; i++)
                        ;
                if (i == NB_ARRAY_LEN(wanted) || wanted[i].seen || wire_field_u32(&one, wanted[i].slot) < 0)
                        return -EPROTO;
                wanted[i].seen = true;
                n_seen++;
        }
        if (n < 0 || n_seen != NB_ARRAY_LEN(wanted))
                return -EPROTO;
        *ret = net;
        return 0;
}
