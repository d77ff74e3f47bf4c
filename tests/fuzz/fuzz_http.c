/* Fuzz target: HTTP request heads. However the bytes are cut, the verdict and what passes are the same; each head that passes
 * names the host, in the eyes of a reader that is as lenient as can be. The first byte says where to cut. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "gateway/http.h"

#define HOST "h.example"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
        int code;
        size_t passed;
        unsigned requests;
};

/* A head that passed must hold the host's name after "host:" and nothing else anywhere after that word. */
static void check_head(const uint8_t *bytes, size_t len) {
        NB_AUTO_FREE char *head = nb_strndup((const char *)bytes, len);
        unsigned hosts = 0;
        for (char *line = head; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
                line += strspn(line, " \t\r\v\f");
                if (strncasecmp(line, "host", 4) != 0 || line[4 + strspn(line + 4, " \t")] != ':')
                        continue;
                const char *value = strchr(line, ':') + 1;
                value += strspn(value, " \t");
                hosts++;
                if (strncasecmp(value, HOST, strlen(HOST)) != 0 || !strchr(".: \t\r", value[strlen(HOST)]))
                        abort();
        }
        if (hosts != 1)
                abort();
}

static struct outcome feed(const uint8_t *data, size_t size, size_t step, bool answer) {
        struct http h;
        struct outcome o = { 0 };
        http_begin(&h, HOST, 80);
        for (size_t given = 0; given < size && o.code == 0;) {
                given = size - given < step ? size : given + step;
                for (ssize_t n = 1; n > 0 && o.passed < given;) {
                        NB_AUTO_FREE uint8_t *copy = nb_calloc(1, given - o.passed);
                        memcpy(copy, data + o.passed, given - o.passed);
                        bool head = h.requests == 0;
                        n = http_up(&h, copy, given - o.passed);
                        if (n < 0)
                                o.code = (int)n;
                        if (n > (ssize_t)(given - o.passed))
                                abort();
                        const uint8_t *end = n > 0 && head ? memmem(copy, (size_t)n, "\r\n\r\n", 4) : NULL;
                        if (n > 0 && head && !end)
                                abort();
                        if (end)
                                check_head(copy, (size_t)(end - copy));
                        o.passed += n > 0 ? (size_t)n : 0;
                        if (h.upgrade && answer && http_switched(&h, (const uint8_t *)"HTTP/1.1 200 OK", 15) != 1)
                                abort();
                }
        }
        o.requests = h.requests;
        if ((o.code != 0) != (h.problem != NULL && o.code != 0) || h.raw)
                abort();
        return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size == 0)
                return 0;
        const size_t steps[] = { 1, 2, 3, 1u + data[0] };
        bool answer = data[0] & 1;
        struct outcome whole = feed(data + 1, size - 1, size, answer);
        for (size_t i = 0; i < NB_ARRAY_LEN(steps); i++) {
                struct outcome cut = feed(data + 1, size - 1, steps[i], answer);
                if (cut.code != whole.code || cut.passed != whole.passed || cut.requests != whole.requests)
                        abort();
        }
        /* what passes as a request must look like one */
        if (whole.passed > 0 && http_looks(data + 1, size - 1) != 1)
                abort();
        NB_AUTO_FREE char *text = nb_strndup((const char *)data, size);
        char *refusal = http_refusal(text, text, text);
        free(refusal);
        return 0;
}
