/* The caller's terminal during a session: raw mode, put back on every way out, fatal signals included; and the signals that
 * are taken as events meanwhile. One session at a time in a process. */
#pragma once
#include <signal.h>
#include <stdbool.h>

#include "base/error.h"

/** Puts the terminal `fd` in raw mode. Returns 0 or -errno. */
int session_term_raw(int fd);
/** Puts it back as it was; may be called at any time, any number of times. */
void session_term_restore(void);
/** Rows and columns of the terminal. False if it is none or does not say. */
bool session_term_size(int fd, unsigned *ret_rows, unsigned *ret_cols);
/** From now on the signals a session passes on (those that are not ignored; with `pty` also window changes and SIGTSTP) are
 *  read from the descriptor returned, a struct signalfd_siginfo each. Returns it or -errno; *ret_old is for
 *  session_signals_end(). */
int session_signals_begin(bool pty, sigset_t *ret_old);
void session_signals_end(int fd, const sigset_t *old);
/** Stops this process as SIGTSTP does, with the terminal as it was; returns when it is continued, raw again. */
void session_stop_self(int fd);
