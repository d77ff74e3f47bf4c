/* Unit tests of src/config: documents good and bad, merging, defaults, origins, what is refused at a start. */
#include <errno.h>
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
#include "config/config.h"
#include "scratch.h"

#define AUTO_CONFIG __attribute__((cleanup(config_freep))) struct config

static void put(const char *name, const char *text) {
        NB_AUTO_FREE char *path = nb_path_join(scratch_dir, name);
        NB_AUTO_FREE char *above = nb_strndup(path, (size_t)(strrchr(path, '/') - path));
        assert_int_equal(nb_mkdirs(above, 0755), 0);
        assert_int_equal(nb_write_file_atomic(path, text, strlen(text), 0644), 0);
}

static struct config *load(const char *text, bool for_start) {
        NB_AUTO_ERROR err = { 0 };
        struct config *c = NULL;
        put("nixbox.yaml", text);
        if (config_load("nixbox.yaml", for_start, &c, &err) < 0)
                fail_msg("%s: %s", text, err.what);
        return c;
}

/* The document must be refused with these words in the message and in the hint. */
static void refused(const char *text, bool for_start, const char *what, const char *hint) {
        NB_AUTO_ERROR err = { 0 };
        AUTO_CONFIG *c = NULL;
        put("nixbox.yaml", text);
        int r = config_load("nixbox.yaml", for_start, &c, &err);
        if (r >= 0)
                fail_msg("accepted: %s", text);
        assert_int_equal(r, -err.code);
        if (!strstr(err.what, what))
                fail_msg("%s\n said: %s\n not: %s", text, err.what, what);
        assert_non_null(err.hint);
        if (hint && (!err.hint || !strstr(err.hint, hint)))
                fail_msg("%s\n hinted: %s\n not: %s", text, err.hint ? err.hint : "(nothing)", hint);
}

static void test_full(void **state) {
        (void)state;
        AUTO_CONFIG *c =
            load("name: app\n"
                 "image: {base: debian-13, packages: [ripgrep, git, git]}\n"
                 "machine: {cpus: 3, memory: 1000M, disk: 20G, keep: true, disk-floor: 2G}\n"
                 "mounts:\n"
                 "  - source: .\n"
                 "    target: ~/work\n"
                 "    write: true\n"
                 "  - source: sub/../other\n"
                 "volumes: {npm-cache: ~/.npm, cargo: /srv//cargo/}\n"
                 "network:\n"
                 "  mode: off\n"
                 "env: {EDITOR: vim, PORT: 8080, V: 1.10, W: 'true', Y: yes}\n"
                 "secrets: [{name: A, from: env}, {name: B, from: 'file:~/b'}, {name: C, from: 'command:echo x'}]\n"
                 "setup: [make]\n"
                 "hooks: {pre-up: [date], post-down: ['true']}\n",
                 false);
        assert_string_equal(c->name, "app");
        assert_string_equal(c->dir, scratch_dir);
        assert_string_equal(c->image.packages[0], "git");
        assert_string_equal(c->image.packages[1], "ripgrep");
        assert_null(c->image.packages[2]);
        assert_int_equal(c->cpus, 3);
        assert_int_equal(c->memory, 1000ull << 20);
        assert_int_equal(c->disk, 20ull << 30);
        assert_true(c->keep_disk);
        assert_int_equal(c->disk_floor, 2ull << 30);
        assert_int_equal(c->n_mounts, 2);
        assert_string_equal(c->mounts[0].source, scratch_dir);
        NB_AUTO_FREE char *target = nb_path_join(scratch_dir, "work");
        assert_string_equal(c->mounts[0].target, target);
        assert_true(c->mounts[0].write);
        assert_int_equal(c->mounts[0].pos.line, 5);
        assert_int_equal(c->mounts[0].pos.column, 13);
        NB_AUTO_FREE char *other = nb_path_join(scratch_dir, "other");
        assert_string_equal(c->mounts[1].source, other);
        assert_string_equal(c->mounts[1].target, other);
        assert_false(c->mounts[1].write);
        assert_int_equal(c->n_volumes, 2);
        NB_AUTO_FREE char *npm = nb_path_join(scratch_dir, ".npm");
        assert_string_equal(c->volumes[0].name, "npm-cache");
        assert_string_equal(c->volumes[0].target, npm);
        assert_string_equal(c->volumes[1].target, "/srv/cargo");
        assert_int_equal(c->policy->mode, POLICY_OFF);
        assert_string_equal(c->network_pos.file, "nixbox.yaml");
        static const char *const env[] = { "EDITOR=vim", "PORT=8080", "V=1.10", "W=true", "Y=yes" };
        for (size_t i = 0; i < NB_ARRAY_LEN(env); i++)
                assert_string_equal(c->env[i], env[i]);
        assert_null(c->env[5]);
        assert_int_equal(c->n_secrets, 3);
        assert_int_equal(c->secrets[1].from, CONFIG_SECRET_FILE);
        assert_string_equal(c->secrets[2].arg, "echo x");
        assert_int_equal(c->n_setup, 1);
        assert_int_equal(c->n_pre_up, 1);
        assert_int_equal(c->n_post_down, 1);
        assert_string_equal(c->post_down[0].command, "true");
}

