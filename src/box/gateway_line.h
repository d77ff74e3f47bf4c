/* One line from the gateway, checked: the gateway parses what the guest sends, so what it says is taken for hostile. Only
 * known keys of the right type and a bounded length get through, text cleaned of control characters. Pure. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/gateway.h"
#include "policy/name.h"

enum gateway_line_kind { GATEWAY_LINE_READY, GATEWAY_LINE_APPLIED, GATEWAY_LINE_NAME, GATEWAY_LINE_EVENT, GATEWAY_LINE_TOTAL };
struct gateway_line {
        enum gateway_line_kind kind;
        char name[NAME_MAX_LEN + 1];     /* NAME: canonical. TOTAL: of the destination, a name or an address */
        uint32_t address;                /* NAME: host order, inside the synthetic range; 0: taken back */
        const char *type;                /* EVENT: "dns", "connect", "http", "error" */
        json_t *fields;                  /* EVENT: for events_add(); the receiver's reference */
        char rule[GATEWAY_TEXT_MAX + 1]; /* TOTAL: as policy_rule_text() writes it, "" if none */
        uint64_t up, down;               /* TOTAL */
};
/** Reads one line without its newline. 0, or -EPROTO if it is not what gateway.h describes. */
int gateway_line_parse(const char *line, size_t len, struct gateway_line *ret);
