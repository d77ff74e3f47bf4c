/* Unit tests of approvals: what needs one, what widens, what a box may have changed, and that approved bytes are what runs. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/proc.h"
#include "config/approval.h"
#include "config/hostrun.h"
#include "config/reach.h"
#include "scratch.h"

#define OUTPUT_MAX 4096

static char dir[SCRATCH_PATH]; /* home; the project lies in home/p, nixbox's own folders in home/own */
static int saved_stderr = -1;

static int set_up(void **state) {
        (void)state;
        if (scratch_enter(dir, "p") < 0)
                return -1;
        /* what is shown to the owner goes into a file */
        saved_stderr = dup(STDERR_FILENO);
        NB_AUTO_CLOSE int fd = open("../stderr", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        return fd < 0 || dup2(fd, STDERR_FILENO) < 0 ? -1 : 0;
}

static int tear_down(void **state) {
        (void)state;
        (void)dup2(saved_stderr, STDERR_FILENO);
        saved_stderr = nb_close(saved_stderr);
        return scratch_leave(dir);
}

static void put(const char *name, const char *text, mode_t mode) {
        assert_int_equal(nb_write_file_atomic(name, text, strlen(text), mode), 0);
}

/* Loads this text as p/nixbox.yaml and asks without a terminal. */
static int check(const char *text, enum approval_ask ask) {
        NB_AUTO_ERROR err = { 0 };
        __attribute__((cleanup(config_freep))) struct config *c = NULL;
        put("nixbox.yaml", text, 0644);
        if (config_load("nixbox.yaml", false, &c, &err) < 0)
                fail_msg("%s: %s", text, err.what);
        return approval_check(c, ask, &err);
}

static char *shown(void) {
        char *text = NULL;
        assert_int_equal(nb_read_file("../stderr", 1u << 20, &text, NULL), 0);
        return text;
}

#define OFF "network: {mode: off}\n"

static void test_what_needs_one(void **state) {
        (void)state;
        static const char *const free_of_it[] = {
                "name: a\n",
                OFF "mounts: [{source: ., write: true}, {source: ./sub, target: /x}]\n",
                "network: {allow: [x.org, '*.y.org', {host: z.org, ports: [22]}]}\n",
                OFF "env: {A: b}\nsetup: [make]\n",
                "network: {deny: [{cidr: 10.0.0.0/8}, x.org]}\n",
                "network: {allow: [{host: x.org, limit: 1M}]}\n",
                "ports: ['8080:80', '127.0.0.2:3000:3000', '[::1]:80:80']\n",
        };
        static const char *const beyond[] = {
                OFF "mounts: [{source: ..}]\n",
                OFF "mounts: [{source: /usr}]\n",
                OFF "volumes: {npm-cache: ~/.npm}\n",
                OFF "hooks: {pre-up: [date]}\n",
                OFF "hooks: {post-down: [date]}\n",
                OFF "secrets: [{name: A, from: env}]\n",
                OFF "secrets: [{name: A, from: 'command:date'}]\n",
                "network: {mode: open}\n",
                "network: {allow: [{host: x.org, private: true}]}\n",
                "network: {allow: [{cidr: 10.0.0.0/8}]}\n",
                "network: {allow: [{host: host.nixbox.internal, ports: [11434]}]}\n",
                "ports: ['0.0.0.0:8080:80']\n",
                "ports: ['192.168.1.2:8080:80']\n",
                "ports: ['[::]:8080:80']\n",
                "image: {base: 'dir:/usr'}\n",
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(free_of_it); i++) {
                assert_int_equal(nb_remove_tree(AT_FDCWD, "../own"), 0);
                assert_int_equal(check(free_of_it[i], APPROVAL_REFUSE), 0);
        }
        for (size_t i = 0; i < NB_ARRAY_LEN(beyond); i++) {
                assert_int_equal(nb_remove_tree(AT_FDCWD, "../own"), 0);
                if (check(beyond[i], APPROVAL_ASK_TERMINAL) != -EPERM)
                        fail_msg("not asked: %s", beyond[i]);
                assert_int_equal(check(beyond[i], APPROVAL_ACCEPT), 0);
                assert_int_equal(check(beyond[i], APPROVAL_REFUSE), 0);
        }
        /* a link inside that leads outside is outside */
        assert_int_equal(symlink("/usr", "inside"), 0);
        assert_int_equal(check(OFF "mounts: [{source: inside}]\n", APPROVAL_REFUSE), -EPERM);
}

static void test_network_shown(void **state) {
        (void)state;
        assert_int_equal(
            check("network: {allow: [x.org, {host: '*.y.org', ports: [443, 22], limit: 10M}, {host: z.org, private: true},"
                  " {cidr: 10.0.0.0/8}, {host: host.nixbox.internal, ports: [11434]}], deny: [bad.y.org]}\n"
                  "ports: ['8080:80', '0.0.0.0:80:80']\n",
                  APPROVAL_ASK_TERMINAL),
            -EPERM);
        static const char *const lines[] = {
                "    connect to x.org\n",
                "    connect to *.y.org:22,443, sending at most 10M\n",
                "  * connect to z.org, private addresses too\n",
                "  * connect to 10.0.0.0/8\n",
                "  * connect to host.nixbox.internal:11434 (this host itself)\n",
                "    be reached from this host at 127.0.0.1:8080 (port 80 of the box)\n",
                "  * be reached from other machines at 0.0.0.0:80 (port 80 of the box)\n",
        };
        NB_AUTO_FREE char *text = shown();
        for (size_t i = 0; i < NB_ARRAY_LEN(lines); i++)
                if (!strstr(text, lines[i]))
                        fail_msg("no line: %s\n%s", lines[i], text);
}

static void test_widening(void **state) {
        (void)state;
        assert_int_equal(check(OFF "mounts: [{source: /usr, write: true}]\nsecrets: [{name: A, from: env}]\n", APPROVAL_ACCEPT),
                         0);
        /* narrower: not asked */
        assert_int_equal(check(OFF "mounts: [{source: /usr}]\nsecrets: [{name: A, from: env}]\n", APPROVAL_REFUSE), 0);
        assert_int_equal(check(OFF "mounts: [{source: /usr}]\nenv: {B: c}\n", APPROVAL_REFUSE), 0);
        /* and back again: asked, with the difference */
        assert_int_equal(check(OFF "mounts: [{source: /usr, write: true}]\n", APPROVAL_ASK_TERMINAL), -EPERM);
        NB_AUTO_FREE char *text = shown();
        assert_non_null(strstr(text, "+ mounts: {\"source\": \"/usr\", \"target\": \"/usr\", \"write\": true}"));
        assert_non_null(strstr(text, "- env.B: c"));
        assert_non_null(strstr(text, "* see and change /usr (as /usr)"));
        assert_int_equal(check(OFF "mounts: [{source: /usr}]\nhooks: {pre-up: [date]}\n", APPROVAL_REFUSE), -EPERM);
}

#define USR "mounts: [{source: /usr}]\n" /* beyond the folder, so that a widening is asked about */

struct change {
        const char *from, *to;
        const char *shown; /* NULL: not a widening */
};

static void check_changes(const struct change *changes, size_t n) {
        for (size_t i = 0; i < n; i++) {
                NB_AUTO_FREE char *from = nb_asprintf(USR "%s\n", changes[i].from);
                NB_AUTO_FREE char *to = nb_asprintf(USR "%s\n", changes[i].to);
                assert_int_equal(check(from, APPROVAL_ACCEPT), 0);
                assert_int_equal(truncate("../stderr", 0), 0);
                int r = check(to, APPROVAL_ASK_TERMINAL);
                NB_AUTO_FREE char *text = shown();
                if (r != (changes[i].shown ? -EPERM : 0) || (changes[i].shown && !strstr(text, changes[i].shown)))
                        fail_msg("%s -> %s: %d\n%s", changes[i].from, changes[i].to, r, text);
        }
}

static void test_network_widening(void **state) {
        (void)state;
#define BASE "network: {allow: ['*.x.org', {host: y.org, ports: [22, 443]}]}"
        static const struct change changes[] = {
                { BASE, "network: {allow: [a.x.org, {host: y.org, ports: [22]}]}", NULL },
                { BASE, "network: {allow: [{host: b.a.x.org, methods: [GET], paths: [/a]}]}", NULL },
                { BASE, "network: {mode: off, allow: [z.org]}", NULL },
                { BASE, "network: {allow: ['*.a.x.org', '*.b.a.x.org', {host: y.org, ports: [22, 443], limit: 1M}]}", NULL },
                { BASE, "network: {allow: [x.org]}", "connect to x.org port 443\n" },
                { BASE, "network: {allow: [{host: a.x.org, ports: [22]}]}", "connect to a.x.org port 22\n" },
                { BASE, "network: {allow: [{host: y.org, ports: [80]}]}", "connect to y.org port 80\n" },
                { BASE, "network: {allow: ['*.y.org']}", "connect to *.y.org port 443\n" },
                { BASE, "network: {allow: [{host: a.x.org, private: true}]}",
                  "* connect to a.x.org port 443, private addresses" },
                { BASE, "network: {mode: open}", "* connect to any public address\n" },
                { BASE, "network: {allow: [{host: host.nixbox.internal, ports: [1]}]}",
                  "* connect to host.nixbox.internal port 1 (this host itself)\n" },
                { "network: {mode: open}", "network: {allow: [x.org, {host: y.org, ports: [1, 2]}]}", NULL },
                { "network: {mode: open}", "network: {mode: open, allow: [{host: x.org, limit: 1M}]}", NULL },
                { "network: {mode: open}", "network: {mode: open, allow: [{host: x.org, private: true}]}",
                  "* connect to x.org port" },
                { "network: {mode: open}", "network: {allow: [{host: host.nixbox.internal, ports: [1]}]}",
                  "* connect to host." },
                /* a name that nothing tells apart from others must not be taken for one that is known */
                { "network: {allow: [n0.x.org, n1.x.org]}", "network: {allow: ['*.x.org']}", "connect to *.x.org port 443\n" },
                { "network: {allow: [{cidr: 10.0.0.0/8, ports: [1, 2]}]}",
                  "network: {allow: [{cidr: 10.1.0.0/16, ports: [2]}]}", NULL },
                { "network: {allow: [{cidr: 10.1.0.0/16}]}", "network: {allow: [{cidr: 10.0.0.0/8}]}",
                  "* connect to 10.0.0.0/8 port" },
                { "network: {allow: [{cidr: 10.1.0.0/16}]}", "network: {allow: [{cidr: 10.1.0.0/16, ports: [22]}]}",
                  "connect to 10.1.0.0/16 port 22\n" },
                { "network: {allow: [{host: a.org, private: true}]}", "network: {allow: [a.org]}", NULL },
                /* the more specific rule counts, so taking it away can widen */
                { "network: {allow: [{host: '*.x.org', private: true}, a.x.org]}",
                  "network: {allow: [{host: '*.x.org', private: true}]}",
                  "connect to a.x.org port 443, private addresses too\n" },
        };
        check_changes(changes, NB_ARRAY_LEN(changes));
}

static void test_denials(void **state) {
        (void)state;
#define DENIED "network: {allow: ['*.x.org', y.org], deny: [bad.x.org, {host: y.org, ports: [80]}]}"
        static const struct change changes[] = {
                { DENIED, DENIED "\nenv: {A: b}", NULL },
                { DENIED, "network: {allow: ['*.x.org', y.org], deny: ['*.x.org', y.org]}", NULL },
                { DENIED, "network: {allow: [y.org], deny: [{host: y.org, ports: [80]}]}",
                  NULL }, /* it is not reached at all */
                { DENIED, "network: {allow: ['*.x.org', y.org], deny: [{host: y.org, ports: [80]}]}",
                  "connect to bad.x.org port 443, which was denied\n" },
                { DENIED, "network: {allow: ['*.x.org', y.org], deny: [bad.x.org]}",
                  "connect to y.org port 80, which was denied\n" },
                { DENIED, "network: {allow: ['*.x.org', y.org], deny: [{host: bad.x.org, ports: [443]}, y.org]}",
                  "connect to bad.x.org port 80, which was denied\n" },
                { DENIED, "network: {mode: off}", NULL },
                { "network: {mode: open, deny: ['*.x.org']}", "network: {mode: open}",
                  "connect to *.x.org, which was denied\n" },
                { "network: {mode: open, deny: ['*.x.org']}", "network: {mode: open, deny: ['*.org']}", NULL },
                { "network: {mode: open, deny: ['*.org']}", "network: {mode: open, deny: ['*.x.org']}",
                  "connect to *.org, which was denied\n" },
                { "network: {mode: open, deny: [x.org]}", "network: {mode: open, deny: [{host: x.org, ports: [443, 80]}]}",
                  "connect to x.org, which was denied\n" },
                { "network: {mode: open, deny: [x.org]}", "network: {allow: [x.org]}",
                  "connect to x.org port 443, which was denied\n" },
                { "network: {mode: open, deny: [{cidr: 1.0.0.0/8}]}", "network: {mode: open, deny: [{cidr: 1.1.0.0/16}]}",
                  "connect to 1.0.0.0/8, which was denied\n" },
                { "network: {mode: open, deny: [{cidr: 1.1.0.0/16, ports: [5]}]}",
                  "network: {mode: open, deny: [{cidr: 1.0.0.0/8}]}", NULL },
                { "network: {allow: [x.org], deny: [{cidr: 1.0.0.0/8}]}", "network: {allow: [x.org]}",
                  "1.0.0.0/8, which was denied\n" },
                { "network: {allow: [x.org], deny: [{cidr: 1.0.0.0/8}]}", "network: {allow: []}", NULL },
        };
        check_changes(changes, NB_ARRAY_LEN(changes));
}

static void test_limits(void **state) {
        (void)state;
#define LIMITED "network: {allow: [{host: '*.x.org', ports: [22, 443], limit: 10M}]}"
        static const struct change changes[] = {
                { LIMITED, "network: {allow: [{host: '*.x.org', ports: [22], limit: 10240K}]}", NULL },
                { LIMITED,
                  "network: {allow: [{host: a.x.org, limit: 5M, ports: [22]}, {host: b.x.org, ports: [22, 443], limit: 5M}]}",
                  NULL },
                { LIMITED,
                  "network: {allow: [{host: a.x.org, limit: 6M, ports: [22]}, {host: b.x.org, ports: [22, 443], limit: 5M}]}",
                  "connect to b.x.org port 22, sending at most 5.0M, where less could be sent\n" },
                { LIMITED, "network: {allow: [{host: '*.x.org', ports: [22], limit: 11M}]}", "sending at most 11M" },
                { LIMITED, "network: {allow: [{host: '*.x.org', ports: [22, 443]}]}",
                  "connect to *.x.org port 22, where less could be sent\n" },
                { LIMITED, "network: {mode: open}", "any public" },
                { "network: {mode: open, allow: [{host: a.org, limit: 1M}]}", "network: {mode: open}",
                  "connect to a.org port 443, where less could be sent\n" },
                { "network: {allow: ['*.x.org', {host: a.x.org, limit: 1M}]}", "network: {allow: ['*.x.org']}",
                  "connect to a.x.org port 443, where less could be sent\n" },
                { "network: {allow: [{cidr: 10.0.0.0/8, limit: 1M}]}", "network: {allow: [{cidr: 10.1.0.0/16, limit: 1M}]}",
                  NULL },
                { "network: {allow: [{cidr: 10.0.0.0/8, limit: 1M}]}", "network: {allow: [{cidr: 10.0.0.0/8}]}",
                  "10.0.0.0/8 port 443\n" },
                { "network: {allow: [{cidr: 10.0.0.0/8, limit: 1M}]}",
                  "network: {allow: [{cidr: 10.1.0.0/16, limit: 1M}, {cidr: 10.2.0.0/16, limit: 1}]}",
                  "10.2.0.0/16 port 443, sending" },
        };
        check_changes(changes, NB_ARRAY_LEN(changes));
}

static void test_port_widening(void **state) {
        (void)state;
        static const struct change changes[] = {
                { "ports: ['8080:80']", "ports: [127.0.0.1:8080:80]", NULL },
                { "ports: ['8080:80', '1']", "ports: ['1']", NULL },
                { "ports: ['8080:80']", "ports: ['8080:81']",
                  "be reached from this host at 127.0.0.1:8080 (port 81 of the box)\n" },
                { "ports: ['8080:80']", "ports: ['0.0.0.0:8080:80']",
                  "* be reached from other machines at 0.0.0.0:8080 (port 80" },
                { "ports: ['0.0.0.0:8080:80']", "ports: ['8080:80']", NULL },
                { "ports: ['[::]:8080:80']", "ports: ['[::1]:8080:80']", NULL },
        };
        check_changes(changes, NB_ARRAY_LEN(changes));
}

static void test_protect_widening(void **state) {
        (void)state;
        static const struct change changes[] = {
                { "env: {A: b}", "protect: [default]", NULL },
                { "env: {A: b}", "protect: [default, mine]", NULL },
                { "protect: [default, mine]", "protect: [default]", NULL }, /* an owner's own entry is no promise of ours */
                { "env: {A: b}", "protect: [default, '!.envrc']", "* change .envrc, which programs of this host run\n" },
                { "protect: [default, '!.envrc']", "protect: [default]", NULL },
                { "env: {A: b}", "protect: [mine]", "* change .git/hooks/**, which programs of this host run\n" },
                { "protect: [default, '!.envrc']", "protect: []", "* change files that programs of this host run" },
                { "protect: []", "protect: [default, '!.envrc']", NULL },
                { "protect: []", "protect: [mine]", NULL },
        };
        check_changes(changes, NB_ARRAY_LEN(changes));
}

static void test_too_many_rules(void **state) {
        (void)state;
        NB_AUTO_FREE char *text = nb_strdup(USR "network:\n  allow:\n");
        for (unsigned i = 0; i < 900; i++) {
                char *more = nb_asprintf("%s    - {host: h%u.org, ports: [%u, %u]}\n", text, i, i + 1, i + 1001);
                free(text);
                text = more;
        }
        assert_int_equal(check(text, APPROVAL_ACCEPT), 0);
        NB_AUTO_FREE char *less = nb_asprintf("%sports: ['80']\n", text);
        assert_int_equal(check(less, APPROVAL_ASK_TERMINAL), -EPERM);
        NB_AUTO_FREE char *seen = shown();
        assert_non_null(strstr(seen, "too many rules to compare"));
}

static void test_in_writable_mount(void **state) {
        (void)state;
        static const char first[] = OFF "mounts: [{source: ., write: true}]\n";
        assert_int_equal(check(first, APPROVAL_REFUSE), 0);
        assert_int_equal(check(first, APPROVAL_REFUSE), 0);
        assert_int_equal(check("# a remark\n" OFF "mounts: [{source: ., write: true}]\n", APPROVAL_REFUSE), 0);
        assert_int_equal(check(OFF "mounts: [{source: ., write: true}]\nsetup: [make]\n", APPROVAL_REFUSE), -EPERM);
        /* also when the change takes the mount's writability away, which is what a guest would do first */
        assert_int_equal(check(OFF "mounts: [{source: .}]\nsetup: [make]\n", APPROVAL_REFUSE), -EPERM);
        /* and later as well: a box may still run that can write here */
        assert_int_equal(check(OFF "mounts: [{source: .}]\n", APPROVAL_ACCEPT), 0);
        assert_int_equal(check(OFF "mounts: [{source: .}]\nsetup: [make]\n", APPROVAL_REFUSE), -EPERM);
}

static void test_other_box_can_write(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        __attribute__((cleanup(config_freep))) struct config *other = NULL;
        assert_int_equal(check(OFF, APPROVAL_REFUSE), 0);
        assert_int_equal(check(OFF "setup: [make]\n", APPROVAL_REFUSE), 0);
        assert_int_equal(mkdir("../q", 0755), 0);
        put("../q/nixbox.yaml", OFF "mounts: [{source: .., write: true}]\n", 0644);
        assert_int_equal(config_load("../q/nixbox.yaml", false, &other, &err), 0);
        assert_int_equal(approval_check(other, APPROVAL_ACCEPT, &err), 0);
        assert_int_equal(check(OFF "setup: [make all]\n", APPROVAL_REFUSE), -EPERM);
}

static void test_note_writable(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_FREE char *project = nb_path_join(dir, "p");
        NB_AUTO_FREE char *file = nb_path_join(project, "nixbox.yaml");
        assert_int_equal(check(OFF, APPROVAL_REFUSE), 0);
        assert_int_equal(approval_note_writable(file, project, &err), 0);
        assert_int_equal(check(OFF, APPROVAL_REFUSE), 0);
        assert_int_equal(check(OFF "setup: [make]\n", APPROVAL_REFUSE), -EPERM);
}

static struct config *load_text(const char *text) {
        NB_AUTO_ERROR err = { 0 };
        struct config *c = NULL;
        put("nixbox.yaml", text, 0644);
        if (config_load("nixbox.yaml", false, &c, &err) < 0)
                fail_msg("%s: %s", text, err.what);
        return c;
}

#define OUTSIDE "mounts: [{source: .., write: true}]\nnetwork: "

/* The approval of a config that a box can write goes along with a rule that its owner added, and with nothing else. */
static void test_follow(void **state) {
        (void)state;
        static const struct {
                const char *from, *to;
                int expect;
        } cases[] = {
                { OUTSIDE "{allow: [a.org]}\n", OUTSIDE "{allow: [a.org, x.org]}\n", 1 },
                { OUTSIDE "{allow: []}\n", OUTSIDE "{allow: [x.org]}\n", 1 },
                { OUTSIDE "{deny: [x.org, b.org]}\n", OUTSIDE "{allow: [x.org], deny: [b.org]}\n", 1 },
                { OUTSIDE "{allow: [a.org]}\n", OUTSIDE "{allow: [a.org]}\n", 1 },
                { OUTSIDE "{allow: [a.org]}\n", OUTSIDE "{allow: [a.org, x.org, y.org]}\n", 0 },
                { OUTSIDE "{allow: [a.org]}\n", OUTSIDE "{allow: [a.org, {host: x.org, ports: [22]}]}\n", 0 },
                { OUTSIDE "{allow: [a.org]}\n", OUTSIDE "{allow: [a.org, {host: x.org, private: true}]}\n", 0 },
                { OUTSIDE "{allow: [a.org]}\n", OUTSIDE "{allow: [a.org, x.org, {host: y.org, methods: [GET]}]}\n", 0 },
                { OUTSIDE "{allow: [a.org], deny: [b.org]}\n", OUTSIDE "{allow: [a.org, x.org]}\n", 0 },
                { OUTSIDE "{allow: [a.org]}\n", OUTSIDE "{mode: open, allow: [a.org, x.org]}\n", 0 },
                { OUTSIDE "{allow: [a.org]}\n", OUTSIDE "{allow: [a.org, x.org]}\nhooks: {pre-up: [date]}\n", 0 },
                { OUTSIDE "{allow: [a.org]}\n", OUTSIDE "{allow: [a.org, x.org]}\nports: ['0.0.0.0:80:80']\n", 0 },
        };
        NB_AUTO_ERROR err = { 0 };
        struct policy_rule asked = { 0 };
        assert_int_equal(policy_rule_parse("x.org", false, &asked, &err), 0);
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                assert_int_equal(nb_remove_tree(AT_FDCWD, "../own"), 0);
                assert_int_equal(check(cases[i].from, APPROVAL_ACCEPT), 0);
                __attribute__((cleanup(config_freep))) struct config *from = load_text(cases[i].from),
                                                                     *to = load_text(cases[i].to);
                if (approval_follow(from, to, &asked, 1, &err) != cases[i].expect)
                        fail_msg("%s -> %s", cases[i].from, cases[i].to);
                assert_int_equal(approval_check(to, APPROVAL_REFUSE, &err), cases[i].expect ? 0 : -EPERM);
                nb_error_clear(&err);
        }
        policy_rule_clear(&asked);
}

