/* Unit tests of the guest agent's pure parts: requests from the host, users and groups as text, /proc as text. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "guest/accounts.h"
#include "guest/environment.h"
#include "guest/procfs.h"
#include "guest/request.h"
#include "wire/wire.h"

static void add_mount(struct nb_buf *p, const char *id, const char *target, uint32_t flags) {
        NB_AUTO_BUF m = { 0 };
        wire_tlv_str(&m, WIRE_T_ID, id);
        wire_tlv_str(&m, WIRE_T_TARGET, target);
        wire_tlv_u32(&m, WIRE_T_FLAGS, flags);
        wire_tlv_bytes(p, WIRE_T_MOUNT, nb_buf_bytes(&m), m.len);
}

/* A SETUP with what is needed; NULL leaves a text field out. */
static void add_setup(struct nb_buf *p, const char *host, const char *user, uint32_t uid, const char *home) {
        wire_tlv_u32(p, WIRE_T_VERSION, WIRE_VERSION);
        if (host)
                wire_tlv_str(p, WIRE_T_HOSTNAME, host);
        if (user)
                wire_tlv_str(p, WIRE_T_USER, user);
        wire_tlv_u32(p, WIRE_T_UID, uid);
        wire_tlv_u32(p, WIRE_T_GID, uid);
        if (home)
                wire_tlv_str(p, WIRE_T_HOME, home);
        wire_tlv_u64(p, WIRE_T_TIME, 1700000000000000000ull);
}

static int parse(struct nb_buf *p, struct setup **ret) {
        NB_AUTO_ERROR err = { 0 };
        int r = setup_parse(nb_buf_bytes(p), p->len, ret, &err);
        nb_buf_clear(p);
        if (r < 0)
                assert_non_null(err.what);
        return r;
}

static void test_setup(void **state) {
        (void)state;
        NB_AUTO_BUF p = { 0 };
        add_setup(&p, "box", "ada", 1000, "/home/ada");
        wire_tlv_str(&p, WIRE_T_ENV, "A=1");
        wire_tlv_str(&p, WIRE_T_SECRET, "KEY=hidden");
        wire_tlv_str(&p, WIRE_T_ENV, "B=");
        wire_tlv_str(&p, WIRE_T_SECRET, "TWO=x=y");
        wire_tlv_bytes(&p, WIRE_T_SEED, "0123456789", 10);
        wire_tlv_str(&p, WIRE_T_TIMEZONE, "Europe/Berlin");
        add_mount(&p, "0", "/home/ada/src", WIRE_MOUNT_WRITE);
        add_mount(&p, "1", "/home/ada/src/x.txt", WIRE_MOUNT_FILE);
        wire_tlv_u32(&p, WIRE_T_DISK, 1);
        __attribute__((cleanup(setup_freep))) struct setup *s = NULL;
        assert_int_equal(parse(&p, &s), 0);
        assert_string_equal(s->hostname, "box");
        assert_string_equal(s->home, "/home/ada");
        assert_int_equal(s->uid, 1000);
        assert_true(s->disk);
        assert_int_equal(nb_strv_len(s->env), 2);
        assert_int_equal(s->secrets.n, 2);
        assert_string_equal(s->secrets.vars[0], "KEY=hidden");
        assert_string_equal(s->secrets.vars[1], "TWO=x=y");
        assert_int_equal(s->seed_len, 10);
        assert_int_equal(s->n_mounts, 2);
        assert_string_equal(s->mounts[1].target, "/home/ada/src/x.txt");
        assert_int_equal(s->mounts[1].flags, WIRE_MOUNT_FILE);
}

