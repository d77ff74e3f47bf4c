/* Running helper programs (see proc.h). */
#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "buf.h"
#include "io.h"
#include "mem.h"

#define NB_STDERR_TAIL 4096 /* bytes of a failed program's stderr that go into the message */

struct run {
        const struct proc_spec *spec;
        pid_t pid;
        int in, out, err; /* our ends, -1 when closed */
        struct nb_buf output, tail, line;
        size_t fed;
};

static _Noreturn void child(const struct proc_spec *spec, int in, int out, int err, int report) {
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
        sigset_t none;
        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)signal(SIGPIPE, SIG_DFL);
        if (dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 && dup2(err, STDERR_FILENO) >= 0 &&
            (!spec->dir || chdir(spec->dir) == 0)) {
                if (spec->env)
                        execvpe(spec->argv[0], spec->argv, spec->env);
                else
                        execvp(spec->argv[0], spec->argv);
        }
        int code = errno;
        (void)!write(report, &code, sizeof code);
        _exit(127);
}

static int start(struct run *run, struct nb_error *err) {
        const struct proc_spec *spec = run->spec;
        int in[2] = { -1, -1 }, out[2] = { -1, -1 }, er[2] = { -1, -1 }, report[2] = { -1, -1 };
        NB_AUTO_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        int r = 0;
        if (null < 0 || pipe2(report, O_CLOEXEC) < 0 || (spec->input && pipe2(in, O_CLOEXEC) < 0) ||
            (spec->output_max && pipe2(out, O_CLOEXEC) < 0) || (spec->stderr_fd < 0 && pipe2(er, O_CLOEXEC) < 0))
                r = nb_fail_errno(err, errno, "cannot start %s", spec->argv[0]);
        if (r == 0) {
                run->pid = fork();
                if (run->pid == 0)
                        child(spec, spec->input ? in[0] : null,
                              spec->output_max      ? out[1]
                              : spec->stdout_fd < 0 ? null
                                                    : spec->stdout_fd,
                              spec->stderr_fd < 0 ? er[1] : spec->stderr_fd, report[1]);
                if (run->pid < 0)
                        r = nb_fail_errno(err, errno, "cannot start %s", spec->argv[0]);
        }
        nb_close(in[0]);
        nb_close(out[1]);
        nb_close(er[1]);
        nb_close(report[1]);
        run->in = in[1];
        run->out = out[0];
        run->err = er[0];
        int code = 0;
        if (r == 0 && nb_read_full(report[0], &code, sizeof code) == sizeof code) {
                (void)waitpid(run->pid, NULL, 0);
                r = nb_fail_errno(err, code, "cannot run %s", spec->argv[0]);
        }
        nb_close(report[0]);
        return r;
}

static void take_stderr(struct run *run, const char *bytes, size_t len) {
        nb_buf_add(&run->tail, bytes, len);
        if (run->tail.len > NB_STDERR_TAIL)
                nb_buf_consume(&run->tail, run->tail.len - NB_STDERR_TAIL);
        if (!run->spec->on_stderr_line)
                return;
        for (size_t i = 0; i < len; i++) {
                if (bytes[i] != '\n' && bytes[i] != '\r') {
                        if (run->line.len < NB_STDERR_TAIL)
                                nb_buf_add(&run->line, &bytes[i], 1);
                        continue;
                }
                nb_buf_add(&run->line, "", 1);
                run->spec->on_stderr_line(run->spec->user, (const char *)nb_buf_bytes(&run->line));
                nb_buf_consume(&run->line, run->line.len);
        }
}

static void feed(struct run *run) {
        ssize_t n = write(run->in, (const char *)run->spec->input + run->fed, run->spec->input_len - run->fed);
        if (n > 0)
                run->fed += (size_t)n;
        if ((n < 0 && errno != EINTR && errno != EAGAIN) || run->fed == run->spec->input_len)
                run->in = nb_close(run->in);
}

static int pump(struct run *run, struct nb_error *err) {
        char chunk[16384];
        if (run->in >= 0)
                (void)nb_set_nonblock(run->in, true);
        while (run->out >= 0 || run->err >= 0 || run->in >= 0) {
                struct pollfd p[3] = { { run->out, POLLIN, 0 }, { run->err, POLLIN, 0 }, { run->in, POLLOUT, 0 } };
                if (poll(p, 3, -1) < 0 && errno != EINTR)
                        return nb_fail_errno(err, errno, "cannot wait for %s", run->spec->argv[0]);
                if (p[2].revents)
                        feed(run);
                for (int i = 0; i < 2; i++) {
                        int *fd = i == 0 ? &run->out : &run->err;
                        if (!p[i].revents)
                                continue;
                        ssize_t n = read(*fd, chunk, sizeof chunk);
                        if (n < 0 && errno == EINTR)
                                continue;
                        if (n <= 0)
                                *fd = nb_close(*fd);
                        else if (i == 1)
                                take_stderr(run, chunk, (size_t)n);
                        else if (run->output.len + (size_t)n > run->spec->output_max)
                                return nb_fail(err, EFBIG, "%s printed more than %zu bytes", run->spec->argv[0],
                                               run->spec->output_max);
                        else
                                nb_buf_add(&run->output, chunk, (size_t)n);
                }
        }
        return 0;
}

static int verdict(struct run *run, int status, struct nb_error *err) {
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return 0;
        nb_buf_add(&run->tail, "", 1);
        char *text = (char *)run->tail.data + run->tail.start;
        for (size_t n = strlen(text); n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '); n--)
                text[n - 1] = 0;
        const char *name = run->spec->argv[0];
        if (WIFSIGNALED(status))
                return nb_fail(err, ECHILD, "%s was ended by signal %d%s%s", name, WTERMSIG(status), *text ? ": " : "", text);
        return nb_fail(err, ECHILD, "%s failed with status %d%s%s", name, WEXITSTATUS(status), *text ? ": " : "", text);
}

int proc_run(const struct proc_spec *spec, char **ret_output, size_t *ret_len, struct nb_error *err) {
        struct run run = { .spec = spec, .pid = -1, .in = -1, .out = -1, .err = -1 };
        int r = start(&run, err), status = 0;
        if (r == 0) {
                r = pump(&run, err);
                if (r < 0)
                        (void)kill(run.pid, SIGKILL);
                while (waitpid(run.pid, &status, 0) < 0 && errno == EINTR)
                        ;
                if (r == 0)
                        r = verdict(&run, status, err);
        }
        nb_close(run.in);
        nb_close(run.out);
        nb_close(run.err);
        if (r == 0 && spec->output_max) {
                nb_buf_add(&run.output, "", 1);
                if (ret_len)
                        *ret_len = run.output.len - 1;
                if (ret_output) {
                        *ret_output = nb_calloc(run.output.len, 1);
                        memcpy(*ret_output, nb_buf_bytes(&run.output), run.output.len);
                }
        }
        nb_buf_wipe(&run.output);
        nb_buf_clear(&run.tail);
        nb_buf_clear(&run.line);
        return r;
}