static void test_scripts(void **state) {
        (void)state;
        static const char config[] = OFF "hooks: {pre-up: [./hook.sh a]}\n";
        put("hook.sh", "#!/bin/sh\necho one $1\n", 0755);
        assert_int_equal(check(config, APPROVAL_ACCEPT), 0);
        assert_int_equal(check(config, APPROVAL_REFUSE), 0);
        put("hook.sh", "#!/bin/sh\necho two $1\n", 0755);
        assert_int_equal(check(config, APPROVAL_REFUSE), -EPERM);
        assert_int_equal(check(config, APPROVAL_ACCEPT), 0);
        /* the same for a file further on the line */
        put("data", "1", 0644);
        assert_int_equal(check(OFF "hooks: {pre-up: ['cat --x=./data']}\n", APPROVAL_ACCEPT), 0);
        put("data", "2", 0644);
        assert_int_equal(check(OFF "hooks: {pre-up: ['cat --x=./data']}\n", APPROVAL_REFUSE), -EPERM);
}

/* What nix evaluates is a program of the host's, too. */
static void test_nix_files(void **state) {
        (void)state;
        static const char file[] = OFF "image: {base: 'nix:./box.nix'}\n", flake[] = OFF "image: {base: 'nix:./f#x'}\n";
        put("box.nix", "1", 0644);
        assert_int_equal(check(file, APPROVAL_ACCEPT), 0);
        assert_int_equal(check(file, APPROVAL_REFUSE), 0);
        put("box.nix", "2", 0644);
        assert_int_equal(check(file, APPROVAL_REFUSE), -EPERM);
        assert_int_equal(nb_mkdirs("f", 0755), 0);
        put("f/flake.nix", "1", 0644);
        assert_int_equal(check(flake, APPROVAL_ACCEPT), 0);
        assert_int_equal(check(flake, APPROVAL_REFUSE), 0);
        put("f/flake.lock", "{}", 0644);
        assert_int_equal(check(flake, APPROVAL_REFUSE), -EPERM);
}

