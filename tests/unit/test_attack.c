/* nixbox attack without a box: the table, the plan, what the program inside says, and what it all comes to. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "attack/answer.h"
#include "attack/plan.h"
#include "attack/scene.h"
#include "base/mem.h"

#define TOKEN "0123456789abcdef"

static char *const some_names[] = { "names.denied", "files.setuid", "files.create", "lifecycle.box", "network.metadata", NULL };

static struct attack_rows rows_of(char *const *names) {
        struct attack_rows rows;
        assert_int_equal(attack_rows_new(names, &rows, NULL), 0);
        return rows;
}

static struct attack_facts all_facts(void) {
        static char *const needles[] = { "the-canary", "canary", "a b", "x%y", NULL };
        static char *const mounts[] = { "/home/me/a b", NULL };
        return (struct attack_facts){ .token = TOKEN,
                                      .router = "198.19.255.253",
                                      .host = "192.0.2.9",
                                      .port = 5,
                                      .loopport = 6,
                                      .allowed = "api.example",
                                      .allowed443 = "api.example",
                                      .allowed80 = "www.example",
                                      .ro = "/home/me/a b",
                                      .witness = "/home/me/a b/f",
                                      .rw = "/rw",
                                      .mounts = mounts,
                                      .canary = "/home/me/canary",
                                      .memory = 1u << 30,
                                      .needles = needles };
}

/* ---- the table */

static void test_names_are_names(void **state) {
        (void)state;
        assert_true(attack_n_probes >= 80);
        for (size_t i = 0; i < attack_n_probes; i++) {
                const struct attack_probe *p = &attack_probes[i];
                assert_true(p->class >= 'A' && p->class <= 'G');
                assert_int_equal(strspn(p->name, "abcdefghijklmnopqrstuvwxyz0123456789-."), strlen(p->name));
                assert_non_null(strchr(p->name, '.'));
                assert_true(strlen(p->name) <= 30 && p->description[0]);
                for (size_t k = 0; k < i; k++)
                        assert_string_not_equal(p->name, attack_probes[k].name);
        }
}

static void test_choosing(void **state) {
        (void)state;
        struct attack_rows rows = rows_of(NULL);
        assert_int_equal(rows.n, attack_n_probes);
        for (size_t i = 1; i < rows.n; i++)
                assert_true(rows.rows[i - 1].probe->class <= rows.rows[i].probe->class);
        attack_rows_clear(&rows);
        rows = rows_of((char *[]){ "files.setu", NULL });
        assert_int_equal(rows.n, 4);
        attack_rows_clear(&rows);
        NB_AUTO_ERROR err = { 0 };
        assert_true(attack_rows_new((char *[]){ "files", "nonsense", NULL }, &rows, &err) < 0);
        assert_non_null(strstr(err.what, "nonsense"));
        assert_true(attack_rows_new((char *[]){ "", NULL }, &rows, &err) < 0);
}

/* ---- the plan */

static void test_every_word_is_known(void **state) {
        (void)state;
        struct attack_rows rows = rows_of(NULL);
        struct attack_facts facts = all_facts();
        attack_fill(&rows, &facts);
        for (size_t i = 0; i < rows.n; i++) {
                assert_null(rows.rows[i].skipped);
                assert_true(rows.rows[i].probe->judge == JUDGE_LOOK || rows.rows[i].args);
                if (rows.rows[i].args)
                        assert_null(strchr(rows.rows[i].args, '@'));
        }
        assert_string_equal(attack_row_find(&rows, "files.create")->args, "/home/me/a%20b");
        assert_string_equal(attack_row_find(&rows, "host.memory")->args, "1073741824");
        assert_string_equal(attack_row_find(&rows, "network.router")->args, "198.19.255.253 22");
        assert_string_equal(attack_row_find(&rows, "names.nul")->args,
                            "api%2eexample%00." TOKEN ".invalid A 198.19.255.253 udp api.example");
        const char *longest = attack_row_find(&rows, "names.very-long")->args;
        assert_int_equal(strcspn(longest, " "), 253);
        attack_rows_clear(&rows);
}

