/* The public suffix list, as libpsl has it built in. A file of its own: the gateway and its helpers, which never check rules of
 * people's making, do not load the library. `nixbox` does: measured, it and the two libraries that it brings cost 0.3 ms of a
 * start of 2.7 ms, and some 50 kB that a process has for itself. A copy of the list in the program would cost less, and would
 * not get the distribution's updates. */
#include "policy/suffix.h"

#include <libpsl.h>

bool policy_public_suffix(const char *name) {
        const psl_ctx_t *list = psl_builtin();
        return !list || psl_is_public_suffix(list, name);
}
