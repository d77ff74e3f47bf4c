/* What nixbox attack sees from this side, without a box: files that should not have come to be, people who came to a listener,
 * what the gateway told. For each: it is called open when it is, and held when it is not. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "attack/scene.h"
#include "base/io.h"
#include "base/mem.h"
#include "box/events.h"
#include "scratch.h"

struct stage {
        char dir[SCRATCH_PATH], *ro, *rw;
        struct box_paths paths;
        struct attack_scene scene;
        struct attack_rows rows;
};

static void write_file(const char *path, const char *text, mode_t mode) {
        assert_int_equal(nb_write_file_atomic(path, text, strlen(text), mode), 0);
        assert_int_equal(chmod(path, mode), 0);
}

static void begin(struct stage *t, const char *name) {
        *t = (struct stage){ 0 };
        assert_int_equal(scratch_enter(t->dir, NULL), 0);
        t->paths = (struct box_paths){ .name = nb_strdup("box"),
                                       .runtime = nb_strdup(t->dir),
                                       .state = nb_strdup(t->dir),
                                       .control = nb_strdup("/nowhere") };
        t->ro = nb_asprintf("%s/ro", t->dir);
        t->rw = nb_asprintf("%s/rw", t->dir);
        assert_int_equal(mkdir(t->ro, 0755), 0);
        assert_int_equal(mkdir(t->rw, 0755), 0);
        NB_AUTO_FREE char *kept = nb_asprintf("%s/kept", t->ro);
        write_file(kept, "kept", 0644);
        json_t *status = json_pack("{s:[{s:s, s:s, s:b}, {s:s, s:s, s:b}], s:{s:I}, s:s, s:i}", "mounts", "source", t->ro,
                                   "target", "/ro", "write", 0, "source", t->rw, "target", "/rw", "write", 1, "memory", "limit",
                                   (json_int_t)1 << 30, "network", "filtered", "pid", (int)getpid());
        assert_int_equal(attack_scene_begin(&t->scene, NULL), 0);
        assert_int_equal(attack_scene_make(&t->scene, &t->paths, status, NULL), 0);
        json_decref(status);
        t->scene.facts.allowed = t->scene.facts.allowed443 = t->scene.facts.allowed80 = "api.example";
        assert_int_equal(attack_rows_new((char *[]){ (char *)name, NULL }, &t->rows, NULL), 0);
        attack_fill(&t->rows, &t->scene.facts);
        for (size_t i = 0; i < t->rows.n; i++) {
                t->rows.rows[i].attempt = ATTEMPT_REFUSED;
                t->rows.rows[i].control = CONTROL_OK;
        }
}

static char *in_rw(const struct stage *t, const char *name) {
        return nb_asprintf("%s/.nixbox-attack-%s/%s", t->rw, t->scene.token, name);
}

/* Looks, takes down, and says what the first row came to. */
static enum attack_verdict end(struct stage *t) {
        attack_scene_look(&t->scene, &t->rows);
        attack_trace_end(&t->rows, attack_trace(&t->scene, &t->rows));
        attack_judge(&t->rows);
        enum attack_verdict v = t->rows.rows[0].verdict;
        assert_int_equal(attack_scene_end(&t->scene, NULL), 0);
        /* nothing of the run is left, and what was there is */
        NB_AUTO_FREE char *kept = nb_asprintf("%s/kept", t->ro);
        assert_int_equal(access(kept, F_OK), 0);
        assert_int_equal(rmdir(t->rw), 0);
        attack_rows_clear(&t->rows);
        char *const texts[] = { t->paths.name, t->paths.runtime, t->paths.state, t->paths.control, t->ro, t->rw };
        for (size_t i = 0; i < NB_ARRAY_LEN(texts); i++)
                free(texts[i]);
        assert_int_equal(scratch_leave(t->dir), 0);
        return v;
}

/* ---- files */

