/* Published ports: how one is written. Private to src/config; parsing is config_parse_port(). */
#pragma once
#include "config/config.h"

/** The one form that every spelling is brought to: "127.0.0.1:8080:80", "[::1]:8080:80". New string. */
char *port_text(const struct config_port *p);
/** Can only one of them be bound at a time? */
bool port_conflict(const struct config_port *a, const struct config_port *b);
/** Only programs of this host can connect to it. */
bool port_is_local(const struct config_port *p);
