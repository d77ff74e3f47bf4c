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
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ANSWER "{\"ok\":true,\"mounts\":[{\"source\":\"/tmp\",\"target\":\"/srv\"}],\"workdir\":\"/\"}\n"
#define SENT_MAX 65536u /* fits into the socket, so that one thread can play both sides */

static void add_step(struct nb_buf *out, const uint8_t **at, size_t *left) {
        uint8_t head[3] = { 0 };
        size_t n = *left < sizeof head ? *left : sizeof head;
        memcpy(head, *at, n);
        *at += n;
        *left -= n;
        size_t len = head[2] < *left ? head[2] : *left;
        if (head[0] == 0)
                nb_buf_add(out, *at, len);
        else
                wire_put(out, head[0], head[1] & 3, SESSION_STREAM, *at, len);
        *at += len;
        *left -= len;
}

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
        for (size_t left = size; left > 0 && out.len < SENT_MAX;)
                add_step(&out, &data, &left);
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
