/* Each phase of a jail made to fail, by a plan that cannot be carried out or by a kernel that refuses one call: the start stops
 * there, says where, and leaves no process. And what a process beside the one in the jail sees. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "box/helper.h"
#include "jail/jail.h"
#include "jail/userns.h"

#define TEXT_MAX 1024
#define NO_SUCH_LIMIT 99
#define NO_SUCH_FD 900

/* --- how a plan is broken --- */

static void no_source(struct jail_plan *plan) {
        jail_plan_mount(plan, &(struct jail_mount){ JAIL_BIND, .source = "/no/such/folder", .target = "/a" });
}

static void changed_source(struct jail_plan *plan) {
        jail_plan_mount(plan, &(struct jail_mount){ JAIL_BIND, .source = "/etc/passwd", .target = "/a", .seal = "another" });
}

static void no_place(struct jail_plan *plan) {
        jail_plan_mount(plan, &(struct jail_mount){ JAIL_BIND, .source = "/usr", .target = "relative" });
}

static void no_descriptor(struct jail_plan *plan) {
        jail_plan_fd(plan, NO_SUCH_FD, 3);
}

static void no_limit(struct jail_plan *plan) {
        jail_plan_limit(plan, NO_SUCH_LIMIT, 0);
}

static void no_cgroup(struct jail_plan *plan) {
        plan->cgroup_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void no_score(struct jail_plan *plan) {
        plan->oom_score_adj = 4000;
}

static void no_folder_to_write(struct jail_plan *plan) {
        plan->landlock = (struct landlock_plan){ .on = true, .read = true, .write = "/no/such/folder" };
}

static void no_program(struct jail_plan *plan) {
        nb_strv_free(plan->argv);
        plan->argv = NULL;
        nb_strv_add(&plan->argv, "/no/such/program");
}

static void nothing(struct jail_plan *plan) {
        (void)plan;
}

struct failure {
        const char *says; /* the phase, and what it says */
        void (*breaks)(struct jail_plan *plan);
        int call;      /* that the kernel refuses, 0: none */
        int first;     /* only with this first argument, -1: with any */
        bool landlock; /* only where there is Landlock */
};
static const struct failure failures[] = {
        { "namespaces: cannot make a cgroup namespace", nothing, SCMP_SYS(unshare), CLONE_NEWCGROUP, false },
        { "place: cannot write", no_score, 0, -1, false },
        { "place: cannot move it into the box's cgroup", no_cgroup, 0, -1, false },
        { "sources: cannot open /no/such/folder", no_source, 0, -1, false },
        { "sources: /etc/passwd was changed", changed_source, 0, -1, false },
        { "identity: cannot hide the host's name", nothing, SCMP_SYS(sethostname), -1, false },
        { "identity: cannot take the new id", nothing, SCMP_SYS(setresuid), -1, false },
        { "tether: cannot be tied to the parent", nothing, SCMP_SYS(prctl), PR_SET_PDEATHSIG, false },
        { "root: relative cannot be a place in a jail", no_place, 0, -1, false },
        { "root: cannot change the root", nothing, SCMP_SYS(pivot_root), -1, false },
        { "descriptors: cannot arrange descriptor 900", no_descriptor, 0, -1, false },
        { "descriptors: cannot close descriptors", nothing, SCMP_SYS(close_range), -1, false },
        { "limits: cannot read limit 99", no_limit, 0, -1, false },
        { "privileges: cannot drop capability", nothing, SCMP_SYS(prctl), PR_CAPBSET_DROP, false },
        { "privileges: cannot drop capabilities", nothing, SCMP_SYS(capset), -1, false },
        { "privileges: cannot forbid new privileges", nothing, SCMP_SYS(prctl), PR_SET_NO_NEW_PRIVS, false },
        { "landlock: cannot allow what is below /no/such/folder", no_folder_to_write, 0, -1, true },
        { "filter: cannot load the system call filter", nothing, SCMP_SYS(seccomp), 1 /* SECCOMP_SET_MODE_FILTER */, false },
        { "exec: cannot run /no/such/program", no_program, 0, -1, false },
};

static int refuse_call(int call, int first) {
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
        const struct scmp_arg_cmp cmp = SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)first);
        int r = ctx ? seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EPERM), call, first >= 0, &cmp) : -ENOMEM;
        if (r == 0) /* as root it would do without, and then forbid nothing of what is tested */
                r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
        if (r == 0)
                r = seccomp_load(ctx);
        seccomp_release(ctx);
        return r;
}

static struct jail_plan *sound_plan(void) {
        struct jail_plan *plan = jail_plan_new("example");
        plan->ids = JAIL_IDS_CALLER;
        plan->seccomp = JAIL_SECCOMP_QEMU;
        plan->landlock = (struct landlock_plan){ .on = true, .read = true };
        plan->oom_score_adj = 0;
        jail_plan_runtime(plan, "");
        jail_plan_limit(plan, RLIMIT_MEMLOCK, 0);
        nb_strv_add(&plan->argv, "/usr/bin/true");
        return plan;
}

