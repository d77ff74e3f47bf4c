/* The end of the machine: the commands that ask for it, and the last steps. */
#pragma once

/** Runs as `poweroff`, `reboot`, `halt` or `shutdown` if the program was called so. Returns an exit status, or -1 if not. */
int power_command(int argc, char **argv);
/** The word for a signal that those commands send to PID 1, NULL for another. */
const char *power_reason(int signal);
/** Writes everything to disk, for a limited time. */
void power_sync(void);
/** Ends the machine. */
_Noreturn void power_off(const char *reason);
