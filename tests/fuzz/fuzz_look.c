/* Fuzz target: what a client's first bytes say, whatever protocol they are of. However they are cut, the verdict is the same,
 * also where bytes that may yet become anything pass early, but that of those only so many may pass: then a cut one can be
 * refused where the whole is not, never the other way round. A connection that nothing is denied to is never refused. The first
 * byte says what kind of connection it is, the second where to cut. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gateway/look.h"

#define HOST "h.example"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
        int code;
        size_t passed;
};

static bool allowed(void *user, const char *host) {
        (void)user;
        return strcmp(host, "denied.example") != 0;
}

static struct look begin(uint8_t kind) {
        struct look l = { .allowed = allowed, .overdue = kind & 8 };
        switch (kind & 3) {
        case 0:
                l.host = HOST;
                l.port = 443;
                break;
        case 1:
                l.host = HOST;
                l.port = 8080;
                break;
        case 2:
                l.port = 443;
                l.strict = true;
                break;
        default: l.port = 80; break;
        }
        return l;
}

static struct outcome feed(const uint8_t *data, size_t size, size_t step, uint8_t kind) {
        struct look l = begin(kind);
        struct outcome o = { 0 };
        for (size_t given = 0; given < size && o.code == 0;) {
                given = size - given < step ? size : given + step;
                for (ssize_t n = 1; n > 0 && o.passed < given;) {
                        NB_AUTO_FREE uint8_t *copy = nb_calloc(1, given - o.passed);
                        memcpy(copy, data + o.passed, given - o.passed);
                        n = look_up(&l, copy, given - o.passed);
                        if (n > (ssize_t)(given - o.passed))
                                abort();
                        if (n < 0)
                                o.code = (int)n;
                        o.passed += n > 0 ? (size_t)n : 0;
                }
        }
        if (o.code != 0 && !l.problem)
                abort();
        /* the other side speaks, and this one ends: what is settled stays so */
        look_down(&l, data, size < step ? size : step);
        if (o.code == 0 && look_end(&l) && !look_done(&l))
                abort();
        look_clear(&l);
        return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size < 3)
                return 0;
        const uint8_t kind = data[0];
        const size_t steps[] = { 1, 3, 1u + data[1] };
        struct outcome whole = feed(data + 2, size - 2, size, kind);
        if ((kind & 3) == 3 && whole.code != 0)
                abort();
        for (size_t i = 0; i < NB_ARRAY_LEN(steps); i++) {
                struct outcome cut = feed(data + 2, size - 2, steps[i], kind);
                if (kind & 8 && size - 2 > LOOK_PASSED_MAX && whole.code == 0 && cut.code == -EPROTO)
                        continue;
                if (cut.code != whole.code || (!(kind & 8) && cut.passed != whole.passed && (kind & 3) != 3))
                        abort();
        }
        return 0;
}