static void test_what_a_box_has_not(void **state) {
        (void)state;
        struct attack_rows rows = rows_of(some_names);
        const struct attack_facts facts = { .token = TOKEN, .router = "198.19.255.253" };
        attack_fill(&rows, &facts);
        assert_string_equal(attack_row_find(&rows, "files.create")->skipped, "no read-only mount");
        assert_string_equal(attack_row_find(&rows, "files.setuid")->skipped, "no writable mount");
        assert_null(attack_row_find(&rows, "files.setuid")->args);
        assert_string_equal(attack_row_find(&rows, "names.denied")->args, "probe-" TOKEN ".invalid A 198.19.255.253 udp -");
        attack_judge(&rows);
        assert_int_equal(attack_row_find(&rows, "files.create")->verdict, VERDICT_SKIPPED);
        attack_rows_clear(&rows);
}

static void test_plan(void **state) {
        (void)state;
        struct attack_rows rows = rows_of((char *[]){ "lifecycle.after", "files.create", "names.denied", NULL });
        struct attack_facts facts = all_facts();
        NB_AUTO_BUF out = { 0 };
        attack_fill(&rows, &facts);
        attack_row_find(&rows, "names.denied")->allowed = nb_strdup("by a rule");
        attack_plan(&out, &rows, &facts);
        nb_buf_add(&out, "", 1);
        const char *text = (const char *)nb_buf_bytes(&out);
        static const char want[] = "needle the-canary yranac\nneedle a%20b y%25x\nmount /home/me/a%20b\nrw /rw\n"
                                   "probe files.create /home/me/a%20b\nprobe lifecycle.after-all-that 192.0.2.50 443\n";
        NB_AUTO_FREE char *whole = nb_asprintf("%s" ATTACK_PLAN_MARK "%08zx\n", want, strlen(want));
        assert_string_equal(text, whole);
        attack_rows_clear(&rows);
}

/* ---- the answer */

static int answer(struct attack_rows *rows, const char *text, size_t piece) {
        struct attack_answer a = { .rows = rows, .token = TOKEN };
        int r = 0;
        for (size_t at = 0, len = strlen(text); r == 0 && at < len; at += piece)
                r = attack_answer_add(&a, text + at, piece < len - at ? piece : len - at, NULL);
        if (r == 0)
                r = attack_answer_end(&a, NULL);
        attack_answer_clear(&a);
        return r;
}

static struct attack_rows two_rows(void) {
        struct attack_rows rows = rows_of((char *[]){ "files.create", "files.mkdir", NULL });
        struct attack_facts facts = all_facts();
        attack_fill(&rows, &facts);
        return rows;
}

#define BEGIN "attack 1 " TOKEN "\n"
#define FIRST "files.create refused ok open: Read-only \033]52;c;x\007\n"
#define SECOND "files.mkdir done none\n"
#define END "end " TOKEN " 2\n"

static void test_answer(void **state) {
        (void)state;
        for (size_t piece = 1; piece < 100; piece += 7) {
                struct attack_rows rows = two_rows();
                assert_int_equal(answer(&rows, BEGIN FIRST SECOND END, piece), 0);
                const struct attack_row *row = attack_row_find(&rows, "files.create");
                assert_int_equal(row->attempt, ATTEMPT_REFUSED);
                assert_int_equal(row->control, CONTROL_OK);
                assert_string_equal(row->said, "open: Read-only \\x1b]52;c;x\\x07");
                assert_int_equal(attack_row_find(&rows, "files.mkdir")->attempt, ATTEMPT_DONE);
                attack_rows_clear(&rows);
        }
}

