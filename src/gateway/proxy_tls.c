/* TLS to an https:// proxy, by OpenSSL, which sees nothing but the proxy's own bytes: what the guest says goes through it as
 * payload. Certificates come as text with the start message, so that no file is needed. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/mem.h"
#include "gateway/proxy_impl.h"

#define CA_MAX 4096u /* certificates */

static int add_certificates(X509_STORE *store, const char *ca) {
        BIO *in = BIO_new_mem_buf(ca, -1);
        unsigned n = 0;
        X509 *one;
        while (in && n < CA_MAX && (one = PEM_read_bio_X509(in, NULL, NULL, NULL))) {
                n += X509_STORE_add_cert(store, one) == 1;
                X509_free(one);
        }
        BIO_free(in);
        ERR_clear_error(); /* the end of the text is one */
        return n > 0 ? 0 : -ENOENT;
}

int proxy_tls_new(const char *ca, SSL_CTX **ret, struct nb_error *err) {
        static const unsigned char http1[] = "\x08http/1.1";
        (void)OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS,
                               NULL);
        SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
        if (!tls || SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION) != 1 ||
            SSL_CTX_set_alpn_protos(tls, http1, sizeof http1 - 1) != 0) {
                SSL_CTX_free(tls);
                return nb_fail(err, EIO, "cannot set up TLS for the proxy");
        }
        if (add_certificates(SSL_CTX_get_cert_store(tls), ca) < 0) {
                SSL_CTX_free(tls);
                (void)nb_fail(err, EINVAL, "there are no certificates to check the proxy's with");
                return nb_hint(err, "install the package ca-certificates, or set SSL_CERT_FILE");
        }
        SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
        (void)SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
        (void)SSL_CTX_set_mode(tls,
                               SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
        *ret = tls;
        return 0;
}

void proxy_tls_free(SSL_CTX *tls) {
        SSL_CTX_free(tls);
}

SSL *proxy_tls_begin(SSL_CTX *tls, const struct proxy_url *url, int fd) {
        SSL *ssl = SSL_new(tls);
        if (!ssl)
                return NULL;
        X509_VERIFY_PARAM *check = SSL_get0_param(ssl);
        int ok = SSL_set_fd(ssl, fd);
        X509_VERIFY_PARAM_set_hostflags(check, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        if (url->host)
                ok = ok == 1 && SSL_set_tlsext_host_name(ssl, url->host) == 1 && SSL_set1_host(ssl, url->host) == 1;
        else
                ok = ok == 1 && X509_VERIFY_PARAM_set1_ip(check, url->addr.bytes, url->addr.family == AF_INET ? 4 : 16) == 1;
        if (ok != 1) {
                SSL_free(ssl);
                return NULL;
        }
        return ssl;
}

void proxy_tls_end(SSL *ssl) {
        SSL_free(ssl);
}

/* What an operation that did not succeed means. */
static int outcome(SSL *ssl, int r) {
        int saved = errno;
        switch (SSL_get_error(ssl, r)) {
        case SSL_ERROR_WANT_READ: return PROXY_AGAIN_READ;
        case SSL_ERROR_WANT_WRITE: return PROXY_AGAIN_WRITE;
        case SSL_ERROR_ZERO_RETURN: return 0;
        case SSL_ERROR_SYSCALL: return saved > 0 && saved != EAGAIN && saved != EINPROGRESS ? -saved : -ECONNRESET;
        default: return -EPROTO;
        }
}

int proxy_tls_handshake(SSL *ssl) {
        ERR_clear_error();
        errno = 0;
        int r = SSL_connect(ssl);
        if (r == 1)
                return 0;
        r = outcome(ssl, r);
        return r == 0 ? -ECONNRESET : r;
}

char *proxy_tls_problem(SSL *ssl) {
        long verdict = SSL_get_verify_result(ssl);
        if (verdict != X509_V_OK)
                return nb_asprintf("its certificate is not good: %s", X509_verify_cert_error_string(verdict));
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());
        return nb_asprintf("TLS fails: %s", reason ? reason : "it hung up");
}

ssize_t proxy_tls_read(SSL *ssl, void *bytes, size_t len) {
        ERR_clear_error();
        errno = 0;
        int n = SSL_read(ssl, bytes, (int)len);
        return n > 0 ? n : outcome(ssl, n);
}

ssize_t proxy_tls_write(SSL *ssl, const void *bytes, size_t len) {
        ERR_clear_error();
        errno = 0;
        int n = SSL_write(ssl, bytes, (int)len);
        if (n > 0)
                return n;
        n = outcome(ssl, n);
        return n == 0 ? -EPIPE : n;
}

void proxy_tls_shut(SSL *ssl) {
        ERR_clear_error();
        (void)SSL_shutdown(ssl);
}
