/* Fuzz target: ClientHellos, against OpenSSL as a server. What OpenSSL takes for a hello must look like TLS to us; the name it
 * sees must be the one we see, or we refuse; and no cut of the bytes gives another name. */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gateway/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct server {
        bool hello; /* it read one, of a version that it speaks */
        bool named;
        char name[256];
};

static int on_name(SSL *ssl, int *alert, void *user) {
        struct server *s = user;
        const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
        (void)alert;
        s->hello = true;
        s->named = name != NULL;
        if (name)
                snprintf(s->name, sizeof(s->name), "%s", name);
        return SSL_TLSEXT_ERR_OK;
}

static struct server ask_openssl(const uint8_t *data, size_t size) {
        struct server s = { 0 };
        SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
        if (!ctx)
                abort();
        SSL_CTX_set_tlsext_servername_callback(ctx, on_name);
        SSL_CTX_set_tlsext_servername_arg(ctx, &s);
        SSL_CTX_set_security_level(ctx, 0);
        SSL *ssl = SSL_new(ctx);
        SSL_set_bio(ssl, BIO_new_mem_buf(data, (int)size), BIO_new(BIO_s_null()));
        (void)SSL_accept(ssl);
        SSL_free(ssl);
        SSL_CTX_free(ctx);
        ERR_clear_error();
        return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct tls_hello whole, part;
        int looks = tls_looks(data, size), r = tls_hello_read(data, size, &whole);
        if ((r == 1 && looks != 1) || (whole.valid_name && !whole.has_name) || (whole.has_name && r != 1))
                abort();
        /* settled once is settled for ever */
        for (size_t n = 0, settled = 0; n <= size; n++) {
                NB_AUTO_FREE uint8_t *copy = nb_calloc(1, n + 1);
                memcpy(copy, data, n);
                int now = tls_hello_read(copy, n, &part);
                if ((settled && now != r) || (now != 0 && (now != r || memcmp(&part, &whole, sizeof(part)) != 0)))
                        abort();
                settled |= now != 0;
        }
        if (size == 0)
                return 0;
        struct server s = ask_openssl(data, size);
        if (s.hello && looks != 1)
                abort();
        if (s.hello && r == 0)
                abort();
        if (!s.named || r < 0)
                return 0;
        char canonical[NAME_MAX_LEN + 1];
        if (!whole.has_name)
                abort();
        if (whole.valid_name && (name_canonical(s.name, strlen(s.name), canonical) < 0 || strcmp(canonical, whole.name) != 0))
                abort();
        return 0;
}
