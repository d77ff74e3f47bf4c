/* Unit tests of src/jail/landlock: plans in the kernel's words for each ABI, as text, and what a process under them may do,
 * next to what the same process may do without. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "jail/landlock.h"
#include "scratch.h"

#define MAKE_DEVICES (1ull << 6 | 1ull << 11)
#define REFER (1ull << 13)
#define TRUNCATE (1ull << 14)
#define IOCTL_DEV (1ull << 15)

static const struct landlock_plan reader = { .on = true, .read = true };
static const struct landlock_plan writer = { .on = true, .read = true, .write = "/share" };
static const struct landlock_plan gateway = { .on = true, .tcp = true };
static const struct landlock_plan resolver = { .on = true, .read = true, .tcp = true, .abstract = true };

static void nothing_without_landlock(void **state) {
        (void)state;
        for (int abi = 0; abi < LANDLOCK_ABI_MIN; abi++)
                assert_int_equal(landlock_translate(&writer, abi).handled_fs, 0);
        assert_int_equal(landlock_translate(&(struct landlock_plan){ 0 }, 7).handled_fs, 0);
        NB_AUTO_FREE char *none = landlock_describe(&writer, 0);
        assert_string_equal(none, "none: this kernel has none");
        assert_int_equal(landlock_enter(&writer, 0, NULL), 0);
}

static void rules_grow_with_the_kernel(void **state) {
        (void)state;
        struct landlock_rules r = landlock_translate(&reader, 2);
        assert_int_equal(r.handled_fs, 0x3fff);
        assert_int_equal(r.handled_net | r.scoped | r.write, 0);
        assert_int_equal(r.read, 0xd); /* run, read files and folders */
        assert_int_equal(landlock_translate(&reader, 3).handled_fs, 0x3fff | TRUNCATE);
        assert_int_equal(landlock_translate(&reader, 4).handled_net, 3);
        assert_int_equal(landlock_translate(&reader, 5).handled_fs, 0x3fff | TRUNCATE | IOCTL_DEV);
        assert_int_equal(landlock_translate(&reader, 5).scoped, 0);
        assert_int_equal(landlock_translate(&reader, 6).scoped, 3);
        assert_int_equal(landlock_translate(&reader, 99).handled_fs, 0x3fff | TRUNCATE | IOCTL_DEV);
}

static void each_process_keeps_what_it_needs(void **state) {
        (void)state;
        struct landlock_rules r = landlock_translate(&writer, 6);
        assert_int_equal(r.write & (MAKE_DEVICES | IOCTL_DEV), 0);
        assert_int_equal(r.write & (REFER | TRUNCATE), REFER | TRUNCATE);
        r = landlock_translate(&gateway, 6);
        assert_int_equal(r.read | r.write | r.handled_net, 0);
        assert_int_equal(r.scoped, 3);
        r = landlock_translate(&resolver, 6);
        assert_int_equal(r.handled_net, 0);
        assert_int_equal(r.scoped, 2); /* signals; the host's name service may be behind an abstract socket */
        NB_AUTO_FREE char *text = landlock_describe(&writer, 6);
        assert_string_equal(text,
                            "ABI 6: files are read and run, changed below /share; no devices, no TCP, no abstract sockets, "
                            "no signals to others");
        NB_AUTO_FREE char *less = landlock_describe(&gateway, 2);
        assert_string_equal(less, "ABI 2: files are out of reach, not changed; no devices");
}

/* --- in force --- */

enum { READ, MAKE_INSIDE, MAKE_OUTSIDE, MOVE_INSIDE, CONNECT, ABSTRACT, SIGNAL, TRIES };

struct place {
        char *top, *inside;
        struct sockaddr_in tcp;
        struct sockaddr_un abstract;
        socklen_t abstract_len;
        pid_t victim;
};

static int made(const char *dir) {
        NB_AUTO_FREE char *path = nb_path_join(dir, "made");
        NB_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        return fd < 0 ? -1 : 0;
}

