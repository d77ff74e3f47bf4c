/* The part of nixbox attack that is inside the box: puts the program there by a session's input, with the plan behind it, and
 * reads what it says. The program removes itself; when we are told to end it is told so, too, and given a moment. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "cli/attack_parts.h"
#include "cli/remote.h"

#define PROGRAM_MAX (4u << 20)
#define RUN_MS 180000u /* all of it; a probe has its own, shorter limit */
#define END_MS 5000u   /* for the program to remove what it made */
#define TICK_MS 200

/* /run is memory, and no mount of an owner's lies there. */
#define FOLDER "/run/" ATTACK_FOLDER
static char script[] = "umask 077; trap 'rm -rf \"$1\"; exit 1' HUP INT TERM; mkdir \"$1\" && cat >\"$1/attack\" && "
                       "chmod 700 \"$1/attack\" && exec \"$1/attack\" \"$1\" \"$2\"";

volatile int attack_signal;

/* The program and the plan as one file. */
static int make_input(const struct attack_rows *rows, const struct attack_facts *facts, int *ret_fd, struct nb_error *err) {
        NB_AUTO_FREE char *path = nb_installed_file(ATTACK_PROGRAM), *program = NULL;
        NB_AUTO_BUF plan = { 0 };
        size_t len = 0;
        int r = nb_read_regular(path, PROGRAM_MAX, &program, &len);
        if (r < 0) {
                nb_fail_errno(err, -r, "cannot read %s", path);
                return nb_hint(err, "it is installed with nixbox; install it again");
        }
        attack_plan(&plan, rows, facts);
        NB_AUTO_CLOSE int fd = memfd_create("attack", MFD_CLOEXEC);
        r = fd < 0 ? -errno : nb_write_all(fd, program, len);
        if (r == 0)
                r = nb_write_all(fd, nb_buf_bytes(&plan), plan.len);
        if (r < 0 || lseek(fd, 0, SEEK_SET) < 0)
                return nb_fail_errno(err, r < 0 ? -r : errno, "cannot put the program together");
        *ret_fd = nb_steal_fd(&fd);
        return 0;
}

/* Until the end of the stream, an answer that is none, a signal, or the time is over. */
static int read_answer(int fd, struct attack_answer *answer, unsigned n_asked, struct progress *progress,
                       struct nb_error *err) {
        char bytes[4096];
        for (uint64_t end = nb_now_ms() + RUN_MS; !attack_signal;) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                if (nb_now_ms() > end)
                        return nb_fail(err, ETIMEDOUT, "the probes did not end in %u s", RUN_MS / 1000);
                int n = poll(&p, 1, TICK_MS);
                NB_AUTO_FREE char *detail = nb_asprintf("%u of %u probes", answer->answered, n_asked);
                progress_step(progress, "attacking", detail, 0, 0);
                if (n <= 0)
                        continue;
                ssize_t got = read(fd, bytes, sizeof bytes);
                if (got == 0)
                        return 0;
                int r = got < 0 ? 0 : attack_answer_add(answer, bytes, (size_t)got, err);
                if (r < 0)
                        return r;
        }
        return nb_fail(err, EINTR, "interrupted");
}

/* Tells the program to end, through the session, and gives it a moment for that; then the session ends without it. */
static void stop(struct remote *remote) {
        (void)kill(remote->pid, SIGINT);
        for (uint64_t end = nb_now_ms() + END_MS; nb_now_ms() < end;) {
                siginfo_t info = { 0 };
                if (waitid(P_PID, (id_t)remote->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != 0)
                        return;
                (void)poll(NULL, 0, TICK_MS / 4);
        }
        (void)kill(remote->pid, SIGKILL);
}

int attack_run_inside(struct cli *cli, struct attack_rows *rows, const struct attack_facts *facts, struct progress *progress,
                      struct nb_error *err) {
        NB_AUTO_FREE char *folder = nb_asprintf(FOLDER "%s", facts->token), *words = NULL;
        char *argv[] = { "sh", "-c", script, "sh", folder, (char *)facts->token, NULL };
        struct remote remote = { .words = -1 };
        unsigned n_asked = 0;
        int ends[2], input = -1;
        for (size_t i = 0; i < rows->n; i++)
                n_asked += rows->rows[i].args && !rows->rows[i].allowed;
        int r = make_input(rows, facts, &input, err);
        if (r < 0)
                return r;
        if (pipe2(ends, O_CLOEXEC) < 0) {
                nb_close(input);
                return nb_fail_errno(err, errno, "cannot make a pipe");
        }
        r = remote_start(cli, argv, "root", input, ends[1], ends[0], &remote, err);
        if (r < 0) {
                nb_close(ends[0]);
                return r;
        }
        struct attack_answer answer = { .rows = rows, .token = facts->token };
        r = read_answer(ends[0], &answer, n_asked, progress, err);
        nb_close(ends[0]); /* whoever has more to say is not waited for */
        if (r < 0)
                stop(&remote);
        int status = remote_wait(&remote, &words);
        progress_end(progress);
        if (r == 0 && status != 0) {
                nb_fail(err, EIO, "the program in the box ended with status %d%s%s", status, *words ? ": " : "", words);
                r = nb_hint(err, "nixbox logs and nixbox events say more");
        }
        if (r == 0)
                r = attack_answer_end(&answer, err);
        attack_answer_clear(&answer);
        return r;
}