static void test_answers_that_are_none(void **state) {
        (void)state;
        static const char *const texts[] = {
                "",
                "\n",
                "garbage\n",
                BEGIN,
                BEGIN FIRST,
                BEGIN FIRST SECOND,
                BEGIN FIRST END,
                BEGIN FIRST "end " TOKEN " 1\n",
                FIRST SECOND END,
                BEGIN FIRST FIRST SECOND END,
                BEGIN FIRST SECOND END "more\n",
                BEGIN FIRST SECOND END "m",
                BEGIN "files.setuid refused ok x\n" FIRST SECOND END,
                BEGIN "nobody refused ok x\n" FIRST SECOND END,
                BEGIN "files.create refused\n" SECOND END,
                BEGIN "files.create maybe ok x\n" SECOND END,
                BEGIN "files.create refused perhaps x\n" SECOND END,
                "attack 1 0000000000000000\n" FIRST SECOND END,
                BEGIN FIRST SECOND "end 0000000000000000 2\n",
                BEGIN FIRST SECOND "end " TOKEN " 3\n",
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(texts); i++) {
                struct attack_rows rows = two_rows();
                assert_int_equal(answer(&rows, texts[i], 4096), -EPROTO);
                attack_rows_clear(&rows);
        }
        struct attack_rows rows = two_rows();
        struct attack_answer a = { .rows = &rows, .token = TOKEN };
        assert_int_equal(attack_answer_add(&a, "a\0b\n", 4, NULL), -EPROTO);
        NB_AUTO_FREE char *endless = nb_calloc(ANSWER_LINE_MAX + 2, 1);
        memset(endless, 'x', ANSWER_LINE_MAX + 1);
        assert_int_equal(attack_answer_add(&a, endless, ANSWER_LINE_MAX + 1, NULL), -EPROTO);
        attack_answer_clear(&a);
        attack_rows_clear(&rows);
}

/* ---- verdicts */

static enum attack_verdict verdict(const char *name, enum attack_attempt attempt, enum attack_control control,
                                   enum attack_far far) {
        struct attack_rows rows = rows_of((char *[]){ (char *)name, NULL });
        rows.rows[0].attempt = attempt;
        rows.rows[0].control = control;
        rows.rows[0].far = far;
        attack_judge(&rows);
        enum attack_verdict v = rows.rows[0].verdict;
        attack_rows_clear(&rows);
        return v;
}

static void test_verdicts(void **state) {
        (void)state;
        static const struct {
                const char *name;
                enum attack_attempt attempt;
                enum attack_control control;
                enum attack_far far;
                enum attack_verdict want;
        } all[] = {
                /* what the guest sees, and what is seen from here: either is enough to call it open */
                { "network.metadata", ATTEMPT_REFUSED, CONTROL_OK, FAR_HELD, VERDICT_HELD },
                { "network.metadata", ATTEMPT_NOTHING, CONTROL_OK, FAR_HELD, VERDICT_HELD },
                { "network.metadata", ATTEMPT_REFUSED, CONTROL_OK, FAR_OPEN, VERDICT_OPEN },
                { "network.metadata", ATTEMPT_DONE, CONTROL_OK, FAR_HELD, VERDICT_OPEN },
                /* nothing is called good that was not shown */
                { "network.metadata", ATTEMPT_REFUSED, CONTROL_NONE, FAR_HELD, VERDICT_UNCONTROLLED },
                { "network.metadata", ATTEMPT_REFUSED, CONTROL_FAILED, FAR_HELD, VERDICT_UNPROVEN },
                { "network.metadata", ATTEMPT_REFUSED, CONTROL_OK, FAR_UNCLEAR, VERDICT_UNPROVEN },
                { "network.metadata", ATTEMPT_NONE, CONTROL_OK, FAR_HELD, VERDICT_UNPROVEN },
                { "network.metadata", ATTEMPT_DONE, CONTROL_FAILED, FAR_UNCLEAR, VERDICT_OPEN },
                /* where the host sees all of it, the guest's belief is no matter */
                { "files.owner", ATTEMPT_DONE, CONTROL_OK, FAR_HELD, VERDICT_HELD },
                { "files.owner", ATTEMPT_DONE, CONTROL_OK, FAR_OPEN, VERDICT_OPEN },
                { "files.owner", ATTEMPT_DONE, CONTROL_OK, FAR_NONE, VERDICT_UNPROVEN },
                { "files.meets-fifo", ATTEMPT_DONE, CONTROL_OK, FAR_HELD, VERDICT_HELD },
                { "machine.dmi", ATTEMPT_REFUSED, CONTROL_OK, FAR_NONE, VERDICT_HELD },
                { "machine.dmi", ATTEMPT_DONE, CONTROL_OK, FAR_NONE, VERDICT_OPEN },
                /* rows without a guest */
                { "jail.qemu", ATTEMPT_NONE, CONTROL_OK, FAR_HELD, VERDICT_HELD },
                { "jail.qemu", ATTEMPT_NONE, CONTROL_OK, FAR_OPEN, VERDICT_OPEN },
                { "jail.qemu", ATTEMPT_NONE, CONTROL_OK, FAR_NONE, VERDICT_UNPROVEN },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(all); i++)
                assert_int_equal(verdict(all[i].name, all[i].attempt, all[i].control, all[i].far), all[i].want);
}