/* A config that names a profile's package again decides which version it is, and which file is a command. */
static void test_npm(void **state) {
        (void)state;
        put("p.yaml", "image: {npm: [zed, '@s/tool@1', 'left'], npm-scripts: ['@s/tool'], npm-bin: {t: zed/a, b: left/x/y}}\n");
        AUTO_CONFIG *c = load("profiles: [./p.yaml]\n"
                              "image: {npm: ['@s/tool@^2.1', JSONStream], npm-scripts: [zed], npm-bin: {t: '@s/tool/bin/t'}}\n",
                              false);
        static const char *const npm[] = { "@s/tool@^2.1", "JSONStream", "left", "zed" };
        assert_int_equal(nb_strv_len(c->image.npm), NB_ARRAY_LEN(npm));
        for (size_t i = 0; i < NB_ARRAY_LEN(npm); i++)
                assert_string_equal(c->image.npm[i], npm[i]);
        assert_int_equal(c->image.n_npm_scripts, 2);
        assert_string_equal(c->image.npm_scripts[0].package, "@s/tool");
        assert_string_equal(c->image.npm_scripts[1].pos.file, "nixbox.yaml");
        assert_int_equal(c->image.n_npm_bin, 2);
        assert_string_equal(c->image.npm_bin[0].command, "b");
        assert_string_equal(c->image.npm_bin[0].package, "left");
        assert_string_equal(c->image.npm_bin[0].file, "x/y");
        assert_string_equal(c->image.npm_bin[1].package, "@s/tool");
        assert_string_equal(c->image.npm_bin[1].file, "bin/t");
        assert_int_equal(c->image.npm_bin[1].pos.line, 2);
}

static void test_defaults(void **state) {
        (void)state;
        static const char *const empty[] = { "", "---\n", "mounts:\nnetwork:\n  allow:\n" };
        for (size_t i = 0; i < NB_ARRAY_LEN(empty); i++)
                config_free(load(empty[i], false));
        /* two ways to leave a list empty are one thing */
        AUTO_CONFIG *same = load("network: {allow: [{host: x.org, methods: }, {host: x.org, methods: []}]}\n", false);
        NB_AUTO_FREE char *shown = config_to_text(same, true);
        assert_null(strstr(shown, "network.allow[1]"));
        AUTO_CONFIG *c = load("# nothing\n", false);
        assert_true(strncmp(c->name, "nixbox-test-", 12) == 0);
        assert_string_equal(c->image.base, "debian-13");
        assert_null(c->image.locale);
        assert_false(c->image.docs);
        assert_int_equal(c->policy->mode, POLICY_FILTERED);
        assert_string_equal(c->network_pos.file, "default");
        assert_true(c->cpus >= 1);
        assert_true(c->memory >= 128u << 20);
        assert_int_equal(c->n_mounts, 0);
        NB_AUTO_FREE char *text = config_to_text(c, false);
        assert_non_null(strstr(text, "# default"));
}

static void test_protect(void **state) {
        (void)state;
        NB_AUTO_FREE char *own = nb_path_join(scratch_dir, "nixbox.yaml");
        NB_AUTO_FREE char *lock = nb_path_join(scratch_dir, "nixbox.lock");
        struct config *c = load("name: a\n", false);
        assert_true(nb_strv_has(c->protect, ".git/hooks/**") && nb_strv_has(c->protect, own) && nb_strv_has(c->protect, lock));
        config_free(c);
        c = load("protect: [default, x/*, \"!.envrc\"]\n", false);
        assert_true(nb_strv_has(c->protect, ".gitmodules") && nb_strv_has(c->protect, "x/*"));
        assert_false(nb_strv_has(c->protect, ".envrc"));
        config_free(c);
        c = load("protect: [x]\n", false);
        assert_true(nb_strv_has(c->protect, "x") && nb_strv_has(c->protect, own) && !nb_strv_has(c->protect, ".envrc"));
        config_free(c);
        c = load("protect: [x, \"!x\"]\n", false);
        assert_null(c->protect);
        config_free(c);
        c = load("protect: []\n", false);
        assert_null(c->protect);
        config_free(c);
}

