/* Which protocol a client speaks, and whom it asks for (see look.h). The protocols are read in tls.c and http.c. */
#include "gateway/look.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "gateway/http.h"
#include "gateway/tls.h"

static ssize_t settle(struct look *l, size_t len) {
        l->settled = true;
        return (ssize_t)len;
}

static int refuse(struct look *l, int code, const char *problem) {
        l->problem = problem;
        return -code;
}

/* A name that is not there or cannot be read only matters to a connection that has one. */
static ssize_t look_hello(struct look *l, const uint8_t *bytes, size_t len) {
        struct tls_hello hello = { 0 };
        int r = tls_hello_read(bytes, len, &hello);
        if (r == 0)
                return 0;
        bool named = r == 1 && hello.has_name && hello.valid_name;
        memcpy(l->asked, named ? hello.name : "", named ? strlen(hello.name) + 1 : 1);
        if (!l->host) {
                if (l->strict && (r < 0 || !l->allowed(l->user, l->asked)))
                        return refuse(l, EACCES, r < 0 ? "the TLS greeting is malformed" : "TLS asks for a denied host");
                return settle(l, len);
        }
        if (r < 0)
                return refuse(l, EPROTO, "the TLS greeting is malformed");
        if (!hello.has_name)
                return refuse(l, EACCES, "TLS does not say which host it wants (no server name)");
        if (!named || strcmp(hello.name, l->host) != 0)
                return refuse(l, EACCES, "TLS asks for another host than the connection's");
        return settle(l, len);
}

static ssize_t look_http(struct look *l, const uint8_t *bytes, size_t len) {
        if (!l->http) {
                l->http = nb_calloc(1, sizeof *l->http);
                http_begin(l->http, l->host, l->port);
                l->http->allowed = l->strict ? l->allowed : NULL;
                l->http->user = l->user;
        }
        ssize_t n = http_up(l->http, bytes, len);
        memcpy(l->asked, l->http->asked, strlen(l->http->asked) + 1);
        if (!l->host && !l->strict && n != 0)
                return settle(l, len);
        return n < 0 ? refuse(l, (int)-n, l->http->problem) : n;
}

static bool only_known(const struct look *l) {
        return l->host && (l->port == 443 || l->port == 80);
}

/* Bytes from the connection's first one on, or from the first one after what HTTP has passed. */
static ssize_t look_at(struct look *l, const uint8_t *bytes, size_t len) {
        if (l->kind == LOOK_HTTP)
                return look_http(l, bytes, len);
        int tls = tls_looks(bytes, len), http = tls == 1 ? -EPROTO : http_looks(bytes, len);
        if (tls == 1) {
                l->kind = LOOK_TLS;
                return look_hello(l, bytes, len);
        }
        if (http == 1) {
                l->kind = LOOK_HTTP;
                return look_http(l, bytes, len);
        }
        if ((tls == 0 || http == 0) && (l->host || l->strict)) /* else it is only about what to call the connection */
                return 0;
        l->kind = LOOK_OTHER;
        if (only_known(l))
                return refuse(l, EPROTO, "neither TLS nor HTTP, and nothing else passes on ports 443 and 80");
        return settle(l, len);
}

/* Some protocols begin with a word and wait for the answer ("ruok"), or send what is typed as it is typed. Their bytes pass
 * after a while although they could be the start of a request, but only as long as what follows can be judged with them. */
static ssize_t look_overdue(struct look *l, const uint8_t *bytes, size_t len) {
        if (!l->overdue || l->kind != LOOK_UNKNOWN || only_known(l))
                return 0;
        if (l->n_passed + len > LOOK_PASSED_MAX)
                return refuse(l, EPROTO, "it could be the start of an HTTP request, and goes on without an end");
        l->passed = nb_realloc(l->passed, l->n_passed + len, 1);
        memcpy(l->passed + l->n_passed, bytes, len);
        l->n_passed += len;
        return (ssize_t)len;
}

ssize_t look_up(struct look *l, const uint8_t *bytes, size_t len) {
        if (l->settled || len == 0)
                return (ssize_t)len;
        size_t before = l->n_passed;
        NB_AUTO_FREE uint8_t *all = before > 0 ? nb_calloc(1, before + len) : NULL;
        if (all) {
                memcpy(all, l->passed, before);
                memcpy(all + before, bytes, len);
        }
        ssize_t n = look_at(l, all ? all : bytes, before + len);
        if (n <= 0)
                return n == 0 ? look_overdue(l, bytes, len) : n;
        free(l->passed); /* something passed as a whole, and they were its start */
        l->passed = NULL;
        l->n_passed = 0;
        return n - (ssize_t)before;
}

bool look_end(struct look *l) {
        if (!l->settled && l->kind == LOOK_UNKNOWN && !only_known(l)) {
                l->kind = LOOK_OTHER;
                l->settled = true;
        }
        return l->settled;
}

void look_down(struct look *l, const uint8_t *bytes, size_t len) {
        if (l->settled || !l->http || !l->http->upgrade)
                return;
        size_t n = sizeof l->told - l->n_told < len ? sizeof l->told - l->n_told : len;
        memcpy(l->told + l->n_told, bytes, n);
        l->n_told = (uint8_t)(l->n_told + n);
        (void)http_switched(l->http, l->told, l->n_told);
}

bool look_done(const struct look *l) {
        return l->settled || (l->http && l->http->requests > 0);
}

void look_clear(struct look *l) {
        free(l->http);
        l->http = NULL;
        free(l->passed);
        l->passed = NULL;
        l->n_passed = 0;
}
