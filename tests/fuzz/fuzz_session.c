/* Fuzz target: what the box sends to `nixbox run` over its connection, as the guest has it in hand: frames of a session, or
 * bytes that are none. The command ends when the connection does, with a status or an error. The input is a list of steps: a
 * type, a channel, a length and a payload; type 0 is raw bytes. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "box/session.h"
#include "box/session_open.h"
#include "steps.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ANSWER "{\"ok\":true,\"mounts\":[{\"source\":\"/tmp\",\"target\":\"/srv\"}],\"workdir\":\"/\"}\n"
#define SENT_MAX 65536u /* fits into the socket, so that one thread can play both sides */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        int pair[2], in[2], null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        char *const argv[] = { "true", NULL };
        nb_log_set_level(NB_LOG_ERROR);
        if (null < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || pipe2(in, O_CLOEXEC) < 0)
                abort();
        (void)!write(in[1], "input", 5);
        nb_close(in[1]);
        NB_AUTO_BUF out = { 0 };
        nb_buf_add(&out, ANSWER, strlen(ANSWER));
        for (size_t left = size; left > 0 && out.len < SENT_MAX;) {
                struct fuzz_step step = fuzz_next_step(&data, &left);
                fuzz_send_step(&out, &step, step.number & 3, SESSION_STREAM);
        }
        if (nb_write_all(pair[1], nb_buf_bytes(&out), out.len) < 0)
                abort();
        (void)shutdown(pair[1], SHUT_WR);
        const struct session_spec spec = {
                .argv = argv, .host_cwd = size & 1 ? "/tmp/x" : "/elsewhere", .in = in[0], .out = null, .err = null
        };
        NB_AUTO_ERROR err = { 0 };
        int r = session_run(pair[0], &spec, &err);
        if (r < 0 ? !err.what : r > 255)
                abort();
        nb_close(pair[1]);
        nb_close(in[0]);
        nb_close(null);
        return 0;
}