static void test_box_name(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_FREE char *name = NULL;
        put("My Project_2/nixbox.yaml", "machine: {}\n");
        assert_int_equal(config_box_name("My Project_2/nixbox.yaml", &name, &err), 0);
        assert_string_equal(name, "my-project-2");
        put("nixbox.yaml", "name: stated\nbroken: 1\n");
        NB_AUTO_FREE char *stated = NULL;
        assert_int_equal(config_box_name("nixbox.yaml", &stated, &err), 0);
        assert_string_equal(stated, "stated");
        put("p.yaml", "name: from-profile\n");
        put("nixbox.yaml", "profiles: [./p.yaml]\n");
        NB_AUTO_FREE char *profile = NULL;
        assert_int_equal(config_box_name("nixbox.yaml", &profile, &err), 0);
        assert_string_equal(profile, "from-profile");
}

static void test_find(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        NB_AUTO_FREE char *file = NULL;
        NB_AUTO_FREE char *deep = nb_path_join(scratch_dir, "a/b/c");
        NB_AUTO_FREE char *want = nb_path_join(scratch_dir, "a/nixbox.yaml");
        assert_int_equal(nb_mkdirs(deep, 0755), 0);
        put("a/nixbox.yaml", "");
        assert_int_equal(config_find(deep, &file, &err), 0);
        assert_string_equal(file, want);
        NB_AUTO_FREE char *none = NULL;
        assert_int_equal(config_find("/proc", &none, &err), -ENOENT);
        assert_non_null(strstr(err.hint, "nixbox init"));
}

