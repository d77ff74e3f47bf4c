/* Fuzz target: frames and, in each frame, fields, as an end of the connection reads them. What was parsed must, written
 * again, give the same bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_fields(const void *payload, size_t len, unsigned depth) {
        struct wire_reader r;
        struct wire_field f;
        wire_reader_init(&r, payload, len);
        while (wire_next(&r, &f) == 1) {
                uint32_t v32;
                uint64_t v64;
                char *text = NULL;
                (void)wire_field_u32(&f, &v32);
                (void)wire_field_u64(&f, &v64);
                if (wire_field_str(&f, &text) == 0 && strlen(text) != f.len)
                        abort();
                NB_AUTO_BUF written = { 0 };
                wire_tlv_u64(&written, f.tag, f.len);
                if (text)
                        wire_tlv_str(&written, f.tag, text);
                free(text);
                struct wire_net net;
                if (f.tag == WIRE_T_NET && wire_field_net(&f, &net) == 0) {
                        NB_AUTO_BUF again = { 0 };
                        wire_tlv_net(&again, &net);
                        struct wire_reader one;
                        struct wire_net same;
                        wire_reader_init(&one, nb_buf_bytes(&again), again.len);
                        if (wire_next(&one, &f) != 1 || wire_field_net(&f, &same) < 0 || memcmp(&net, &same, sizeof net) != 0)
                                abort();
                }
                if (f.tag == WIRE_T_MOUNT && depth < 4)
                        read_fields(f.bytes, f.len, depth + 1);
        }
}

static void must_equal(const struct nb_buf *again, const struct wire_frame *f) {
        NB_AUTO_BUF plain = { 0 };
        wire_put(&plain, f->type, f->channel, f->stream, f->payload, f->len);
        if (again->len != plain.len || memcmp(nb_buf_bytes(again), nb_buf_bytes(&plain), plain.len) != 0)
                abort();
}

/* Small payloads are read as what they may be, and written again by the function for it. */
static void read_payload(const struct wire_frame *f) {
        uint32_t a, b;
        uint64_t c;
        uint16_t rows, cols;
        NB_AUTO_BUF u32 = { 0 };
        NB_AUTO_BUF u64 = { 0 };
        NB_AUTO_BUF exit = { 0 };
        NB_AUTO_BUF size = { 0 };
        if (wire_get_u32(f, &a) == 0) {
                wire_put_u32(&u32, f->type, f->channel, f->stream, a);
                must_equal(&u32, f);
        }
        if (wire_get_u64(f, &c) == 0 && f->channel == 0) {
                wire_put_u64(&u64, f->type, f->stream, c);
                must_equal(&u64, f);
        }
        if (wire_get_exit(f, &a, &b) == 0 && f->type == WIRE_EXIT && f->channel == 0) {
                wire_put_exit(&exit, f->stream, a, b);
                must_equal(&exit, f);
        }
        if (wire_get_resize(f, &rows, &cols) == 0 && f->type == WIRE_RESIZE && f->channel == 0) {
                wire_put_resize(&size, f->stream, rows, cols);
                must_equal(&size, f);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        NB_AUTO_BUF in = { 0 };
        nb_buf_add(&in, data, size);
        struct wire_frame f;
        for (int n; (n = wire_parse(&in, WIRE_GUEST_MAX, &f)) > 0; nb_buf_consume(&in, (size_t)n)) {
                read_payload(&f);
                read_fields(f.payload, f.len, 0);
                NB_AUTO_BUF again = { 0 };
                wire_put(&again, f.type, f.channel, f.stream, f.payload, f.len);
                if (again.len != (size_t)n || memcmp(nb_buf_bytes(&again), nb_buf_bytes(&in), again.len) != 0)
                        abort();
        }
        return 0;
}