static void test_setup_refused(void **state) {
        (void)state;
        static const struct {
                const char *host, *user;
                uint32_t uid;
                const char *home;
                int expect;
        } cases[] = {
                { "box", "ada", 1000, "/home/ada", 0 },          { "box", "root", 0, "/root", 0 },
                { NULL, "ada", 1000, "/home/ada", -EPROTO },     { "box", NULL, 1000, "/home/ada", -EPROTO },
                { "box", "ada", 1000, NULL, -EPROTO },           { "", "ada", 1000, "/home/ada", -EPROTO },
                { "b x", "ada", 1000, "/home/ada", -EPROTO },    { "box", "a:b", 1000, "/home/ada", -EINVAL },
                { "box", "a\nb", 1000, "/home/ada", -EINVAL },   { "box", "-a", 1000, "/home/ada", -EINVAL },
                { "box", "root", 1000, "/home/ada", -EINVAL },   { "box", "ada", 1000, "home/ada", -EINVAL },
                { "box", "ada", 1000, "/home/../etc", -EINVAL }, { "box", "ada", 1000, "/home/a:b", -EINVAL },
                { "box", "ada", 1000, "/home/a\nb", -EINVAL },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_BUF p = { 0 };
                __attribute__((cleanup(setup_freep))) struct setup *s = NULL;
                add_setup(&p, cases[i].host, cases[i].user, cases[i].uid, cases[i].home);
                assert_int_equal(parse(&p, &s), cases[i].expect);
        }
}

/* One extra field that spoils an otherwise good SETUP. */
static void test_setup_bad_fields(void **state) {
        (void)state;
        static const struct {
                uint16_t tag;
                const char *text;
        } cases[] = {
                { WIRE_T_ENV, "=x" },           { WIRE_T_ENV, "NOVALUE" },     { WIRE_T_SECRET, "NOVALUE" },
                { WIRE_T_USER, "again" },       { WIRE_T_TIMEZONE, "/etc/x" }, { WIRE_T_TIMEZONE, "../../etc" },
                { WIRE_T_ARG, "not in SETUP" }, { WIRE_T_UID, "long number" }, { WIRE_T_MOUNT, "not fields" },
                { WIRE_T_TERM, "xterm" },       { WIRE_T_DISK, "" },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_BUF p = { 0 };
                __attribute__((cleanup(setup_freep))) struct setup *s = NULL;
                add_setup(&p, "box", "ada", 1000, "/home/ada");
                wire_tlv_str(&p, cases[i].tag, cases[i].text);
                assert_true(parse(&p, &s) < 0);
                assert_null(s);
        }
        NB_AUTO_BUF p = { 0 };
        __attribute__((cleanup(setup_freep))) struct setup *s = NULL;
        add_setup(&p, "box", "ada", 1000, "/home/ada");
        wire_tlv_u32(&p, WIRE_T_VERSION, WIRE_VERSION);
        assert_int_equal(parse(&p, &s), -EPROTO);
        NB_AUTO_BUF old = { 0 };
        wire_tlv_u32(&old, WIRE_T_VERSION, WIRE_VERSION + 1);
        assert_int_equal(parse(&old, &s), -EPROTO);
}

static void test_net(void **state) {
        (void)state;
        static const struct {
                struct wire_net net;
                int expect;
        } cases[] = {
                { { 0xc613fffe, 30, 0xc613fffd, 1500 }, 0 },        { { 0x0a000002, 8, 0x0affff01, 65535 }, 0 },
                { { 0xc613fffe, 30, 0xc613fffe, 1500 }, -EPROTO },  { { 0xc613fffe, 30, 0xc613fff9, 1500 }, -EPROTO },
                { { 0xc613fffe, 0, 0xc613fffd, 1500 }, -EPROTO },   { { 0xc613fffe, 31, 0xc613fffd, 1500 }, -EPROTO },
                { { 0xc613fffe, 33, 0xc613fffd, 1500 }, -EPROTO },  { { 0xc613fffe, 30, 0xc613fffd, 500 }, -EPROTO },
                { { 0xc613fffe, 30, 0xc613fffd, 70000 }, -EPROTO },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_BUF p = { 0 };
                __attribute__((cleanup(setup_freep))) struct setup *s = NULL;
                add_setup(&p, "box", "ada", 1000, "/home/ada");
                wire_tlv_net(&p, &cases[i].net);
                assert_int_equal(parse(&p, &s), cases[i].expect);
                if (s) {
                        assert_true(s->has_net);
                        assert_memory_equal(&s->net, &cases[i].net, sizeof s->net);
                }
        }
        NB_AUTO_BUF twice = { 0 };
        __attribute__((cleanup(setup_freep))) struct setup *s = NULL;
        add_setup(&twice, "box", "ada", 1000, "/home/ada");
        wire_tlv_net(&twice, &cases[0].net);
        wire_tlv_net(&twice, &cases[0].net);
        assert_int_equal(parse(&twice, &s), -EPROTO);
}