static void test_refused(void **state) {
        (void)state;
        static const struct {
                const char *text, *what, *hint;
        } cases[] = {
                { "mout: []\n", "nixbox.yaml:1:1: there is no key 'mout'", "did you mean 'mounts'?" },
                { "image: {pakages: [git]}\n", "1:9: there is no key 'pakages' in image", "packages" },
                { "zzzzzzzzzzz: 1\n", "no key 'zzzzzzzzzzz'", "the keys here are: name, profiles, image" },
                { "hide: []\n", "1:1: 'hide' is not yet supported", "reserved" },
                { "protect: a\n", "1:10: protect must be a list", NULL },
                { "protect: [default, a/../b]\n", "1:20: the pattern 'a/../b' holds the name '..'", NULL },
                { "protect: [\"**\"]\n", "is no pattern of protected files", ".envrc" },
                { "protect: [a, \"!b\"]\n", "1:14: protect: there is no 'b' to take out", "docs/protect.md" },
                { "volumes: [a]\n", "1:10: volumes must be a map", "~/.npm" },
                { "volumes: {A: /x}\n", "1:11: 'A' cannot be the name of a volume", "a-z" },
                { "volumes: {../x: /x}\n", "cannot be the name of a volume", NULL },
                { "volumes: {a: x}\n", "1:14: the target 'x' is not an absolute path", NULL },
                { "volumes: {a: }\n", "target has no value", NULL },
                { "volumes: {a: /proc}\n", "1:14: the target /proc belongs to the box's own system", "another target" },
                { "volumes: {a: /x, b: /x}\n", "1:21: two volumes have the target /x", "1:14" },
                { "mounts: [{source: ., target: /x}]\nvolumes: {a: /x}\n", "2:14: a mount and a volume have the target /x",
                  "1:10" },
                { "network: {limit: 1M}\n", "'network.limit' is not yet supported", NULL },
                { "name: a\nname: b\n", "2:1: the key 'name' stands here twice", "line 1" },
                { "name: 12\n", "name must be text, but here is a number", "\"12\"" },
                { "name: true\n", "name must be text", "\"true\"" },
                { "name: A B\n", "cannot be the name of a box", NULL },
                { "name:\n", "name has no value", NULL },
                { "- a\n", "the file must be a map", NULL },
                { "mounts: {source: .}\n", "1:9: mounts must be a list, but here is a map", NULL },
                { "mounts: [.]\n", "a mount must be a map", "{source:" },
                { "mounts: [{target: /x}]\n", "the mount has no source", NULL },
                { "mounts: [{source: ., write: yes}]\n", "write must be true or false, but here is text", "true or false" },
                { "mounts: [{source: ., write: True}]\n", "write must be true or false", NULL },
                { "mounts: [{source: ., write: 'true'}]\n", "write must be true or false", NULL },
                { "mounts: [{source: ~bob/x}]\n", "only ~ and ~/", NULL },
                { "mounts: [{source: ., target: x}]\n", "not an absolute path", NULL },
                { "mounts: [{source: ., target: /x/../proc/y}]\n", "belongs to the box's own system", NULL },
                { "mounts:\n- {source: a, target: /x}\n- {source: b, target: /x/}\n", "3:3: two mounts have the target /x",
                  "2:3" },
                { "image: {locale: de_DE}\n", "1:17: 'de_DE' cannot be the name of a locale", "de_DE.UTF-8" },
                { "image: {locale: de_DEU.UTF-8}\n", "cannot be the name of a locale", NULL },
                { "image: {docs: 'true'}\n", "image.docs must be true or false", NULL },
                { "machine: {keep: true}\n", "1:17: there is no disk to keep", "machine.disk" },
                { "machine: {disk: 1G, keep: 1}\n", "machine.keep must be true or false", NULL },
                { "machine: {cpus: 0}\n", "from 1 to 255", NULL },
                { "machine: {cpus: '4'}\n", "machine.cpus must be a whole number", "without quotes" },
                { "machine: {cpus: 010}\n", "machine.cpus must be a whole number", NULL },
                { "machine: {memory: 8GB}\n", "'8GB' is not a size", "8G" },
                { "machine: {memory: 1M}\n", "from 128M", NULL },
                { "machine: {memory: 8.5}\n", "must be a size", NULL },
                { "image: {base: debain-13}\n", "no image base", NULL },
                { "image: {base: 'oci:x', packages: [git]}\n", "1:34: packages are Debian's", "debian-13" },
                { "image: {packages: [-o=x]}\n", "cannot be the name of a Debian package", NULL },
                { "image: {npm: ['../x']}\n", "cannot be the name of an npm package", NULL },
                { "image: {npm: [node_modules]}\n", "cannot be the name of an npm package", NULL },
                { "image: {npm: ['a@1 b']}\n", "cannot be the name of an npm package", "name@version" },
                { "image: {npm: [a], npm-scripts: ['a@1']}\n", "1:33: 'a@1' cannot be the name", "without a version" },
                { "image: {npm-scripts: [a]}\n", "1:23: there are no npm packages", "image.npm" },
                { "image: {base: 'dir:x', npm: [a], npm-scripts: [a]}\n", "1:48: scripts of npm packages run only",
                  "debian-13" },
                { "image: {npm: [a], npm-bin: {x: a}}\n", "1:32: 'a' names no file of an npm package", "PACKAGE/FILE" },
                { "image: {npm: [a], npm-bin: {x: a/../b}}\n", "names no file of an npm package", NULL },
                { "image: {npm: [a], npm-bin: {x: a/./b}}\n", "names no file of an npm package", NULL },
                { "image: {npm: [a], npm-bin: {-x: a/b}}\n", "1:29: '-x' cannot be the name of a command", NULL },
                { "image: {npm: [a], npm-bin: {..: a/b}}\n", "'..' cannot be the name of a command", NULL },
                { "env: {A-B: x}\n", "1:7: 'A-B' cannot be the name of a variable", NULL },
                { "env: {A: true}\n", "A must be text", "quotes" },
                { "env: {A: [x]}\n", "A must be text", NULL },
                { "secrets: [{name: A, from: sk-123}]\n", "no place a secret can come from", "env:NAME" },
                { "secrets: [{name: A, from: 12345}]\n", "from must be text, but here is a number", "write env, env:NAME" },
                { "secrets: [{name: A}]\n", "needs both name and from", NULL },
                { "secrets: [{name: A, from: env}]\nenv: {A: x}\n", "1:11: the variable A is given twice", "2:10" },
                { "secrets: [{name: A, from: env, hosts: []}]\n", "hosts is empty", NULL },
                { "network: {mode: on}\n", "no network mode 'on'", NULL },
                { "network: {allow: [https://x.org/]}\n", "is not a host name", "name alone" },
                { "network: {allow: ['x.org:22']}\n", "is not a host name", "ports:" },
                { "network:\n  allow:\n  - '*.com'\n", "nixbox.yaml:3:5: '*.com' covers a whole top-level domain",
                  "*.example.com" },
                { "network: {allow: [{ports: [1], host: '*.co.uk'}]}\n", "1:38: '*.co.uk' covers a whole public suffix", NULL },
                { "network: {allow: ['*']}\n", "is not a host name", NULL },
                { "network: {allow: [localhost]}\n", "1:19: 'localhost' has no dot", NULL },
                { "network: {allow: ['1.2.3.4']}\n", "is an address, not a name", "cidr" },
                { "network: {allow: [x.0x7f]}\n", "is an address, not a name", NULL },
                { "network: {allow: [{host: x.org, cidr: 1.0.0.0/8}]}\n", "either host or cidr, not both", NULL },
                { "network: {allow: [{cidr: 10.1.2.3/24}]}\n", "'10.1.2.3/24' is not a range", "/32" },
                { "network: {allow: [{cidr: 10.1.2.3}]}\n", "is not a range", NULL },
                { "network: {allow: [{cidr: 10.0.0.0/8, methods: [GET]}]}\n", "'methods' goes with host", NULL },
                { "network: {allow: [{cidr: 10.0.0.0/8, private: true}]}\n", "'private' goes with host", NULL },
                { "network: {allow: [{host: x.org, ports: [0]}]}\n", "from 1 to 65535", NULL },
                { "network: {allow: [{host: x.org, ports: []}]}\n", "ports is empty", NULL },
                { "network: {allow: [{host: x.org, methods: [get]}]}\n", "not an HTTP method", NULL },
                { "network: {allow: [{host: x.org, paths: [x]}]}\n", "not a path pattern", NULL },
                { "network: {allow: [{host: x.org, limit: 0}]}\n", "limit must be from", NULL },
                { "network: {allow: [{host: x.org, limit: 1.5M}]}\n", "is not a size", NULL },
                { "network: {allow: [host.nixbox.internal]}\n", "1:19: host.nixbox.internal is the host itself",
                  "ports: [11434]" },
                { "network: {allow: [{host: '*.host.nixbox.internal', ports: [1]}]}\n", "no name below", NULL },
                { "network: {deny: x.org}\n", "network.deny must be a list", NULL },
                { "network: {deny: [{host: x.org, private: true}]}\n", "'private' goes with allow", NULL },
                { "network: {deny: [{host: x.org, limit: 1M}]}\n", "'limit' goes with allow", NULL },
                { "network: {deny: [{host: x.org, paths: [/a]}]}\n", "'paths' goes with allow", NULL },
                { "network: {deny: ['x.org:22']}\n", "is not a host name", "ports:" },
                { "ports: 3000\n", "ports must be a list", NULL },
                { "ports: ['0']\n", "nixbox.yaml:1:9: '0' is not a port to publish", "8080:80" },
                { "ports: ['80:']\n", "is not a port to publish", NULL },
                { "ports: ['127.0.0.1:80']\n", "is not a port to publish", NULL },
                { "ports: ['::1:80:80']\n", "is not a port to publish", NULL },
                { "ports: ['[127.0.0.1]:80:80']\n", "is not a port to publish", NULL },
                { "ports: ['[::1]']\n", "is not a port to publish", NULL },
                { "ports: ['[::1:80:80']\n", "is not a port to publish", NULL },
                { "ports: ['127.1:80:80']\n", "is not a port to publish", NULL },
                { "ports: ['1:65536']\n", "is not a port to publish", NULL },
                { "ports: ['1:2:3:4']\n", "is not a port to publish", NULL },
                { "ports: [{host: 1}]\n", "a published port must be text", NULL },
                { "ports: ['80', '81:80', '80:1']\n", "1:24: the port 80 of the host is published twice", "1:9" },
                { "ports: ['80:1', '0.0.0.0:80:2']\n", "published twice", NULL },
                { "network: {mode: off}\nports: ['80']\n", "2:9: a port is published, but the box has no network", "filtered" },
                { "name: !!str a\n", "tags", NULL },
                { "? [a]\n: b\n", "a key must be a plain word", NULL },
                { "\"a\\nnixbox: all is well\": 1\n", "1:1: a key holds a line break", NULL },
                { "name: a\n---\nname: b\n", "a second document", NULL },
                { "name: [a\n", "not valid YAML", NULL },
                { "env: {A: \"\\e[31m\"}\n", "control character", NULL },
                { "name: *x\n", "the alias names an anchor that is not there", NULL },
                { "setup: &x [a, *x]\n", "the alias names an anchor", NULL },
                { "name: \xff\n", "not valid UTF-8", NULL },
                { "[[[[[[[[[[[[[[[[[[[[a]]]]]]]]]]]]]]]]]]]]\n", "nested too deeply", NULL },
                { "profiles: [./none.yaml]\n", "1:12: there is no profile", "make the file" },
                { "profiles: [no-such-profile]\n", "there is no profile 'no-such-profile'", "built in:" },
                { "profiles: [a b]\n", "names no profile", NULL },
                { "profiles: [./nixbox.yaml]\n", "leads back to itself", NULL },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++)
                refused(cases[i].text, false, cases[i].what, cases[i].hint);
}

