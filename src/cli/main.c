/* Entry point: global options, the table of verbs, and the hidden names under which the program re-executes itself for the
 * long-lived duties of a box. Nothing else lives here. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "box/conduit.h"
#include "box/guard.h"
#include "box/supervisor.h"
#include "cli/cli.h"

/* clang-format off */
const struct cli_verb cli_verbs[] = {
        { "init", "[--profile P]...", "write a commented nixbox.yaml for this folder",
          "  -p, --profile P   start from a profile: a built-in one, or a file such as ./profile.yaml\n\n"
          "example:  nixbox init --profile dev", verb_init, false },
        { "up", "[--accept] [--recreate] [--dry-run]", "build what is missing, boot the box, return when a command can run",
          "  --accept    approve what the config reaches beyond its own folder, without asking\n"
          "  --recreate  end the running box first and start anew; a disk of machine.keep stays\n"
          "  --dry-run   show what would be started, and start nothing\n"
          "With -v each phase is shown with its time. A box that runs already is no error.\n\n"
          "example:  nixbox up -v", verb_up, false },
        { "down", "[--all] [--keep-disk|--delete-disk]", "end the box; its scratch space goes with it",
          "  --all          every box of yours that runs\n"
          "  --keep-disk    keep the scratch disk (machine.disk) for the next start\n"
          "  --delete-disk  remove the disk that is kept (machine.keep, or --keep-disk before)\n"
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
        { "allow", "[--save] HOST...", "let the box reach more, from now on",
          "  --save  write it to nixbox.yaml too; alone where the box does not run\n"
          "HOST is api.example.com (ports 443 and 80), *.example.com, example.com:22,443, or a range of\n"
          "addresses such as 10.1.2.0/24:5432. A rule that denies wins over it.\n\n"
          "example:  nixbox allow --save registry.npmjs.org", verb_allow, false },
        { "deny", "[--save] HOST...", "let the box reach less, from now on; open connections too",
          "  --save  write it to nixbox.yaml too; alone where the box does not run\n"
          "HOST is as for nixbox allow; without ports, all of them. It wins over every rule that allows.\n\n"
          "example:  nixbox deny *.example.com", verb_deny, false },
        { "why", "HOST[:PORT]", "would the box reach a host, by which rule; if not, what would allow it",
          "Exits 0 if it is allowed, 1 if not. A box that does not run is judged by its config.\n\n"
          "example:  nixbox why github.com:22", verb_why, false },
        { "port", "[--remove] [[ADDRESS:]HOSTPORT[:PORT]]", "publish a port of the box on this host; alone, list them",
          "  --remove  stop publishing it\n"
          "ADDRESS is 127.0.0.1 unless it is given, PORT the same as HOSTPORT. It stays until the box ends.\n\n"
          "example:  nixbox port 8080:80", verb_port, false },
        { "attack", "[--list] [--sealed] [PROBE...]", "try to get out of the box, and show what held",
          "  --list    show the probes and what each tries\n"
          "  --sealed  judge as if the config gave nothing: what it does give is then reported as open\n"
          "PROBE is a name, or the first part of several: network. Boots the box if it is not up. Writes only\n"
          "into folders of its own, which it removes. Exits 0 if everything held, 1 if something was open.\n\n"
          "example:  nixbox attack", verb_attack, false },
        { "cp", "SRC DST", "copy files and folders between here and a box",
          "One side is BOX:PATH, or :PATH for the box of the current config; PATH is absolute or starts\n"
          "at the home folder. Names follow docker cp: into a folder that exists, else as DST; SRC/. copies\n"
          "what is in SRC. \"-\" is a tar stream on stdin or stdout. Set-id bits, devices and owners are\n"
          "not copied.\n\n"
          "example:  nixbox cp :src/report.html .", verb_cp, false },
        { "events", "[-f] [--json] [--denied]", "show what happened in the box",
          "  -f, --follow  go on as events come\n"
          "  --json        one JSON object a line\n"
          "  --denied      only what was denied\n"
          "Each decision about the network is a line: when, what, where to, by which rule or why not, bytes.\n\n"
          "example:  nixbox events -f --denied", verb_events, false },
        { "review", "[--json] | --allow PATH...", "what the box wanted to change of the files that this host runs",
          "  --allow  let the box change these paths (and what is below them) until it goes down\n"
          "Lists what was refused under protect: the path, what was asked for, why not, how often, when last.\n"
          "PATH is on this host, and need not be there yet.\n\n"
          "example:  nixbox review --allow .vscode/settings.json", verb_review, false },
        { "logs", "[-f] [--console]", "show the log of the box and the console of its guest",
          "  -f, --follow  go on as lines come\n"
          "  --console     only the guest's console\n\n"
          "example:  nixbox logs -f", verb_logs, false },
        { "config", "[--json]", "show the resolved config, each value with where it came from",
          "Works also where a start would be refused. The reference of all keys is docs/config.md.\n\n"
          "example:  nixbox config", verb_config, false },
        { "image", "build [--force] | lock | update [PACKAGE...] | verify | ls | rm IMAGE... | prune | sbom",
          "build, pin, list, describe and remove images",
          "build   makes what nixbox.yaml asks for, where it is missing; with --force makes the guest image again,\n"
          "        and what was changed in the store\n"
          "lock    resolves it anew and writes nixbox.lock, which pins every package\n"
          "update  moves all of nixbox.lock on, or some packages and what they need, and prints what changed\n"
          "verify  builds what nixbox.lock names once more, compares, and names the first file that differs\n"
          "ls      lists the images, their age and the boxes that use them\n"
          "rm      removes some (by the first digits of the digest); with --force also one that a box uses\n"
          "prune   removes what neither a box nor this version uses: older images and runtimes, downloads\n"
          "sbom    prints what the image is made of (SPDX); with --licenses the licences of its packages\n\n"
          "example:  nixbox image build", verb_image, false },
        { "volume", "ls | rm NAME...", "list and remove the volumes that boxes keep and share",
          "ls  lists them: size, and the boxes that use each now\n"
          "rm  removes some, with all that is in them; not while a box uses it\n"
          "A volume is made when a box starts whose config names it under volumes.\n\n"
          "example:  nixbox volume rm npm-cache", verb_volume, false },
        { "doctor", "[--json]", "what this host can and cannot do, and how to fix it",
          "Exits 0 if a box can start here, 1 if not.\n\n"
          "example:  nixbox doctor", verb_doctor, false },
        { "version", "", "print the version", "", verb_version, false },
        { 0 },
};
/* clang-format on */

/* Names that are kept for verbs to come, so that nobody's script gives them another meaning. */
static bool is_reserved(const char *name) {
        static const char *const reserved[] = { "watch", "learn" };
        for (size_t i = 0; i < NB_ARRAY_LEN(reserved); i++)
                if (strcmp(name, reserved[i]) == 0)
                        return true;
        return false;
}

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
        if (is_reserved(argv[first]))
                nb_fail(&err, ENOTSUP, "'%s' is not yet supported", argv[first]);
        else
                nb_fail(&err, EINVAL, "there is no verb '%s'", argv[first]);
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
        if (argc > 1 && strcmp(argv[1], "@guard") == 0)
                return guard_main(argc - 1, argv + 1);
        if (argc > 1 && strcmp(argv[1], "@supervisor") == 0)
                return supervisor_main();
        return cli_main(argc, argv);
}
