/* Entry point: global options, the table of verbs, and the hidden names under which the program re-executes itself for the
 * long-lived duties of a box. Nothing else lives here. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "box/conduit.h"
#include "box/supervisor.h"
#include "cli/cli.h"

/* clang-format off */
const struct cli_verb cli_verbs[] = {
        { "init", "[--profile P]...", "write a commented nixbox.yaml for this folder",
          "  -p, --profile P   start from a profile: a built-in one, or a file such as ./profile.yaml\n\n"
          "example:  nixbox init --profile dev", verb_init, false },
        { "up", "[--accept] [--recreate] [--dry-run]", "build what is missing, boot the box, return when a command can run",
          "  --accept    approve what the config reaches beyond its own folder, without asking\n"
          "  --recreate  end the running box first and start anew\n"
          "  --dry-run   show what would be started, and start nothing\n"
          "With -v each phase is shown with its time. A box that runs already is no error.\n\n"
          "example:  nixbox up -v", verb_up, false },
        { "down", "[--all] [--keep-disk]", "end the box; its scratch space goes with it",
          "  --all        every box of yours\n"
          "  --keep-disk  keep the scratch disk (machine.disk) for the next start\n"
          "A box that does not run is no error.\n\n"
          "example:  nixbox down", verb_down, false },
        { "status", "[--json]", "show the boxes that run and what each has",
          "Lists every box of yours, or with -n that one.\n\n"
          "example:  nixbox status --json", verb_status, false },
        { "ps", "[--json]", "the same as status", "example:  nixbox ps", verb_status, true },
        { "run", "[-t|-T] [-e K=V]... [-w DIR] [-u USER] [--rm] CMD | -- ARGV...", "run a command in the box, which is booted if it is not up",
          "  -t, --tty / -T, --no-tty  with or without a terminal inside (default: if stdin and stdout are terminals)\n"
          "  -i, --interactive         accepted; stdin is always passed on\n"
          "  -e, --env K=V             set a variable; -e K passes on the caller's value of K\n"
          "  -w, --workdir DIR         start in this folder (default: the caller's if it is mounted, else home)\n"
          "  -u, --user USER           run as this user of the box\n"
          "  --rm                      end the box afterwards, if it was booted for this\n"
          "One argument is a line for the login shell; after --, the arguments are executed as they are.\n"
          "The exit status is the command's; 128+N if signal N ended it; 125 if nixbox failed, 126 not\n"
          "executable, 127 not found.\n\n"
          "example:  nixbox run \"cd ~/src && make test\" < input > output", verb_run, false },
        { "shell", "[-u USER]", "open an interactive login shell in the box",
          "  -u, --user USER  as this user of the box\n\n"
          "example:  nixbox shell", verb_shell, false },
        { "mount", "SOURCE[:TARGET][:rw|:ro]", "give a folder or file to the running box",
          "Read-only unless :rw is given. TARGET is by default the same path inside. It stays until the box ends.\n\n"
          "example:  nixbox mount ~/data:/data:rw", verb_mount, false },
        { "unmount", "[--force] TARGET", "take a mount back from the running box",
          "  --force  end the box if something inside uses it\n"
          "Succeeds only when nothing inside uses it: what is open inside cannot be revoked.\n\n"
          "example:  nixbox unmount /data", verb_unmount, false },
        { "cp", "SRC DST", "copy files and folders between here and a box",
          "One side is BOX:PATH, or :PATH for the box of the current config; PATH is absolute or starts\n"
          "at the home folder. Names follow docker cp: into a folder that exists, else as DST; SRC/. copies\n"
          "what is in SRC. \"-\" is a tar stream on stdin or stdout. Set-id bits, devices and owners are\n"
          "not copied.\n\n"
          "example:  nixbox cp :src/report.html .", verb_cp, false },
        { "events", "[-f] [--json] [--denied]", "show what happened in the box",
          "  -f, --follow  go on as events come\n"
          "  --json        one JSON object a line\n"
          "  --denied      only what was denied\n\n"
          "example:  nixbox events -f --denied", verb_events, false },
        { "logs", "[-f] [--console]", "show the log of the box and the console of its guest",
          "  -f, --follow  go on as lines come\n"
          "  --console     only the guest's console\n\n"
          "example:  nixbox logs -f", verb_logs, false },
        { "config", "[--json]", "show the resolved config, each value with where it came from",
          "Works also where a start would be refused. The reference of all keys is docs/config.md.\n\n"
          "example:  nixbox config", verb_config, false },
        { "image", "build [--force] | ls | rm IMAGE... | prune", "build, list and remove images",
          "build   makes what nixbox.yaml asks for, where it is missing; with --force makes the guest image again\n"
          "ls      lists the images; rm removes some (by digest, or the first digits of it)\n"
          "prune   removes what this version does not use: older images and runtimes, downloaded packages\n\n"
          "example:  nixbox image build", verb_image, false },
        { "doctor", "[--json]", "what this host can and cannot do, and how to fix it",
          "Exits 0 if a box can start here, 1 if not.\n\n"
          "example:  nixbox doctor", verb_doctor, false },
        { "version", "", "print the version", "", verb_version, false },
        { 0 },
};
/* clang-format on */

static void print_help(void) {
        printf("nixbox: a machine for a coding agent that cannot reach anything it was not given\n\n"
               "usage: nixbox [-n BOX] [-f FILE] [-q] [-v] [--json] VERB …\n\n");
        for (const struct cli_verb *v = cli_verbs; v->name; v++)
                if (!v->hidden)
                        printf("  %-8s %s\n", v->name, v->summary);
        printf("\nexample:  nixbox init && nixbox run \"uname -a\"\nnixbox VERB --help shows a verb's options.\n");
}

int cli_main(int argc, char **argv) {
        struct cli cli = { .color = isatty(STDERR_FILENO) && !getenv("NO_COLOR") };
        (void)signal(SIGPIPE, SIG_IGN);
        int first = cli_global(&cli, argc, argv);
        if (first < 0)
                return CLI_FAILED;
        if (first >= argc || strcmp(argv[first], "help") == 0) {
                print_help();
                return 0;
        }
        for (const struct cli_verb *v = cli_verbs; v->name; v++)
                if (strcmp(v->name, argv[first]) == 0)
                        return v->run(&cli, argc - first, argv + first);
        NB_AUTO_ERROR err = { 0 };
        nb_fail(&err, 22, "there is no verb '%s'", argv[first]);
        nb_hint(&err, "nixbox --help lists the verbs");
        return cli_fail(&err);
}

/* A descriptor that we open must never be taken for one of the standard three that the caller had closed. */
static void fill_standard_descriptors(void) {
        int fd;
        do
                fd = open("/dev/null", O_RDWR);
        while (fd >= 0 && fd <= STDERR_FILENO);
        nb_close(fd);
}

int main(int argc, char **argv) {
        fill_standard_descriptors();
        if (argc > 1 && strcmp(argv[1], "@conduit") == 0)
                return conduit_main(argc - 1, argv + 1);
        if (argc > 1 && strcmp(argv[1], "@supervisor") == 0)
                return supervisor_main();
        return cli_main(argc, argv);
}