static void test_alias_bomb(void **state) {
        (void)state;
        NB_AUTO_FREE char *text = nb_strdup("env:\n  A: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for (int i = 1; i < 8; i++) {
                char *more = nb_asprintf("%s  A%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", text, i, i,
                                         i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
                free(text);
                text = more;
        }
        refused(text, false, "too many values", NULL);
        AUTO_CONFIG *c = load("image: {packages: &p [git]}\nsetup: *p\n", false);
        assert_string_equal(c->setup[0].command, "git");
}

static void base(const char *text, enum config_base kind, const char *expected) {
        NB_AUTO_FREE char *config = nb_asprintf("image: {base: '%s'}\nnetwork: {mode: off}\n", text);
        AUTO_CONFIG *c = load(config, true);
        NB_AUTO_FREE char *prefix = nb_strndup(expected, strcspn(expected, "|"));
        const char *name = expected + strlen(prefix);
        NB_AUTO_FREE char *full = *name ? nb_asprintf("%s%s/%s", prefix, c->dir, name + 1) : nb_strdup(expected);
        assert_string_equal(c->image.base, full);
        assert_int_equal(c->image.kind, kind);
}

/* What names something on this host is made absolute ("|" stands for the folder of the config); the rest is left alone. */
static void test_bases(void **state) {
        (void)state;
        base("oci:./l:tag", CONFIG_BASE_OCI, "oci:|l:tag");
        base("oci:docker-archive:x.tar", CONFIG_BASE_OCI, "oci:docker-archive:|x.tar");
        base("oci:registry.example/a:1", CONFIG_BASE_OCI, "oci:registry.example/a:1");
        base("dir:root", CONFIG_BASE_DIR, "dir:|root");
        base("dir:/root", CONFIG_BASE_DIR, "dir:/root");
        base("nix:./f#a", CONFIG_BASE_NIX, "nix:|f#a");
        base("nix:box.nix", CONFIG_BASE_NIX, "nix:|box.nix");
        base("nix:github:a/b#c", CONFIG_BASE_NIX, "nix:github:a/b#c");
}

static void test_start(void **state) {
        (void)state;
        refused("network: {mode: off, allow: [{host: x.org, methods: [GET]}]}\n", true,
                "1:53: rules for methods and paths are not enforced yet", "every request to x.org");
        refused("network: {mode: off, allow: [{host: x.org, paths: [/a]}]}\n", true, "not enforced yet", NULL);
        refused("network: {mode: off}\nmounts: [{source: ./none}]\n", true, "2:19: ", "mkdir -p");
        refused("network: {mode: off}\nmounts: [{source: ~}]\n", true, "source has no value", NULL);
        refused("network: {mode: off}\nmounts: [{source: '~'}]\n", true, "nixbox's own folder", "one by one");
        refused("network: {mode: off}\nmounts: [{source: ~/own/nixbox/boxes}]\n", true, "does not exist", NULL);
        refused("network: {mode: off}\nmounts: [{source: /dev/null, target: /x}]\n", true, "belongs to the host's kernel",
                NULL);
        refused("network: {mode: off}\nsecrets: [{name: A, from: env:NB_NONE}]\n", true,
                "nixbox.yaml:2:27: the secret A: the variable NB_NONE is not set", "export NB_NONE");
        refused("network: {mode: off}\nsecrets: [{name: A, from: 'file:none'}]\n", true, "cannot read", NULL);
        setenv("NB_SET", "v", 1);
        refused("network: {mode: off}\nsecrets: [{name: A, from: env:NB_SET, hosts: [x.org]}]\n", true,
                "bound to hosts are not yet supported", NULL);
        refused("network: {mode: off}\nhooks: {pre-up: [./none.sh -x]}\n", true, "./none.sh cannot be run", NULL);
        put("code/a", "x");
        static const char *const modes[] = { "off", "filtered", "open" };
        for (size_t i = 0; i < NB_ARRAY_LEN(modes); i++) {
                NB_AUTO_FREE char *text = nb_asprintf("network: {mode: %s, allow: [x.org], deny: [y.org]}\n", modes[i]);
                config_free(load(text, true));
        }
        AUTO_CONFIG *c = load("network: {mode: off}\nmounts: [{source: code/a}, {source: code, target: /c}]\n", true);
        assert_true(c->mounts[0].is_file);
        assert_false(c->mounts[1].is_file);
}

static void check_rule(const struct policy *p, size_t i, const char *text, bool deny, const char *origin) {
        NB_AUTO_FREE char *is = policy_rule_text(&p->rules[i]);
        assert_string_equal(is, text);
        assert_int_equal(p->rules[i].deny, deny);
        assert_string_equal(p->rules[i].origin, origin);
}

static void test_rules(void **state) {
        (void)state;
        put("p.yaml", "network: {allow: [p.org, X.org]}\n");
        AUTO_CONFIG *c = load("profiles: [./p.yaml]\n"
                              "network:\n"
                              "  allow:\n"
                              "    - X.Org.\n"
                              "    - {host: x.org, ports: [443, 80]}\n"
                              "    - {host: '*.Y.org', ports: [22], limit: 10M}\n"
                              "    - {host: z.org, private: true}\n"
                              "    - {cidr: 10.0.0.0/8, ports: [5432]}\n"
                              "    - {cidr: 'FD00::/8'}\n"
                              "    - {host: host.nixbox.internal, ports: [11434]}\n"
                              "    - {host: m.org, methods: [GET]}\n"
                              "  deny: [bad.y.org, '*.co.uk', {host: w.org, ports: [25]}, {cidr: 10.1.0.0/16}]\n",
                              false);
        static const struct {
                const char *text, *origin;
        } want[] = {
                { "p.org", "p.yaml:1:19" },
                { "x.org", "p.yaml:1:26" }, /* said again in other words below: the first one stands */
                { "*.y.org:22", "nixbox.yaml:6:7" },
                { "z.org", "nixbox.yaml:7:7" },
                { "10.0.0.0/8:5432", "nixbox.yaml:8:7" },
                { "fd00::/8", "nixbox.yaml:9:7" },
                { "host.nixbox.internal:11434", "nixbox.yaml:10:7" },
                { "bad.y.org", "nixbox.yaml:12:10" },
                { "*.co.uk", "nixbox.yaml:12:21" },
                { "w.org:25", "nixbox.yaml:12:32" },
                { "10.1.0.0/16", "nixbox.yaml:12:60" },
        };
        assert_int_equal(c->policy->mode, POLICY_FILTERED);
        assert_int_equal(c->policy->n_rules, NB_ARRAY_LEN(want));
        for (size_t i = 0; i < NB_ARRAY_LEN(want); i++)
                check_rule(c->policy, i, want[i].text, i >= 7, want[i].origin);
        assert_int_equal(c->policy->rules[2].limit, 10u << 20);
        assert_true(c->policy->rules[3].private);
        /* one that holds for some requests only allows nothing, rather than all */
        assert_false(policy_name(c->policy, "m.org").allow);
        assert_true(policy_name(c->policy, "x.org").allow);
        assert_false(policy_name(c->policy, "bad.y.org").allow);
}

static void test_ports(void **state) {
        (void)state;
        AUTO_CONFIG *c = load("ports:\n  - '3000'\n  - 8080:80\n  - 4000\n  - 0.0.0.0:81:80\n  - '[::1]:80:80'\n"
                              "  - '127.0.0.1:3000:3000'\n  - '127.0.0.2:8080:80'\n",
                              false);
        static const struct {
                const char *address;
                unsigned host, guest;
        } want[] = { { "127.0.0.1", 3000, 3000 }, { "127.0.0.1", 8080, 80 }, { "127.0.0.1", 4000, 4000 },
                     { "0.0.0.0", 81, 80 },       { "::1", 80, 80 },         { "127.0.0.2", 8080, 80 } };
        assert_int_equal(c->n_ports, NB_ARRAY_LEN(want));
        for (size_t i = 0; i < NB_ARRAY_LEN(want); i++) {
                assert_string_equal(c->ports[i].address, want[i].address);
                assert_int_equal(c->ports[i].host_port, want[i].host);
                assert_int_equal(c->ports[i].guest_port, want[i].guest);
        }
        assert_int_equal(c->ports[1].pos.line, 3);
        NB_AUTO_FREE char *many = nb_strdup("ports:\n");
        for (unsigned i = 1; i <= 65; i++) {
                char *more = nb_asprintf("%s- %u\n", many, i);
                free(many);
                many = more;
        }
        refused(many, false, "66:3: more than 64 published ports", NULL);
        NB_AUTO_FREE char *text = config_to_text(c, false);
        assert_non_null(strstr(text, "\"127.0.0.1:8080:80\""));
}

static void test_links(void **state) {
        (void)state;
        put("real/f", "x");
        assert_int_equal(symlink("real", "link"), 0);
        AUTO_CONFIG *c = load("network: {mode: off}\nmounts: [{source: link}]\n", true);
        NB_AUTO_FREE char *real = nb_path_join(scratch_dir, "real");
        NB_AUTO_FREE char *link = nb_path_join(scratch_dir, "link");
        assert_string_equal(c->mounts[0].source, real);
        assert_string_equal(c->mounts[0].target, link);
        NB_AUTO_FREE char *own = nb_path_join(scratch_dir, "own/nixbox");
        assert_int_equal(nb_mkdirs(own, 0700), 0);
        assert_int_equal(symlink("own/nixbox", "sly"), 0);
        refused("network: {mode: off}\nmounts: [{source: sly}]\n", true, "nixbox's own folder", NULL);
}

static void test_profiles(void **state) {
        (void)state;
        put("p/one.yaml",
            "profiles: [./two.yaml]\nimage: {packages: [git, make]}\nmounts: [{source: data}]\nenv: {A: one, B: one}\n"
            "hooks: {pre-up: [date]}\n");
        put("p/two.yaml", "image: {packages: [gcc, git]}\nenv: {A: two, C: two}\nmachine: {cpus: 7}\n");
        AUTO_CONFIG *c =
            load("profiles: [./p/one.yaml]\nimage: {packages: [make, vim]}\nenv: {B: file}\nmachine: {memory: 1G}\n", false);
        assert_int_equal(nb_strv_len(c->image.packages), 4);
        assert_int_equal(nb_strv_len(c->env), 3);
        assert_string_equal(c->env[0], "A=one");
        assert_string_equal(c->env[1], "C=two");
        assert_string_equal(c->env[2], "B=file");
        assert_int_equal(c->cpus, 7);
        assert_int_equal(c->memory, 1u << 30);
        NB_AUTO_FREE char *data = nb_path_join(scratch_dir, "p/data");
        NB_AUTO_FREE char *p = nb_path_join(scratch_dir, "p");
        assert_string_equal(c->mounts[0].source, data);
        assert_string_equal(c->pre_up[0].dir, p);
        assert_int_equal(nb_strv_len(c->profiles), 1);
        put("p/two.yaml", "profiles: [./one.yaml]\n");
        refused("profiles: [./p/one.yaml]\n", false, "p/two.yaml:1:12: the profile", "remove");
        put("p/two.yaml", "mounts: [{source: 1}]\n");
        refused("profiles: [./p/one.yaml]\n", false, "p/two.yaml:1:19: source must be text", NULL);
}

static void test_text(void **state) {
        (void)state;
        put("p.yaml", "env: {A: '1'}\n");
        AUTO_CONFIG *c = load("profiles: [./p.yaml]\nname: app\nmounts:\n- source: .\nsetup: []\n", false);
        NB_AUTO_FREE char *text = config_to_text(c, false);
        assert_non_null(strstr(text, "name: app                                    # nixbox.yaml:2:7\n"));
        assert_non_null(strstr(text, "  A: \"1\"                                     # p.yaml:1:10\n"));
        assert_non_null(strstr(text, "    write: false                             # default\n"));
        assert_non_null(strstr(text, "  - source: /tmp"));
        put("again.yaml", text);
        AUTO_CONFIG *again = NULL;
        NB_AUTO_ERROR err = { 0 };
        if (config_load("again.yaml", false, &again, &err) < 0)
                fail_msg("%s\n%s", err.what, text);
        NB_AUTO_FREE char *json = config_to_text(c, true);
        assert_non_null(strstr(json, "\"mounts[0].source\": \"nixbox.yaml:4:11\""));
}

static void test_hash(void **state) {
        (void)state;
        char one[65], two[65];
        AUTO_CONFIG *a = load("name: a\nenv: {A: x, B: y}\n", false);
        AUTO_CONFIG *b = load("# said otherwise\nenv:\n  B: \"y\"\n  A: x\nname: a\n", false);
        AUTO_CONFIG *c = load("name: a\nenv: {A: x, B: z}\n", false);
        config_hash(a, one);
        config_hash(b, two);
        assert_string_equal(one, two);
        config_hash(c, two);
        assert_string_not_equal(one, two);
}

static void test_parse_mount(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        struct config_mount m = { 0 };
        put("src/x", "");
        assert_int_equal(config_parse_mount("src:/in/side:rw", scratch_dir, &m, &err), 0);
        assert_string_equal(m.target, "/in/side");
        assert_true(m.write);
        config_mount_clear(&m);
        assert_int_equal(config_parse_mount("src", scratch_dir, &m, &err), 0);
        assert_string_equal(m.target, m.source);
        assert_false(m.write);
        config_mount_clear(&m);
        assert_int_equal(config_parse_mount("src:rel", scratch_dir, &m, &err), -EINVAL);
        assert_int_equal(config_parse_mount("none", scratch_dir, &m, &err), -ENOENT);
        assert_int_equal(config_parse_mount("/", scratch_dir, &m, &err), -EPERM);
        assert_int_equal(config_parse_mount("src:/proc/x", scratch_dir, &m, &err), -EINVAL);
}

static void test_secrets(void **state) {
        (void)state;
        NB_AUTO_ERROR err = { 0 };
        put("token", "s3cret\n\n");
        setenv("NB_SET", "from env\n", 1);
        AUTO_CONFIG *c = load("network: {mode: off}\nsecrets: [{name: A, from: env:NB_SET}, {name: B, from: file:token},"
                              "{name: C, from: 'command:printf \"a\\n\"'}, {name: D, from: 'command:echo s3cret; exit 3'}]\n",
                              true);
        static const char *const want[] = { "from env\n", "s3cret\n", "a" };
        for (size_t i = 0; i < NB_ARRAY_LEN(want); i++) {
                NB_AUTO_FREE char *value = NULL;
                size_t len = 0;
                if (config_secret_read(&c->secrets[i], c, &value, &len, &err) < 0)
                        fail_msg("%s", err.what);
                assert_string_equal(value, want[i]);
                assert_int_equal(len, strlen(want[i]));
        }
        NB_AUTO_FREE char *value = NULL;
        size_t len = 0;
        assert_true(config_secret_read(&c->secrets[3], c, &value, &len, &err) < 0);
        assert_null(strstr(err.what, "s3cret"));
        /* a link put in the file's place after loading is not followed */
        put("other", "x");
        assert_int_equal(unlink("token"), 0);
        assert_int_equal(symlink("other", "token"), 0);
        assert_true(config_secret_read(&c->secrets[1], c, &value, &len, &err) < 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_full, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_npm, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_defaults, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_box_name, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_protect, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_find, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_refused, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_alias_bomb, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_bases, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_start, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_rules, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_ports, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_links, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_profiles, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_text, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_hash, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_parse_mount, scratch_set_up, scratch_tear_down),
                cmocka_unit_test_setup_teardown(test_secrets, scratch_set_up, scratch_tear_down),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
