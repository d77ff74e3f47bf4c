/* Running host hooks (see hooks.h): only through the approval's own preparation, so that what runs is what was approved. */
#include "cli/hooks.h"

#include <unistd.h>

#include "base/proc.h"
#include "config/approval.h"

int hooks_run(const struct config *c, const char *kind, const struct config_hook *hooks, size_t n, struct nb_error *err) {
        for (size_t i = 0; i < n; i++) {
                struct approval_command command = { 0 };
                int r = approval_command(c, hooks[i].command, hooks[i].dir, &command, err);
                if (r == 0) {
                        struct proc_spec spec = {
                                .argv = command.argv, .dir = command.dir, .stdout_fd = STDERR_FILENO, .stderr_fd = STDERR_FILENO
                        };
                        r = proc_run(&spec, NULL, NULL, err);
                }
                approval_command_clear(&command);
                if (r < 0)
                        return nb_context(err, "%s:%u:%u: the %s hook '%s'", hooks[i].pos.file, hooks[i].pos.line,
                                          hooks[i].pos.column, kind, hooks[i].command);
        }
        return 0;
}
