/* Work as QEMU and virtiofsd do it, for a fixed number of rounds: some computing, then the calls of an event loop. Run in their
 * jails and outside (see contain.py); tells the time that it took, in nanoseconds. "start" does nothing.
 *   contain WHERE start|work */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 100000u
#define COMPUTING 5000u /* steps a round: some microseconds, so that a round is what a busy device takes */

static uint64_t now(void) {
        struct timespec t;
        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv) {
        if (argc != 3 || strcmp(argv[2], "work") != 0)
                return 0;
        int event = eventfd(0, EFD_CLOEXEC), file = memfd_create("disk", MFD_CLOEXEC);
        char block[4096] = "";
        volatile uint64_t sum = 1;
        uint64_t one = 1, began = now();
        for (unsigned i = 0; i < ROUNDS; i++) {
                for (unsigned k = 0; k < COMPUTING; k++)
                        sum = sum * 6364136223846793005u + 1;
                struct pollfd p = { .fd = event, .events = POLLIN };
                struct timespec none = { 0 };
                if (write(event, &one, sizeof one) < 0 || ppoll(&p, 1, &none, NULL) != 1 || read(event, &one, sizeof one) < 0 ||
                    pwrite(file, block, sizeof block, 0) < 0 || pread(file, block, sizeof block, 0) < 0)
                        return 1;
        }
        printf("%llu\n", (unsigned long long)(now() - began));
        return 0;
}