static void test_what_is_seen_only_gets_worse(void **state) {
        (void)state;
        struct attack_rows rows = rows_of((char *[]){ "files.setuid-mknod", NULL });
        attack_row_see(&rows.rows[0], FAR_HELD, "first");
        attack_row_see(&rows.rows[0], FAR_HELD, "second");
        assert_string_equal(rows.rows[0].seen, "first");
        attack_row_see(&rows.rows[0], FAR_OPEN, "worse");
        attack_row_see(&rows.rows[0], FAR_HELD, "better");
        assert_string_equal(rows.rows[0].seen, "worse");
        assert_int_equal(rows.rows[0].far, FAR_OPEN);
        attack_rows_clear(&rows);
}

/* ---- what the policy allows is not tried */

static json_t *allow_some(void *user, const char *host, unsigned port) {
        char **asked = user;
        NB_AUTO_FREE char *one = nb_asprintf("%s%s:%u ", *asked ? *asked : "", host, port);
        free(*asked);
        *asked = nb_strdup(one);
        bool allow = strcmp(host, "169.254.169.254") == 0 || strncmp(host, "probe-", 6) == 0;
        return json_pack("{s:b, s:s}", "allow", allow, "reason", "a rule");
}

static void test_policy(void **state) {
        (void)state;
        struct attack_rows rows =
            rows_of((char *[]){ "network.metadata", "network.octal", "network.host-loopback", "names.denied", "names.address",
                                "protocol.quic", "frames.plain", "frames.vlan", "jail.qemu", NULL });
        struct attack_facts facts = all_facts();
        char *asked = NULL;
        attack_fill(&rows, &facts);
        attack_ask_policy(&rows, allow_some, &asked);
        /* spelled as the gateway spells it; never the box's own loopback, never what no rule can allow */
        assert_non_null(strstr(asked, "169.254.169.254:80 "));
        assert_non_null(strstr(asked, "192.0.2.4:8443 "));
        assert_non_null(strstr(asked, "probe-" TOKEN ".invalid:0 "));
        assert_non_null(strstr(asked, "192.0.2.30:443 "));
        assert_null(strstr(asked, "127."));
        assert_null(strstr(asked, "192.0.2.1:0"));
        assert_null(strstr(asked, "192.0.2.11:"));
        assert_null(strstr(asked, "192.0.2.35:"));
        attack_judge(&rows);
        assert_int_equal(attack_row_find(&rows, "network.metadata")->verdict, VERDICT_ALLOWED);
        assert_int_equal(attack_row_find(&rows, "names.denied")->verdict, VERDICT_ALLOWED);
        assert_int_equal(attack_row_find(&rows, "network.octal-address")->verdict, VERDICT_UNPROVEN);
        free(asked);
        attack_rows_clear(&rows);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names_are_names),
                cmocka_unit_test(test_choosing),
                cmocka_unit_test(test_every_word_is_known),
                cmocka_unit_test(test_what_a_box_has_not),
                cmocka_unit_test(test_plan),
                cmocka_unit_test(test_answer),
                cmocka_unit_test(test_answers_that_are_none),
                cmocka_unit_test(test_verdicts),
                cmocka_unit_test(test_what_is_seen_only_gets_worse),
                cmocka_unit_test(test_policy),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