static int connected(int family, const void *address, socklen_t len) {
        NB_AUTO_CLOSE int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return connect(fd, address, len);
}

static int moved(const struct place *p) {
        NB_AUTO_FREE char *from = nb_path_join(p->inside, "made");
        NB_AUTO_FREE char *folder = nb_path_join(p->inside, "folder");
        NB_AUTO_FREE char *to = nb_path_join(folder, "made");
        (void)mkdir(folder, 0700);
        return rename(from, to);
}

/* What a child can do under a plan, one bit a try. */
static unsigned tries(const struct landlock_plan *plan, const struct place *p) {
        int status;
        pid_t pid = fork();
        if (pid == 0) {
                if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || (plan && landlock_enter(plan, landlock_abi(), NULL) < 0))
                        _exit(255);
                NB_AUTO_CLOSE int fd = open(p->top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                unsigned can = (fd >= 0) << READ | (made(p->inside) == 0) << MAKE_INSIDE | (made(p->top) == 0) << MAKE_OUTSIDE;
                can |= (moved(p) == 0) << MOVE_INSIDE;
                can |= (connected(AF_INET, &p->tcp, sizeof p->tcp) == 0) << CONNECT;
                can |= (connected(AF_UNIX, &p->abstract, p->abstract_len) == 0) << ABSTRACT;
                can |= (kill(p->victim, 0) == 0) << SIGNAL;
                _exit((int)can);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 255);
        return (unsigned)WEXITSTATUS(status);
}

static int listener(int family, const void *address, socklen_t len) {
        int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, address, len), 0);
        assert_int_equal(listen(fd, 16), 0);
        return fd;
}

static void what_is_taken_is_gone(void **state) {
        (void)state;
        int abi = landlock_abi();
        if (abi == 0)
                skip();
        char top[SCRATCH_PATH];
        assert_int_equal(scratch_enter(top, NULL), 0);
        struct place p = { .top = top, .victim = getpid() };
        p.inside = nb_path_join(p.top, "inside");
        assert_int_equal(mkdir(p.inside, 0700), 0);
        p.tcp = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        NB_AUTO_CLOSE int tcp = listener(AF_INET, &p.tcp, sizeof p.tcp);
        socklen_t len = sizeof p.tcp;
        assert_int_equal(getsockname(tcp, (struct sockaddr *)&p.tcp, &len), 0);
        p.abstract = (struct sockaddr_un){ .sun_family = AF_UNIX };
        int n = snprintf(p.abstract.sun_path + 1, 64, "nixbox-landlock-%d", getpid());
        p.abstract_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
        NB_AUTO_CLOSE int abstract = listener(AF_UNIX, &p.abstract, p.abstract_len);
        assert_true(abstract >= 0);
        const unsigned all = (1u << TRIES) - 1;
        const unsigned net = abi >= 4 ? 1u << CONNECT : 0, scope = abi >= 6 ? 1u << ABSTRACT | 1u << SIGNAL : 0;
        const unsigned files = 1u << MAKE_INSIDE | 1u << MAKE_OUTSIDE | 1u << MOVE_INSIDE;
        assert_int_equal(tries(NULL, &p), all);
        assert_int_equal(tries(&reader, &p), all & ~(files | net | scope));
        struct landlock_plan below = { .on = true, .read = true, .write = p.inside };
        assert_int_equal(tries(&below, &p), all & ~(1u << MAKE_OUTSIDE | net | scope));
        assert_int_equal(tries(&gateway, &p), all & ~(1u << READ | files | scope));
        assert_int_equal(tries(&resolver, &p), all & ~(files | (abi >= 6 ? 1u << SIGNAL : 0)));
        free(p.inside);
        assert_int_equal(scratch_leave(top), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(nothing_without_landlock),
                cmocka_unit_test(rules_grow_with_the_kernel),
                cmocka_unit_test(each_process_keeps_what_it_needs),
                cmocka_unit_test(what_is_taken_is_gone),
        };
        return cmocka_run_group_tests_name("landlock", tests, NULL, NULL);
}
