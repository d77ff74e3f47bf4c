/* Writing to the caller's descriptors (see session_sink.h). */
#include "box/session_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define BLOCKING_CHUNK 512u /* to a pipe or terminal that could not be opened again: poll says there is room for this */

void sink_init(struct sink *s, int fd) {
        struct stat st;
        *s = (struct sink){ .fd = fd };
        if (fd < 0 || fstat(fd, &st) < 0) {
                s->broken = true;
                s->fd = -1;
                return;
        }
        s->socket = S_ISSOCK(st.st_mode);
        bool terminal = S_ISCHR(st.st_mode) && isatty(fd);
        s->never_blocks = !S_ISFIFO(st.st_mode) && !terminal;
        unsigned number;
        if (s->never_blocks || (terminal && ioctl(fd, TIOCGPTN, &number) == 0)) /* opening a pty's master makes another one */
                return;
        /* a description of our own, so that O_NONBLOCK is nobody else's problem */
        NB_AUTO_FREE char *path = nb_asprintf("/proc/self/fd/%d", fd);
        int own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (own >= 0) {
                s->fd = own;
                s->own = s->never_blocks = true;
        }
}

void sink_clear(struct sink *s) {
        if (s->own)
                nb_close(s->fd);
        nb_buf_clear(&s->data);
        *s = (struct sink){ .fd = -1 };
}

int sink_write(struct sink *s) {
        while (s->data.len > 0) {
                size_t len = s->never_blocks || s->data.len < BLOCKING_CHUNK ? s->data.len : BLOCKING_CHUNK;
                ssize_t n = s->socket ? send(s->fd, nb_buf_bytes(&s->data), len, MSG_DONTWAIT | MSG_NOSIGNAL)
                                      : write(s->fd, nb_buf_bytes(&s->data), len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return 0;
                if (n < 0) {
                        int code = errno;
                        s->broken = true;
                        nb_buf_clear(&s->data);
                        return -code;
                }
                nb_buf_consume(&s->data, (size_t)n);
                if (!s->never_blocks)
                        return 0;
        }
        return 0;
}