/* A lock is no reason to ask, and neither is another one, unless a box could have written it. */
static void test_lock(void **state) {
        (void)state;
        static const char plain[] = OFF, approved[] = OFF "hooks: {pre-up: [date]}\n",
                          writable[] = OFF "mounts: [{source: ., write: true}]\n";
        put("nixbox.lock", "1", 0644);
        assert_int_equal(check(plain, APPROVAL_REFUSE), 0);
        assert_int_equal(check(approved, APPROVAL_ACCEPT), 0);
        put("nixbox.lock", "2", 0644);
        assert_int_equal(check(approved, APPROVAL_REFUSE), 0);
        assert_int_equal(check(plain, APPROVAL_REFUSE), 0);
        assert_int_equal(check(writable, APPROVAL_ACCEPT), 0);
        assert_int_equal(check(writable, APPROVAL_REFUSE), 0);
        put("nixbox.lock", "3", 0644);
        assert_int_equal(check(writable, APPROVAL_REFUSE), -EPERM);
        assert_int_equal(check(writable, APPROVAL_ACCEPT), 0);
        assert_int_equal(check(writable, APPROVAL_REFUSE), 0);
}

static void test_profile_content(void **state) {
        (void)state;
        put("own.yaml", OFF, 0644);
        static const char config[] = "profiles: [./own.yaml]\nmounts: [{source: ., write: true}]\n";
        assert_int_equal(check(config, APPROVAL_REFUSE), 0);
        put("own.yaml", OFF "setup: [make]\n", 0644);
        assert_int_equal(check(config, APPROVAL_REFUSE), -EPERM);
}

