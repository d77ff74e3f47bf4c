/* Raw mode and signals (see session_term.h). The saved terminal state is the one mutable global here: the handler of a
 * fatal signal can reach nothing else. */
#include "box/session_term.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>

#include "base/mem.h"

static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS };
static const int passed_on[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
static const int pty_only[] = { SIGWINCH, SIGTSTP };

static struct {
        volatile sig_atomic_t raw;
        int fd;
        struct termios was;
} saved;

void session_term_restore(void) {
        if (!saved.raw)
                return;
        saved.raw = 0;
        /* at once: waiting for the output to drain could be for ever on a terminal that is held (^S) */
        (void)tcsetattr(saved.fd, TCSANOW, &saved.was);
}

/* SA_RESETHAND is set: the signal ends the process when it is raised again on return. */
static void on_fatal(int number) {
        session_term_restore();
        (void)raise(number);
}

int session_term_raw(int fd) {
        struct termios t;
        if (tcgetattr(fd, &t) < 0)
                return -errno;
        if (!saved.raw)
                saved.was = t;
        saved.fd = fd;
        cfmakeraw(&t);
        struct sigaction action = { .sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND };
        for (size_t i = 0; i < NB_ARRAY_LEN(fatal); i++)
                (void)sigaction(fatal[i], &action, NULL);
        saved.raw = 1;
        if (tcsetattr(fd, TCSANOW, &t) < 0) {
                int code = errno;
                session_term_restore();
                return -code;
        }
        return 0;
}

bool session_term_size(int fd, unsigned *ret_rows, unsigned *ret_cols) {
        struct winsize size;
        if (fd < 0 || ioctl(fd, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
                return false;
        *ret_rows = size.ws_row;
        *ret_cols = size.ws_col;
        return true;
}

static void add_unless_ignored(sigset_t *set, int number) {
        struct sigaction now;
        if (sigaction(number, NULL, &now) == 0 && now.sa_handler != SIG_IGN)
                sigaddset(set, number);
}

int session_signals_begin(bool pty, sigset_t *ret_old) {
        sigset_t set;
        sigemptyset(&set);
        for (size_t i = 0; i < NB_ARRAY_LEN(passed_on); i++)
                add_unless_ignored(&set, passed_on[i]);
        for (size_t i = 0; pty && i < NB_ARRAY_LEN(pty_only); i++)
                add_unless_ignored(&set, pty_only[i]);
        int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (fd < 0)
                return -errno;
        (void)sigprocmask(SIG_BLOCK, &set, ret_old);
        return fd;
}

void session_signals_end(int fd, const sigset_t *old) {
        nb_close(fd);
        (void)sigprocmask(SIG_SETMASK, old, NULL);
}

void session_stop_self(int fd) {
        bool was_raw = saved.raw;
        session_term_restore();
        (void)raise(SIGSTOP);
        if (was_raw)
                (void)session_term_raw(fd);
}
