/* Commands in the box whose streams are ours (see remote.h). */
#include "cli/remote.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/session.h"

static _Noreturn void remote_main(int control, const struct session_spec *spec) {
        NB_AUTO_ERROR err = { 0 };
        struct rlimit limit = { REMOTE_WORDS_MAX,
                                REMOTE_WORDS_MAX }; /* the words are from the guest: no more of them than this */
        (void)signal(SIGXFSZ, SIG_IGN);
        (void)setrlimit(RLIMIT_FSIZE, &limit);
        int r = session_run(control, spec, &err);
        if (r < 0) {
                (void)cli_fail(&err);
                r = CLI_FAILED;
        }
        _exit(r);
}

int remote_start(struct cli *cli, char *const *argv, const char *user, int in, int out, int ours, struct remote *ret,
                 struct nb_error *err) {
        int control = -1;
        int r = cli_connect(cli, &control, err);
        ret->words = r == 0 ? memfd_create("words", MFD_CLOEXEC) : -1;
        if (r == 0 && ret->words < 0)
                r = nb_fail_errno(err, errno, "cannot make a memory file");
        if (r == 0 && (ret->pid = fork()) < 0)
                r = nb_fail_errno(err, errno, "cannot start a process");
        if (r == 0 && ret->pid == 0) {
                const struct session_spec spec = { .argv = argv, .user = user, .in = in, .out = out, .err = ret->words };
                nb_close(ours); /* or it would keep its own stream open */
                remote_main(control, &spec);
        }
        nb_close(control);
        if (in > STDERR_FILENO)
                nb_close(in);
        if (out > STDERR_FILENO)
                nb_close(out);
        if (r < 0)
                ret->words = nb_close(ret->words);
        return r;
}

int remote_wait(struct remote *remote, char **ret_words) {
        int status = 0;
        size_t len = 0;
        while (waitpid(remote->pid, &status, 0) < 0 && errno == EINTR)
                ;
        (void)lseek(remote->words, 0, SEEK_SET);
        if (nb_read_fd(remote->words, 2 * REMOTE_WORDS_MAX, ret_words, &len) < 0)
                *ret_words = nb_strdup("");
        remote->words = nb_close(remote->words);
        while (len > 0 && (*ret_words)[len - 1] == '\n')
                (*ret_words)[--len] = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : CLI_FAILED;
}