/* As the supervisor does it, in a process with namespaces of its own. Says what came of it; exits with 77 where there can be no
 * namespaces. */
static _Noreturn void start(const struct failure *f, int say) {
        NB_AUTO_ERROR err = { 0 };
        struct jail_child child = { 0 };
        siginfo_t info = { 0 };
        if (userns_enter(CLONE_NEWNS | CLONE_NEWIPC, &err) < 0)
                _exit(77);
        struct jail_plan *plan = sound_plan();
        if (f)
                f->breaks(plan);
        if (f && f->call != 0 && refuse_call(f->call, f->first) < 0)
                _exit(3);
        int r = jail_spawn(plan, &child, &err);
        if (r < 0)
                (void)nb_write_all(say, err.what, strlen(err.what));
        else
                (void)waitid(P_PID, (id_t)child.pid, &info, WEXITED);
        bool alone = waitid(P_ALL, 0, &info, WEXITED | WNOHANG) < 0 && errno == ECHILD;
        _exit(!alone ? 2 : r < 0 ? 1 : info.si_status);
}

/* Exit status of start(), and what it said. */
static int run(const struct failure *f, char text[static TEXT_MAX]) {
        int ends[2], status;
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        pid_t pid = fork();
        if (pid == 0)
                start(f, ends[1]);
        nb_close(ends[1]);
        ssize_t n = nb_read_full(ends[0], text, TEXT_MAX - 1);
        text[n > 0 ? n : 0] = 0;
        nb_close(ends[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void a_sound_plan_is_carried_out(void **state) {
        (void)state;
        char text[TEXT_MAX];
        int status = run(NULL, text);
        if (status == 77)
                skip();
        assert_string_equal(text, "");
        assert_int_equal(status, 0);
}

static void a_phase_that_fails_stops_the_start(void **state) {
        (void)state;
        char text[TEXT_MAX];
        for (size_t i = 0; i < NB_ARRAY_LEN(failures); i++) {
                if (failures[i].landlock && landlock_abi() == 0)
                        continue;
                int status = run(&failures[i], text);
                if (status == 77)
                        skip();
                if (status != 1 || !strstr(text, failures[i].says))
                        fail_msg("%s: exited with %d and said: %s", failures[i].says, status, text);
        }
}

/* --- beside a jail --- */

static pid_t start_helper(const char *script, const struct jail_child *among, struct nb_error *err) {
        char *argv[] = { "sh", "-c", (char *)script, NULL };
        struct jail_child child = { 0 };
        struct helper_spec spec = { .name = "the neighbour",
                                    .program = helper_open("/bin/sh", err),
                                    .argv = argv,
                                    .fd_end = STDERR_FILENO + 1,
                                    .limits = { .memory = RLIM_INFINITY, .files = 64 },
                                    .network = -1,
                                    .among = among };
        return spec.program < 0 || helper_spawn(&spec, &child, err) < 0 ? -1 : child.pid;
}

static int end_of(pid_t pid) {
        siginfo_t info = { 0 };
        return waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 ? -1
               : info.si_code == CLD_EXITED                 ? info.si_status
                                                            : -info.si_status;
}

/* As the supervisor does it: something in a jail, and another process that counts as the second there. */
static _Noreturn void start_beside(void) {
        NB_AUTO_ERROR err = { 0 };
        struct jail_child first = { 0 };
        if (userns_enter(CLONE_NEWNS | CLONE_NEWIPC, &err) < 0)
                _exit(77);
        struct jail_plan *plan = sound_plan();
        nb_strv_free(plan->argv);
        plan->argv = NULL;
        nb_strv_add(&plan->argv, "/usr/bin/sleep");
        nb_strv_add(&plan->argv, "1000");
        if (jail_spawn(plan, &first, &err) < 0)
                _exit(1);
        if (end_of(start_helper("exit $$", &first, &err)) != 2)
                _exit(2); /* it is the second, and was waited for as a child of ours */
        if (end_of(start_helper("[ $$ != 3 ] && exit 9", NULL, &err)) != 9)
                _exit(3); /* what is started later is among our own again */
        pid_t beside = start_helper("kill -STOP $$; exit 0", &first, &err);
        (void)kill(first.pid, SIGKILL);
        if (beside < 0 || end_of(beside) != -SIGKILL || end_of(first.pid) != -SIGKILL)
                _exit(4); /* the end of the first was its own, too */
        _exit(start_helper("exit 0", &first, &err) < 0 ? 0 : 5);
}

static void a_process_beside_a_jail_is_among_its_processes(void **state) {
        (void)state;
        int status;
        pid_t pid = fork();
        if (pid == 0)
                start_beside();
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
                skip();
        assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_sound_plan_is_carried_out),
                cmocka_unit_test(a_phase_that_fails_stops_the_start),
                cmocka_unit_test(a_process_beside_a_jail_is_among_its_processes),
        };
        return cmocka_run_group_tests_name("jail_phases", tests, NULL, NULL);
}