static void test_mounts(void **state) {
        (void)state;
        static const struct {
                const char *id, *target;
                uint32_t flags;
                int expect;
        } cases[] = {
                { "0", "/a", 0, 0 },
                { "0", "/a b/c", WIRE_MOUNT_FILE | WIRE_MOUNT_WRITE, 0 },
                { "", "/a", 0, -EPROTO },
                { "..", "/a", 0, -EPROTO },
                { ".", "/a", 0, -EPROTO },
                { "a/b", "/a", 0, -EPROTO },
                { "0", "/", 0, -EPROTO },
                { "0", "a", 0, -EPROTO },
                { "0", "/a/../b", 0, -EPROTO },
                { "0", "/a/.", 0, -EPROTO },
                { "0", "/a/..", 0, -EPROTO },
                { "0", "/a/...", 0, 0 },
                { "0", "/a", 4, -EPROTO },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_BUF p = { 0 };
                struct mount_request m = { 0 };
                wire_tlv_str(&p, WIRE_T_ID, cases[i].id);
                wire_tlv_str(&p, WIRE_T_TARGET, cases[i].target);
                wire_tlv_u32(&p, WIRE_T_FLAGS, cases[i].flags);
                assert_int_equal(mount_request_parse(nb_buf_bytes(&p), p.len, &m, NULL), cases[i].expect);
                mount_request_clear(&m);
        }
}

static void test_open(void **state) {
        (void)state;
        NB_AUTO_BUF p = { 0 };
        wire_tlv_str(&p, WIRE_T_ARG, "ls");
        wire_tlv_str(&p, WIRE_T_ARG, "");
        wire_tlv_str(&p, WIRE_T_ENV, "X=1");
        wire_tlv_str(&p, WIRE_T_CWD, "/tmp");
        wire_tlv_u32(&p, WIRE_T_ROWS, 24);
        wire_tlv_u32(&p, WIRE_T_COLS, 80);
        wire_tlv_u32(&p, WIRE_T_FLAGS, WIRE_OPEN_PTY);
        struct open_request o = { 0 };
        assert_int_equal(open_request_parse(nb_buf_bytes(&p), p.len, &o, NULL), 0);
        assert_true(o.pty);
        assert_false(o.shell);
        assert_int_equal(nb_strv_len(o.argv), 2);
        assert_int_equal(o.rows, 24);
        open_request_clear(&o);

        assert_int_equal(open_request_parse(NULL, 0, &o, NULL), -EPROTO); /* nothing to execute */
        open_request_clear(&o);
        nb_buf_clear(&p);
        wire_tlv_u32(&p, WIRE_T_FLAGS, WIRE_OPEN_SHELL);
        assert_int_equal(open_request_parse(nb_buf_bytes(&p), p.len, &o, NULL), 0); /* login shell */
        open_request_clear(&o);
        wire_tlv_str(&p, WIRE_T_ARG, "one");
        wire_tlv_str(&p, WIRE_T_ARG, "two");
        assert_int_equal(open_request_parse(nb_buf_bytes(&p), p.len, &o, NULL), -EPROTO);
        open_request_clear(&o);
        nb_buf_clear(&p);
        wire_tlv_u32(&p, WIRE_T_ROWS, 65536);
        assert_int_equal(open_request_parse(nb_buf_bytes(&p), p.len, &o, NULL), -EPROTO);
        open_request_clear(&o);
}

static void test_find_account(void **state) {
        (void)state;
        static const char passwd[] = "root:x:0:0:root:/root:/bin/bash\nbroken line\n:x:5\n1000:x:7:7::/seven:/bin/sh\n"
                                     "ada:x:1000:1000:Ada:/home/ada:\nlast:x:4294967294:1::/l:/bin/sh";
        static const char group[] = "root:x:0:\nsudo:x:27:bob,ada\nadm:x:4:adam,ada\nnone:x:9:a,da\nx\nada:x:1000:ada\n";
        struct account a = { 0 };
        assert_true(account_find(passwd, "ada", &a));
        assert_int_equal(a.uid, 1000);
        assert_string_equal(a.home, "/home/ada");
        assert_string_equal(a.shell, "");
        account_find_groups(group, &a);
        assert_int_equal(a.n_groups, 3);
        assert_int_equal(a.groups[0], 1000);
        assert_int_equal(a.groups[1], 27);
        assert_int_equal(a.groups[2], 4);
        account_clear(&a);
        assert_true(account_find(passwd, "1000", &a)); /* a name that is a number comes first */
        assert_int_equal(a.uid, 7);
        account_clear(&a);
        assert_true(account_find(passwd, "0", &a));
        assert_string_equal(a.name, "root");
        account_find_groups(NULL, &a);
        assert_int_equal(a.n_groups, 1);
        account_clear(&a);
        assert_true(account_find(passwd, "last", &a));
        account_clear(&a);
        assert_false(account_find(passwd, "broken line", &a));
        assert_false(account_find(passwd, "5", &a));
        assert_false(account_find(NULL, "root", &a));
}