static void test_damaged_record(void **state) {
        (void)state;
        assert_int_equal(check(OFF "hooks: {pre-up: [date]}\n", APPROVAL_ACCEPT), 0);
        static const char *const empty_all[] = { "sh", "-c", "for f in ../own/nixbox/approvals/*; do echo '{' > $f; done",
                                                 NULL };
        struct proc_spec spec = { .argv = (char *const *)empty_all, .stdout_fd = -1, .stderr_fd = -1 };
        assert_int_equal(proc_run(&spec, NULL, NULL, NULL), 0);
        assert_int_equal(check(OFF, APPROVAL_REFUSE), -EPERM);
        assert_int_equal(check(OFF, APPROVAL_ACCEPT), 0);
}

static void test_record_is_private(void **state) {
        (void)state;
        struct stat st;
        assert_int_equal(check(OFF, APPROVAL_REFUSE), 0);
        assert_int_equal(stat("../own/nixbox/approvals", &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
}

static void run(const struct config *c, const struct config_hook *h, const char *want) {
        NB_AUTO_ERROR err = { 0 };
        struct approval_command cmd = { 0 };
        NB_AUTO_FREE char *out = NULL;
        if (approval_command(c, h->command, h->dir, &cmd, &err) < 0)
                fail_msg("%s", err.what);
        struct proc_spec spec = {
                .argv = cmd.argv, .dir = cmd.dir, .output_max = OUTPUT_MAX, .stdout_fd = -1, .stderr_fd = -1
        };
        int r = proc_run(&spec, &out, NULL, &err);
        approval_command_clear(&cmd);
        if (r < 0)
                fail_msg("%s", err.what);
        assert_string_equal(out, want);
}

static void test_approved_bytes_run(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        __attribute__((cleanup(config_freep))) struct config *c = NULL;
        put("hook.sh", "#!/bin/sh\necho good \"$@\"\n", 0755);
        put("plain", "echo no interpreter named\n", 0755);
        put("data", "old\n", 0644);
        put("nixbox.yaml",
            OFF "hooks:\n  pre-up:\n  - X=1 './hook.sh' a 'b c' | cat && ./plain\n  - cat data\n  - echo $PWD ./data > "
                "/dev/null; pwd\n",
            0644);
        if (config_load("nixbox.yaml", false, &c, &err) < 0)
                fail_msg("%s", err.what);
        assert_int_equal(c->n_files, 3);
        put("hook.sh", "#!/bin/sh\necho evil\n", 0755);
        put("plain", "echo evil\n", 0755);
        run(c, &c->pre_up[0], "good a b c\nno interpreter named\n");
        run(c, &c->pre_up[1], "old\n");
        NB_AUTO_FREE char *where = nb_asprintf("%s/p\n", dir);
        run(c, &c->pre_up[2], where);
        put("data", "new\n", 0644);
        struct approval_command cmd = { 0 };
        assert_int_equal(approval_command(c, c->pre_up[1].command, c->pre_up[1].dir, &cmd, &err), -EPERM);
        assert_non_null(strstr(err.what, "has changed since it was approved"));
        assert_int_equal(unlink("data"), 0);
        assert_int_equal(approval_command(c, "cat nixbox.yaml", c->dir, &cmd, &err), -EPERM);
}

static void test_words(void **state) {
        (void)state;
        struct hostrun_word w[8];
        static const char text[] = "A=1 \"./a b\".sh x'y'\\ z; ./c >out $D/e";
        static const struct {
                const char *text;
                bool command, plain;
        } want[] = { { "A=1", true, true }, { "./a b.sh", true, true }, { "xy z", false, true },
                     { "./c", true, true }, { "out", false, true },     { "$D/e", false, false } };
        assert_int_equal(hostrun_words(text, w, NB_ARRAY_LEN(w)), NB_ARRAY_LEN(want));
        for (size_t i = 0; i < NB_ARRAY_LEN(want); i++) {
                assert_string_equal(w[i].text, want[i].text);
                assert_int_equal(w[i].command, want[i].command);
                assert_int_equal(w[i].plain, want[i].plain);
        }
        hostrun_words_clear(w, NB_ARRAY_LEN(want));
        assert_int_equal(hostrun_words("a b c d e f g h i j", w, 4), 4);
        hostrun_words_clear(w, 4);
}

static void test_diff(void **state) {
        (void)state;
        json_t *old = json_pack("{s:{s:[s,s],s:s}}", "values", "setup", "a", "b", "name", "x");
        json_t *now = json_pack("{s:{s:[s,s],s:s}}", "values", "setup", "b", "c\x1b[31m", "name", "x");
        NB_AUTO_STRV char **diff = reach_diff(old, now);
        assert_int_equal(nb_strv_len(diff), 2);
        assert_string_equal(diff[0], "- setup: a");
        assert_null(reach_diff(now, now));
        json_decref(old);
        json_decref(now);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_what_needs_one, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_network_shown, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_widening, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_network_widening, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_denials, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_limits, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_port_widening, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_protect_widening, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_too_many_rules, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_in_writable_mount, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_other_box_can_write, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_note_writable, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_follow, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_nix_files, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_lock, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_scripts, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_profile_content, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_damaged_record, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_record_is_private, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_approved_bytes_run, set_up, tear_down),
                cmocka_unit_test(test_words),
                cmocka_unit_test(test_diff),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