static void test_a_set_id_bit(void **state) {
        (void)state;
        static const struct {
                mode_t mode;
                enum attack_verdict want;
        } all[] = { { 0755, VERDICT_HELD }, { 04755, VERDICT_OPEN }, { 02755, VERDICT_OPEN } };
        for (size_t i = 0; i < NB_ARRAY_LEN(all); i++) {
                struct stage t;
                begin(&t, "files.setgid");
                NB_AUTO_FREE char *path = in_rw(&t, "setgid.file"), *other = in_rw(&t, "setuid.file");
                write_file(path, "", all[i].mode);
                write_file(other, "", 04755); /* another row's */
                assert_int_equal(end(&t), all[i].want);
        }
}

static void test_nothing_was_made(void **state) {
        (void)state;
        struct stage t;
        begin(&t, "files.char-device");
        assert_int_equal(end(&t), VERDICT_HELD);
        begin(&t, "files.create");
        assert_int_equal(end(&t), VERDICT_HELD);
}

static void test_a_file_in_the_read_only_mount(void **state) {
        (void)state;
        struct stage t;
        begin(&t, "files.mkdir");
        NB_AUTO_FREE char *path = nb_asprintf("%s/.nixbox-attack-%s.mkdir", t.ro, t.scene.token);
        assert_int_equal(mkdir(path, 0755), 0);
        assert_int_equal(end(&t), VERDICT_OPEN);
        assert_int_equal(access(path, F_OK), -1);
}

static void test_a_changed_file(void **state) {
        (void)state;
        struct stage t;
        begin(&t, "files.chmod");
        NB_AUTO_FREE char *kept = nb_asprintf("%s/kept", t.ro);
        assert_string_equal(t.scene.witness.path, kept);
        assert_string_equal(t.scene.facts.witness, "/ro/kept");
        assert_int_equal(end(&t), VERDICT_HELD);
        begin(&t, "files.chmod");
        free(kept);
        kept = nb_asprintf("%s/kept", t.ro);
        assert_int_equal(chmod(kept, 0600), 0);
        assert_int_equal(end(&t), VERDICT_OPEN);
}

static void test_the_canary(void **state) {
        (void)state;
        struct stage t;
        begin(&t, "files.proc-root");
        write_file(t.scene.canary, "somebody was here", 0600);
        assert_int_equal(end(&t), VERDICT_OPEN);
}

/* ---- somebody comes */

static void test_meetings(void **state) {
        (void)state;
        struct stage t;
        begin(&t, "files.meets-fifo");
        t.rows.rows[0].attempt = ATTEMPT_DONE; /* the guest wrote into a pipe of its own kernel */
        assert_int_equal(end(&t), VERDICT_HELD);
        begin(&t, "files.meets-fifo");
        NB_AUTO_FREE char *path = in_rw(&t, "meets-fifo.host");
        NB_AUTO_CLOSE int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        assert_int_equal(write(fd, "x", 1), 1);
        assert_int_equal(end(&t), VERDICT_OPEN);
}

static void test_listeners(void **state) {
        (void)state;
        struct stage t;
        begin(&t, "network.host-through-router");
        struct sockaddr_in to = { .sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)t.scene.facts.loopport),
                                  .sin_addr = { htonl(INADDR_LOOPBACK) } };
        NB_AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
        assert_int_equal(end(&t), VERDICT_OPEN);
        begin(&t, "network.host-through-router");
        assert_int_equal(end(&t), VERDICT_HELD);
}

/* ---- what the gateway told */

static enum attack_verdict told(const char *row, const char *before, const char *after) {
        struct stage t;
        NB_AUTO_FREE char *lines = NULL;
        begin(&t, row);
        NB_AUTO_FREE char *path = nb_asprintf("%s/" EVENTS_FILE, t.dir);
        lines = nb_asprintf("%s%s", before, after);
        write_file(path, lines, 0600);
        t.scene.events_from = (off_t)strlen(before);
        return end(&t);
}

#define EVENT(type, decision, rest) "{\"type\":\"" type "\",\"decision\":\"" decision "\"," rest "}\n"
#define METADATA "\"ip\":\"169.254.169.254\",\"port\":80"
#define INSIDE "\"host\":\"api.example\",\"port\":443,\"reason\":"

