/* The guest's side of the network: loopback, the one device the host may have given us, and the name server. The addresses
 * come with SETUP; nothing is asked of the network. */
#pragma once
#include "guest/request.h"

/** Brings up loopback, and the device with its address and route. The kernel takes its time for this, so it is called in a
 *  process of its own. Returns 0 or -errno; what failed is on the console. */
int network_raise(const struct setup *s);
/** /etc/resolv.conf for this box. Without a network it names no server: a look-up then asks loopback, where nothing
 *  listens, and fails at once. */
void network_write_resolver(const struct setup *s);
