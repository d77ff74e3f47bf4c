/* nixbox init: writes a commented nixbox.yaml, once, and approves what it wrote. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "cli/cli.h"
#include "config/approval.h"

#define INIT_MODE 0644

static const char head[] = "# What the box of this folder is made of. docs/config.md explains every key;\n"
                           "# `nixbox config` shows what is in force and where it comes from.\n";

static const char body[] =
    "\n"
    "#image:\n"
    "#  packages: [build-essential, nodejs]  # Debian packages on top of git, curl, ripgrep, python3\n"
    "\n"
    "#machine:                     # the default is all of the host's CPUs and half of its memory\n"
    "#  cpus: 4\n"
    "#  memory: 8G                 # a limit, not a reservation\n"
    "#  disk: 20G                  # scratch space on disk; without it, in memory\n"
    "\n"
    "mounts:                       # what the box sees of this host: this, and nothing else\n"
    "  - source: .                 # relative to this file; at the same path inside\n"
    "    write: true               # without it, read-only\n"
    "\n"
    "network:\n"
    "  mode: filtered              # what `allow` names can be reached, and nothing else. off: no network at all;\n"
    "                              # open: the public internet\n"
    "  allow:                      # known services have profiles: nixbox init --profile github --profile npm\n"
    "    # - api.example.com       # this name only, ports 443 and 80\n"
    "    # - \"*.example.org\"       # any name below it\n"
    "    # - {host: git.example.com, ports: [22, 443]}\n"
    "                              # while the box runs: nixbox events --denied, nixbox allow --save HOST\n"
    "\n"
    "#ports: [\"8080:80\"]          # port 80 of the box as port 8080 of this host\n"
    "\n"
    "#env: {EDITOR: vim}           # plain values; nothing of your own environment goes in by itself\n"
    "\n";

static const char last[] = "#setup: [./scripts/setup.sh]  # inside the box, after each start\n";

/* Profiles of agents: the variable that has the key, and a command to begin with. */
static const struct agent {
        const char *profile, *key, *command;
} agents[] = {
        { "claude-code", "ANTHROPIC_API_KEY", "claude" },
        { "codex", "OPENAI_API_KEY", "codex" },
};

static const struct agent *agent_of(char *const *profiles) {
        for (; profiles && *profiles; profiles++)
                for (size_t i = 0; i < NB_ARRAY_LEN(agents); i++)
                        if (strcmp(*profiles, agents[i].profile) == 0)
                                return &agents[i];
        return NULL;
}

static char *compose(const struct cli *cli, char *const *profiles) {
        const struct agent *agent = agent_of(profiles);
        NB_AUTO_FREE char *name = cli->name ? nb_asprintf("\nname: \"%s\"\n", cli->name) : nb_strdup("");
        NB_AUTO_FREE char *list = nb_strdup("");
        for (; profiles && *profiles; profiles++) {
                char *longer = nb_asprintf("%s%s\"%s\"", list, *list ? ", " : "", *profiles);
                free(list);
                list = longer;
        }
        NB_AUTO_FREE char *line = *list ? nb_asprintf("\nprofiles: [%s]\n", list) : nb_strdup("");
        return nb_asprintf("%s%s%s%s"
                           "#secrets:                     # given to the commands inside, never written down\n"
                           "#  - name: %-18s # the variable inside\n"
                           "#    from: env                # or env:NAME, file:PATH, command:COMMAND\n"
                           "\n%s",
                           head, name, line, body, agent ? agent->key : "API_KEY", last);
}

static int write_new(const char *file, const char *text, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, INIT_MODE);
        if (fd < 0 && errno == EEXIST) {
                nb_fail(err, EEXIST, "%s is there already", file);
                return nb_hint(err, "change it, or remove it first; nixbox config shows what it says");
        }
        int r = fd < 0 ? -errno : nb_write_all(fd, text, strlen(text));
        return r < 0 ? nb_fail_errno(err, -r, "cannot write %s", file) : 0;
}

static int init(const struct cli *cli, const char *file, char *const *profiles, struct nb_error *err) {
        __attribute__((cleanup(config_freep))) struct config *c = NULL;
        NB_AUTO_FREE char *dir = nb_strndup(file, (size_t)(strrchr(file, '/') - file));
        struct config_mount own = { 0 };
        int r = config_parse_mount(".:rw", *dir ? dir : "/", &own, err);
        if (r == -EPERM)
                return nb_hint(err, "run it in the project's own folder");
        if (r < 0)
                return r;
        config_mount_clear(&own);
        NB_AUTO_FREE char *text = compose(cli, profiles);
        r = write_new(file, text, err);
        if (r < 0)
                return r;
        r = config_load(file, false, &c, err);
        if (r == 0)
                r = approval_grant(c, err);
        if (r < 0)
                (void)unlink(file); /* it is as we wrote it a moment ago, and of no use */
        return r;
}

int verb_init(struct cli *cli, int argc, char **argv) {
        static const struct option longs[] = { { "profile", required_argument, NULL, 'p' }, { 0 } };
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_STRV char **profiles = NULL;
        for (int opt; (opt = cli_getopt(cli, argc, argv, "p:", longs)) != -1;) {
                if (opt != 'p')
                        return CLI_FAILED;
                if (strpbrk(optarg, "\"\\\n")) {
                        nb_fail(&err, EINVAL, "'%s' cannot be a profile", optarg);
                        nb_hint(&err, "name a built-in profile, or a file such as ./profile.yaml");
                        return cli_fail(&err);
                }
                nb_strv_add(&profiles, optarg);
        }
        if (optind < argc) {
                nb_fail(&err, EINVAL, "init takes no '%s'", argv[optind]);
                nb_hint(&err, "nixbox init --profile %s adds a profile", argv[optind]);
                return cli_fail(&err);
        }
        NB_AUTO_FREE char *here = getcwd(NULL, 0);
        NB_AUTO_FREE char *joined = nb_path_join(here ? here : "/", cli->file ? cli->file : "nixbox.yaml");
        NB_AUTO_FREE char *file = nb_path_normalize(joined);
        if (init(cli, file, profiles, &err) < 0)
                return cli_fail(&err);
        const struct agent *agent = agent_of(profiles);
        if (!cli->quiet)
                fprintf(stderr,
                        "nixbox: wrote %s\n"
                        "  next:  nixbox up                 boots the box\n"
                        "         nixbox run %-14s runs a command in it, in this folder\n"
                        "         nixbox down               ends it\n",
                        file, agent ? agent->command : "\"uname -a\"");
        return 0;
}