static void test_passwd(void **state) {
        (void)state;
        struct account ada = {
                .name = (char *)"ada", .home = (char *)"/home/ada", .shell = (char *)"/bin/sh", .uid = 1000, .gid = 100
        };
        struct account root = { .name = (char *)"root", .home = (char *)"/home/r", .shell = (char *)"/bin/sh" };
        struct account toor = { .name = (char *)"toor", .home = (char *)"/t", .shell = (char *)"/bin/sh" };
#define ADA "ada:x:1000:100::/home/ada:/bin/sh\n"
        static const char base[] = "root:x:0:0:root:/root:/bin/bash\nbin:x:2:2::/:/x\n";
        const struct {
                const struct account *who;
                const char *in, *out;
        } cases[] = {
                { &ada, NULL, ADA },
                { &ada, base, "root:x:0:0:root:/root:/bin/bash\nbin:x:2:2::/:/x\n" ADA },
                { &ada, "ada:x:5:5::/:/x\nbin:x:2:2::/:/x", ADA "bin:x:2:2::/:/x\n" },             /* its name taken */
                { &ada, "node:x:1000:1000::/n:/x\n", ADA "node:x:1000:1000::/n:/x\n" },            /* its number taken */
                { &ada, "node:x:1000:1::/n:/x\nada:x:3:3::/:/x\n", ADA "node:x:1000:1::/n:/x\n" }, /* both */
                { &ada, "ada:x:3:3::/:/x\nnode:x:1000:1::/n:/x\n", ADA "node:x:1000:1::/n:/x\n" },
                { &root, base, "root:x:0:0::/home/r:/bin/sh\nbin:x:2:2::/:/x\n" },
                { &toor, "root:x:0:0::/root:/x\n",
                  "root:x:0:0::/root:/x\ntoor:x:0:0::/t:/bin/sh\n" }, /* root stays the first */
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_FREE char *got = passwd_with(cases[i].in, cases[i].who);
                assert_string_equal(got, cases[i].out);
                NB_AUTO_FREE char *again = passwd_with(got, cases[i].who);
                assert_string_equal(again, got);
        }
}

static void test_group_shadow_hosts(void **state) {
        (void)state;
        NB_AUTO_FREE char *kept = group_with("users:x:100:\n", "ada", 100);
        assert_string_equal(kept, "users:x:100:\n");
        NB_AUTO_FREE char *added = group_with("users:x:100:\n", "ada", 1000);
        assert_string_equal(added, "users:x:100:\nada:x:1000:\n");
        NB_AUTO_FREE char *taken = group_with("ada:x:5:\n", "ada", 1000);
        assert_string_equal(taken, "ada:x:5:\nada-1000:x:1000:\n");
        NB_AUTO_FREE char *shadow = shadow_with("root:*:1:0:9:7:::\n", "ada");
        assert_string_equal(shadow, "root:*:1:0:9:7:::\nada:*:19000:0:99999:7:::\n");
        NB_AUTO_FREE char *shadow2 = shadow_with(shadow, "ada");
        assert_string_equal(shadow2, shadow);
        NB_AUTO_FREE char *hosts = hosts_with(NULL, "box");
        assert_string_equal(hosts, "127.0.0.1\tlocalhost\n127.0.1.1\tbox\n");
        NB_AUTO_FREE char *hosts2 = hosts_with(hosts, "box");
        assert_string_equal(hosts2, hosts);
        NB_AUTO_FREE char *hosts3 = hosts_with("127.0.0.1 localhost\n10.0.0.1 boxer # box\nbox 1.2.3.4\n", "box");
        assert_string_equal(hosts3, "127.0.0.1 localhost\n10.0.0.1 boxer # box\nbox 1.2.3.4\n127.0.1.1\tbox\n");
        NB_AUTO_FREE char *hosts4 = hosts_with(" ::1 localhost box\n# a::b\n\nff02::1#x\n10.0.0.1 a::b\n:", "box");
        assert_string_equal(hosts4, "# a::b\n\n10.0.0.1 a::b\n127.0.0.1\tlocalhost\n127.0.1.1\tbox\n");
}

