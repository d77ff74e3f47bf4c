/* Sockets of the host for published ports, made by the starting command (or `nixbox port`) with the caller's own rights and
 * handed to the box. */
#pragma once
#include <stdint.h>

#include "base/error.h"

/** A socket that listens on an address of this host. *ret_fd is the caller's. */
int port_listen(const char *address, uint16_t port, int *ret_fd, struct nb_error *err);
