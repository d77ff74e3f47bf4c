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
                free(text);
                if (f.tag == WIRE_T_MOUNT && depth < 4)
                        read_fields(f.bytes, f.len, depth + 1);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        NB_AUTO_BUF in = { 0 };
        nb_buf_add(&in, data, size);
        struct wire_frame f;
        for (int n; (n = wire_parse(&in, WIRE_GUEST_MAX, &f)) > 0; nb_buf_consume(&in, (size_t)n)) {
                uint32_t a, b;
                uint64_t c;
                uint16_t rows, cols;
                (void)wire_get_u32(&f, &a);
                (void)wire_get_u64(&f, &c);
                (void)wire_get_exit(&f, &a, &b);
                (void)wire_get_resize(&f, &rows, &cols);
                read_fields(f.payload, f.len, 0);
                NB_AUTO_BUF again = { 0 };
                wire_put(&again, f.type, f.channel, f.stream, f.payload, f.len);
                if (again.len != (size_t)n || memcmp(nb_buf_bytes(&again), nb_buf_bytes(&in), again.len) != 0)
                        abort();
        }
        return 0;
}