static void test_mountinfo(void **state) {
        (void)state;
        const char *text =
            "21 1 0:19 / /proc rw - proc proc rw\n30 1 0:31 /a\\040b /mnt/\\134x rw,nosuid - virtiofs nixbox rw\nshort\n";
        struct mountinfo m;
        assert_true(mountinfo_next(&text, &m));
        assert_string_equal(m.dev, "0:19");
        assert_string_equal(m.root, "/");
        assert_string_equal(m.target, "/proc");
        mountinfo_clear(&m);
        assert_true(mountinfo_next(&text, &m));
        assert_string_equal(m.root, "/a b");
        assert_string_equal(m.target, "/mnt/\\x");
        mountinfo_clear(&m);
        assert_true(mountinfo_next(&text, &m));
        assert_string_equal(m.target, "");
        mountinfo_clear(&m);
        assert_false(mountinfo_next(&text, &m));
}

static void test_figures(void **state) {
        (void)state;
        static const char meminfo[] = "MemTotal:       2048 kB\nMemFree:  1 kB\nActive(file): 7 kB\n";
        assert_int_equal(meminfo_value(meminfo, "MemTotal"), 2048 * 1024);
        assert_int_equal(meminfo_value(meminfo, "Active(file)"), 7 * 1024);
        assert_int_equal(meminfo_value(meminfo, "Mem"), 0);
        assert_int_equal(meminfo_value(NULL, "MemTotal"), 0);
        assert_int_equal(stat_value("anon 5\nfile 4096\n", "file"), 4096);
        static const char interrupts[] = "           CPU0       CPU1\n 48:  1  2  IO-APIC\nNMI:  0  0  Non-maskable\n"
                                         "LOC:        618         53   Local timer interrupts\nERR:          0\n";
        assert_int_equal(interrupts_sum(interrupts, "LOC"), 671);
        assert_int_equal(interrupts_sum(interrupts, "NMI"), 0);
        assert_int_equal(interrupts_sum(interrupts, "ERR"), 0);
        assert_int_equal(interrupts_sum(interrupts, "48"), 3);
        assert_int_equal(interrupts_sum(interrupts, "LO"), -1);
        assert_int_equal(interrupts_sum(NULL, "LOC"), -1);
}

static void test_environment_value(void **state) {
        (void)state;
        static const struct {
                const char *text, *value;
        } cases[] = {
                { "LANG=de_DE.UTF-8\n", "de_DE.UTF-8" },
                { "# LANG=x\nLANGUAGE=y\nLANG=\"sr_RS.UTF-8@latin\"", "sr_RS.UTF-8@latin" },
                { "LANG=one\nLANG='two'\n", "two" },
                { "LANG=\n", "" },
                { "LANG=\"\n", "\"" },
                { "LANG=\"x", "\"x" },
                { "LANG", NULL },
                { " LANG=x\n", NULL },
                { "\n\n", NULL },
                { "", NULL },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                NB_AUTO_FREE char *value = environment_value(cases[i].text, "LANG");
                if (cases[i].value)
                        assert_string_equal(value, cases[i].value);
                else
                        assert_null(value);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_environment_value),
                cmocka_unit_test(test_setup),
                cmocka_unit_test(test_setup_refused),
                cmocka_unit_test(test_setup_bad_fields),
                cmocka_unit_test(test_net),
                cmocka_unit_test(test_mounts),
                cmocka_unit_test(test_open),
                cmocka_unit_test(test_find_account),
                cmocka_unit_test(test_passwd),
                cmocka_unit_test(test_group_shadow_hosts),
                cmocka_unit_test(test_mountinfo),
                cmocka_unit_test(test_figures),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
