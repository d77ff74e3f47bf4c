/* Fuzz target: what a proxy answers, however it is cut, and what the environment says about one. The first byte chooses. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gateway/proxy_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An end once found stays where it is when more comes, and is not found before all of it is there. */
static void answer(const uint8_t *data, size_t size) {
        struct proxy_answer whole, part;
        ssize_t n = proxy_answer_read(data, size, &whole);
        if (n <= 0)
                return;
        if ((size_t)n > size || whole.status < 200 || whole.status > 999 || n < 16)
                abort();
        if (proxy_answer_read(data, (size_t)n, &part) != n || proxy_answer_read(data, (size_t)n - 1, &part) != 0)
                abort();
        for (const char *c = whole.reason; *c; c++)
                if (*c < 0x20 || *c > 0x7e)
                        abort();
}

static void url(const char *text) {
        struct proxy_url u;
        if (proxy_url_parse(text, &u, NULL) < 0)
                return;
        NB_AUTO_FREE char *request = proxy_request(&u, "a.example", 443);
        const char *end = strstr(request, "\r\n\r\n");
        if (!end || end[4] || u.port == 0 || (!u.host && u.addr.family == 0))
                abort();
        proxy_url_clear(&u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size < 1)
                return 0;
        NB_AUTO_FREE char *text = nb_strndup((const char *)data + 1, size - 1);
        switch (data[0]) {
        case 'u': url(text); break;
        case 'n': (void)proxy_passed_by(text, "a.example", 443); break;
        default: answer(data + 1, size - 1);
        }
        return 0;
}
