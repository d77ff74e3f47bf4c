/* Fuzz target: what the guest writes on its console, through the pipe and into the file, the way the supervisor takes it.
 * Whatever came, the files hold no control character but the ends of lines, and no more than their limits. */
#include <event2/event.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "box/supervisor_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMIT 512u      /* of the file, so that it is rotated */
#define LINE_MOST 9000u /* of one line in it: 2048 bytes, of which each may be shown as four */

static void check(const char *dir, const char *name) {
        NB_AUTO_FREE char *path = nb_asprintf("%s/%s", dir, name);
        char *text = NULL;
        size_t len = 0;
        if (nb_read_file(path, 1u << 20, &text, &len) < 0)
                return;
        if (len > LIMIT + LINE_MOST)
                abort();
        for (size_t i = 0; i < len; i++)
                if (((unsigned char)text[i] < 0x20 && text[i] != '\n') || text[i] == 0x7f)
                        abort();
        free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char dir[] = "/tmp/nixbox-fuzz-console-XXXXXX";
        struct supervisor s = { .base = event_base_new(), .log = { .fd = -1 } };
        int in = -1;
        /* the first byte: a child or the guest, and how much it writes at a time */
        size_t index = size > 0 && data[0] & 1 ? CHILD_QEMU : CHILD_COUNT;
        if (!mkdtemp(dir) || log_file_open(&s.console, dir, "console.log", LIMIT, NULL) < 0 ||
            log_file_open(&s.log, dir, "box.log", LIMIT, NULL) < 0 ||
            capture_begin(&s, index, "output", index == CHILD_COUNT ? &s.console : NULL, &in, NULL) < 0)
                abort();
        nb_log_to(s.log.fd, "fuzz");
        nb_log_set_level(NB_LOG_INFO);
        for (size_t step = size > 0 ? (size_t)data[0] * 8 + 1 : 1, at = 1; at < size; at += step) {
                (void)nb_write_all(in, data + at, size - at < step ? size - at : step);
                (void)event_base_loop(s.base, EVLOOP_NONBLOCK);
        }
        nb_close(in);
        (void)event_base_loop(s.base, EVLOOP_NONBLOCK);
        capture_free(&s.capture[index]);
        nb_log_to(STDERR_FILENO, "fuzz");
        log_file_close(&s.log);
        log_file_close(&s.console);
        event_base_free(s.base);
        free(s.last_console);
        check(dir, "console.log");
        check(dir, "console.log.1");
        check(dir, "box.log");
        check(dir, "box.log.1");
        (void)nb_remove_tree(AT_FDCWD, dir);
        return 0;
}
