/* QMP without the socket: splits the bytes that QEMU says into lines and turns each line into one small checked message.
 * Pure code, fuzzed: QEMU is taken for hostile, so length, depth and rate are limited and unknown things are ignored. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define QMP_LINE_MAX 16384u /* the longest line that QEMU has reason to write to us is the greeting, 200 bytes */
#define QMP_DEPTH_MAX 12u   /* nesting of arrays and objects */
#define QMP_DETAIL 96u
/* Messages: as many at once as the burst, and as many a second in the long run as the rate. QEMU itself limits the events
 * that a guest can provoke to one a second each. */
#define QMP_BURST 500u
#define QMP_RATE 50u

enum qmp_kind { QMP_GREETING, QMP_RETURN, QMP_ERROR, QMP_EVENT };
enum qmp_event { QMP_EVENT_OTHER, QMP_EVENT_SHUTDOWN, QMP_EVENT_RESET, QMP_EVENT_PANICKED };
struct qmp_message {
        enum qmp_kind kind;
        enum qmp_event event;    /* EVENT */
        uint64_t id;             /* RETURN, ERROR: of the command; 0 if there is none */
        char detail[QMP_DETAIL]; /* EVENT: the reason; ERROR: the description; clean text, may be empty */
        bool has_actual;
        uint64_t actual; /* RETURN of query-balloon: the guest's memory now */
};

/** Takes the next line off the front of `in`. 1: `ret` is set; 0: more bytes are needed; -EPROTO: nothing that QEMU says. */
int qmp_next(struct nb_buf *in, struct qmp_message *ret);

struct qmp_meter {
        uint64_t last_ms;
        uint64_t used; /* in thousandths of a message */
};
/** Counts a message at this time. False: QEMU says more than it can have reason to. */
bool qmp_meter_take(struct qmp_meter *m, uint64_t now_ms);