static void test_events(void **state) {
        (void)state;
        static const char allow[] = EVENT("connect", "allow", METADATA), deny[] = EVENT("connect", "deny", METADATA);
        assert_int_equal(told("network.metadata", "", deny), VERDICT_HELD);
        assert_int_equal(told("network.metadata", "", allow), VERDICT_OPEN);
        assert_int_equal(told("network.metadata", allow, ""), VERDICT_HELD); /* before the run */
        assert_int_equal(told("network.metadata", "", "garbage\n\n{}\n"), VERDICT_HELD);
        assert_int_equal(told("network.metadata", "", EVENT("connect", "allow", "\"ip\":\"169.254.169.254\",\"port\":81")),
                         VERDICT_HELD);
        assert_int_equal(told("network.decimal", "", EVENT("connect", "allow", "\"ip\":\"192.0.2.3\",\"port\":8443")),
                         VERDICT_OPEN);
        assert_int_equal(told("names.host", "", EVENT("dns", "allow", "\"host\":\"host.nixbox.internal\"")), VERDICT_OPEN);
        assert_int_equal(told("names.host", "", EVENT("dns", "deny", "\"host\":\"host.nixbox.internal\"")), VERDICT_HELD);
        assert_int_equal(told("frames.vlan-twice", "", EVENT("connect", "allow", "\"ip\":\"192.0.2.36\"")), VERDICT_OPEN);
}

/* On a connection that is allowed, the refusal must be about what this row said. */
static void test_events_inside(void **state) {
        (void)state;
        assert_int_equal(told("protocol.tls-without-name", "", EVENT("connect", "deny", INSIDE "\"… (no server name)\"")),
                         VERDICT_HELD);
        assert_int_equal(told("protocol.tls-without-name", "", EVENT("connect", "deny", INSIDE "\"neither TLS nor HTTP\"")),
                         VERDICT_UNPROVEN);
        assert_int_equal(told("protocol.tls-without-name", "", EVENT("connect", "allow", INSIDE "\"\"")), VERDICT_UNPROVEN);
        assert_int_equal(told("protocol.tls-without-name", "", ""), VERDICT_UNPROVEN);
}

/* ---- processes */

static void test_a_process_without_a_jail(void **state) {
        (void)state;
        struct stage t;
        pid_t pid = fork();
        if (pid == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void)execl("/bin/sleep", "qemu-system-x86_64", "60", (char *)NULL);
                _exit(1);
        }
        begin(&t, "jail.qemu");
        NB_AUTO_FREE char *line = NULL;
        NB_AUTO_FREE char *path = nb_asprintf("/proc/%d/cmdline", (int)pid);
        for (int i = 0; i < 3000 && (!line || strncmp(line, "qemu", 4) != 0); i++) {
                free(line);
                line = NULL;
                (void)usleep(10000);
                (void)nb_read_file(path, 4096, &line, NULL);
        }
        assert_non_null(line);
        assert_memory_equal(line, "qemu", 4);
        attack_looks(&t.scene, t.scene.status, &t.rows);
        assert_int_equal(t.rows.rows[0].far, FAR_OPEN);
        assert_int_equal(t.rows.rows[0].control, CONTROL_OK);
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        assert_int_equal(end(&t), VERDICT_OPEN);
        begin(&t, "jail.virtiofsd"); /* there is none */
        attack_looks(&t.scene, t.scene.status, &t.rows);
        assert_int_equal(end(&t), VERDICT_UNPROVEN);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_set_id_bit),
                cmocka_unit_test(test_nothing_was_made),
                cmocka_unit_test(test_a_file_in_the_read_only_mount),
                cmocka_unit_test(test_a_changed_file),
                cmocka_unit_test(test_the_canary),
                cmocka_unit_test(test_meetings),
                cmocka_unit_test(test_listeners),
                cmocka_unit_test(test_events),
                cmocka_unit_test(test_events_inside),
                cmocka_unit_test(test_a_process_without_a_jail),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
