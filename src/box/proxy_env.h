/* What the caller's environment says about a proxy, for the gateway. */
#pragma once
#include <jansson.h>

#include "base/error.h"

/** Reads https_proxy or HTTPS_PROXY, no_proxy or NO_PROXY and, for an https:// proxy, the certificates that the host trusts
 *  (SSL_CERT_FILE, SSL_CERT_DIR, else the system's). *ret is the "proxy" object of gateway.h, NULL where no proxy is set. It
 * may hold a password: it belongs into no log and no message. */
int proxy_settings(json_t **ret, struct nb_error *err);
