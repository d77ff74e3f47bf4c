/* How long each step of the start took, for the host's `up -v`. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define PHASES_MAX 16u

struct phases {
        struct {
                const char *name; /* literal */
                uint64_t us;
        } phase[PHASES_MAX];
        size_t n;
        uint64_t last_ns;
};

/** Ends a step: the time since the previous call (for the first call, since the kernel started) goes to this name. */
void phase_end(struct phases *p, const char *name);
