/* Unit tests for faked ownership: real children under the real filter, in a user namespace with one id, make the calls in a
 * folder of their own; the builder then asks who owns what. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "image/fakeown_internal.h"
#include "scratch.h"

#define PAGE 4096
#define N_RACES 2000
#define N_AT_ONCE 8
#define N_EACH 200
#define ALARM_US 100
#define HARD_LIMIT (1ul << 30)
#define N_SIGNALLED 1000
#define KEEP ((uid_t)-1)

/* In the child and its builder, which cannot end a test of cmocka's: they tell and exit. */
#define CHECK(what)                                                                                            \
        do {                                                                                                   \
                if (!(what)) {                                                                                 \
                        (void)fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #what, strerror(errno)); \
                        _exit(1);                                                                              \
                }                                                                                              \
        } while (0)
#define FAILS_WITH(code, call) CHECK(((errno = 0), (call)) < 0 && errno == (code))

typedef void body(void);

static void enter_namespace(int flags) {
        NB_AUTO_FREE char *uids = nb_asprintf("0 %u 1\n", geteuid()), *gids = nb_asprintf("0 %u 1\n", getegid());
        CHECK(unshare(CLONE_NEWUSER | CLONE_NEWNS | flags) == 0);
        CHECK(nb_write_string_at(AT_FDCWD, "/proc/self/setgroups", "deny") == 0);
        CHECK(nb_write_string_at(AT_FDCWD, "/proc/self/uid_map", uids) == 0);
        CHECK(nb_write_string_at(AT_FDCWD, "/proc/self/gid_map", gids) == 0);
}

_Noreturn static void be_child(int sock, body *child) {
        int fd = -1;
        CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
        CHECK(fakeown_filter(&fd, NULL) == 0);
        CHECK(nb_send_fds(sock, "", 1, &fd, 1) == 1);
        nb_close(fd);
        nb_close(sock);
        child();
        _exit(0);
}

/* The whole life of a builder: returns the child's wait status. */
static int be_builder(body *child, body *after, int flags) {
        int sock[2], fd = -1, status = 0;
        char byte;
        size_t n_fds = 1;
        struct fakeown *f = NULL;
        enter_namespace(flags);
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock) == 0);
        pid_t pid = fork();
        if (pid == 0)
                be_child(sock[1], child);
        nb_close(sock[1]);
        CHECK(nb_recv_fds(sock[0], &byte, 1, &fd, &n_fds) == 1 && n_fds == 1);
        nb_close(sock[0]);
        CHECK(fakeown_new(fd, &f, NULL) == 0);
        NB_AUTO_CLOSE int until = flags & CLONE_NEWPID ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
        CHECK(fakeown_serve(f, until, NULL) == 0);
        fakeown_free(f);
        CHECK(waitpid(pid, &status, 0) == pid);
        if (after)
                after();
        return status;
}

/* Runs `child` under the filter, then `after` in its builder; returns what became of the child. */
static int run_status(body *child, body *after, int flags) {
        char dir[SCRATCH_PATH];
        int report[2], status = -1;
        assert_int_equal(scratch_enter(dir, NULL), 0);
        assert_int_equal(pipe(report), 0);
        pid_t pid = fork();
        if (pid == 0) {
                int r = be_builder(child, after, flags);
                _exit(write(report[1], &r, sizeof r) == sizeof r ? 0 : 1);
        }
        nb_close(report[1]);
        (void)!read(report[0], &status, sizeof status);
        nb_close(report[0]);
        int builder = -1;
        assert_int_equal(waitpid(pid, &builder, 0), pid);
        assert_int_equal(scratch_leave(dir), 0);
        assert_int_equal(builder, 0);
        return status;
}

static void run(body *child, body *after) {
        assert_int_equal(run_status(child, after, 0), 0);
}

static bool owned(const char *name, uid_t uid, gid_t gid) {
        uid_t has_uid = 77;
        gid_t has_gid = 77;
        int r = fakeown_owner(AT_FDCWD, name, &has_uid, &has_gid);
        if (r < 0 || has_uid != uid || has_gid != gid)
                (void)fprintf(stderr, "%s: %d, owner %u:%u\n", name, r, has_uid, has_gid);
        return r == 0 && has_uid == uid && has_gid == gid;
}

static void make_file(const char *name, mode_t mode) {
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        CHECK(fd >= 0 && fchmod(fd, mode) == 0);
        nb_close(fd);
}

/* --- owners --- */

static void chown_every_way(void) {
        static const char *const names[] = { "a", "b", "c", "d", "e", "f" };
        for (size_t i = 0; i < NB_ARRAY_LEN(names); i++)
                make_file(names[i], i % 2 ? 0444 : 0); /* what only its owner's privileges can change */
        CHECK(mkdir("dir", 0) == 0 && symlink("a", "link") == 0 && symlink("b", "other") == 0 && mkfifo("fifo", 0600) == 0);
        int fd = open("c", O_RDONLY | O_CLOEXEC), dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK(fd >= 0 && dir >= 0);
        CHECK(syscall(SYS_chown, "link", 1, 2) == 0);
        CHECK(syscall(SYS_lchown, "other", 3, 4) == 0);
        CHECK(syscall(SYS_fchown, fd, 5, 6) == 0);
        CHECK(syscall(SYS_fchownat, dir, "d", 7, 8, 0) == 0);
        CHECK(syscall(SYS_fchownat, dir, "link", 9, 10, AT_SYMLINK_NOFOLLOW) == 0);
        int path = open("e", O_PATH | O_CLOEXEC);
        CHECK(path >= 0 && syscall(SYS_fchownat, path, "", 4294967294u, 65536, AT_EMPTY_PATH) == 0);
        CHECK(syscall(SYS_fchownat, AT_FDCWD, "fifo", 11, 12, 0) == 0 && syscall(SYS_chown, "dir", 13, 14) == 0);
        CHECK(chown("f", 15, 16) == 0 && chown("f", 0, 0) == 0);
}

static void after_every_way(void) {
        CHECK(owned("a", 1, 2) && owned("b", 0, 0) && owned("c", 5, 6) && owned("d", 7, 8) && owned("e", 4294967294u, 65536));
        CHECK(owned("other", 3, 4) && owned("link", 9, 10) && owned("fifo", 11, 12) && owned("dir", 13, 14) &&
              owned("f", 0, 0));
        char text[32];
        CHECK(getxattr("f", FAKEOWN_XATTR, text, sizeof text) < 0 && errno == ENODATA);
        struct stat st;
        CHECK(lstat("a", &st) == 0 && st.st_uid == 0 && st.st_gid == 0); /* the kernel's own view has not changed */
        CHECK(chmod("dir", 0700) == 0);                                  /* so that it can be removed */
}

static void owners_are_recorded(void **state) {
        (void)state;
        run(chown_every_way, after_every_way);
}

static void keep_ids(void) {
        make_file("f", 0644);
        CHECK(chown("f", 5, KEEP) == 0 && chown("f", KEEP, 6) == 0 && chown("f", KEEP, KEEP) == 0);
        make_file("g", 0644);
        CHECK(chown("g", KEEP, 8) == 0);
}

static void after_keep_ids(void) {
        CHECK(owned("f", 5, 6) && owned("g", 0, 8));
}

static void minus_one_keeps_an_id(void **state) {
        (void)state;
        run(keep_ids, after_keep_ids);
}

static void stat_every_way(void) {
        struct stat st;
        struct statx stx;
        make_file("f", 0640);
        CHECK(symlink("f", "l") == 0 && chown("f", 5, 6) == 0 && lchown("l", 7, 8) == 0);
        int fd = open("f", O_RDONLY | O_CLOEXEC);
        CHECK(syscall(SYS_stat, "l", &st) == 0 && st.st_uid == 5 && st.st_gid == 6 && st.st_mode == (S_IFREG | 0640));
        CHECK(syscall(SYS_lstat, "l", &st) == 0 && st.st_uid == 7 && st.st_gid == 8 && S_ISLNK(st.st_mode) && st.st_size == 1);
        CHECK(syscall(SYS_fstat, fd, &st) == 0 && st.st_uid == 5 && st.st_nlink == 1);
        CHECK(syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0 && st.st_gid == 6);
        CHECK(syscall(SYS_newfstatat, AT_FDCWD, "l", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_gid == 8);
        CHECK(statx(AT_FDCWD, "l", 0, STATX_ALL, &stx) == 0 && stx.stx_uid == 5 && stx.stx_gid == 6);
        CHECK(stat(".", &st) == 0 && st.st_uid == 0 && st.st_gid == 0);
        FAILS_WITH(EFAULT, syscall(SYS_stat, "f", 8));
        FAILS_WITH(ENOENT, syscall(SYS_stat, "none", &st));
        FAILS_WITH(EBADF, syscall(SYS_fstat, 99, &st));
}

static void stat_shows_the_record(void **state) {
        (void)state;
        run(stat_every_way, NULL);
}

static void list_attributes(void) {
        char list[256];
        make_file("f", 0644);
        CHECK(setxattr("f", "user.x", "1", 1, 0) == 0 && symlink("f", "l") == 0);
        CHECK(chown("f", 5, 6) == 0 && lchown("l", 5, 6) == 0);
        CHECK(syscall(SYS_listxattr, "f", list, sizeof list) == 7 && strcmp(list, "user.x") == 0);
        CHECK(syscall(SYS_listxattr, "f", NULL, 0) == 7);
        CHECK(syscall(SYS_llistxattr, "l", list, sizeof list) == 0);
        int fd = open("f", O_RDONLY | O_CLOEXEC);
        FAILS_WITH(ERANGE, syscall(SYS_flistxattr, fd, list, 3));
        CHECK(setxattr("f", FAKEOWN_XATTR, "1", 1, 0) == 0); /* spoilt by the child itself */
        struct stat st;
        CHECK(stat("f", &st) == 0 && st.st_uid == 0);
}

static void after_list_attributes(void) {
        uid_t uid;
        gid_t gid;
        CHECK(fakeown_owner(AT_FDCWD, "f", &uid, &gid) == -EBADMSG);
}

static void lists_of_attributes_leave_the_record_out(void **state) {
        (void)state;
        run(list_attributes, after_list_attributes);
}

static void change_names(void) {
        make_file("gone", 0644);
        CHECK(chown("gone", 5, 6) == 0 && unlink("gone") == 0);
        make_file("gone", 0644); /* most file systems give it the same inode */
        CHECK(symlink("x", "link") == 0 && lchown("link", 5, 6) == 0 && unlink("link") == 0 && symlink("x", "link") == 0);
        make_file("one", 0644);
        CHECK(link("one", "two") == 0 && chown("two", 7, 8) == 0 && rename("two", "three") == 0);
        CHECK(mkdir("d", 0755) == 0 && chown("d", 9, 9) == 0 && rename("d", "moved") == 0);
        make_file("new", 0644);
        make_file("old", 0644);
        CHECK(chown("old", 1, 1) == 0 && rename("new", "old") == 0);
}

static void after_change_names(void) {
        CHECK(owned("gone", 0, 0) && owned("link", 0, 0) && owned("one", 7, 8) && owned("three", 7, 8));
        CHECK(owned("moved", 9, 9) && owned("old", 0, 0));
}

static void records_live_with_the_inode(void **state) {
        (void)state;
        run(change_names, after_change_names);
}

static mode_t mode_of(const char *name) {
        struct stat st;
        CHECK(stat(name, &st) == 0);
        return st.st_mode & 07777;
}

static void clear_bits(void) {
        make_file("f", 06755);
        CHECK(chown("f", 5, 6) == 0 && mode_of("f") == 0755 && chmod("f", 04755) == 0);
        CHECK(chown("f", KEEP, KEEP) == 0 && mode_of("f") == 0755 && chmod("f", 06755) == 0 && mode_of("f") == 06755);
        CHECK(mkdir("d", 0755) == 0 && chmod("d", 07755) == 0 && chown("d", 5, 6) == 0 && mode_of("d") == 07755);
}

static void set_id_bits_are_cleared_as_by_the_kernel(void **state) {
        (void)state;
        run(clear_bits, NULL);
}

/* --- whose view a path is seen in --- */

static void use_folders(void) {
        CHECK(mkdir("a", 0755) == 0 && mkdir("a/b", 0755) == 0);
        make_file("a/f", 0644);
        make_file("a/b/f", 0644);
        make_file("f", 0644);
        int a = open("a", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK(fchownat(a, "f", 1, 1, 0) == 0 && chdir("a/b") == 0 && chown("f", 2, 2) == 0 && chown("../../f", 3, 3) == 0);
        FAILS_WITH(ENOTDIR, chown("f/x", 1, 1));
        FAILS_WITH(EBADF, fchownat(99, "f", 1, 1, 0));
        FAILS_WITH(ENOENT, fchownat(a, "none", 1, 1, 0));
}

static void after_use_folders(void) {
        CHECK(owned("a/f", 1, 1) && owned("a/b/f", 2, 2) && owned("f", 3, 3));
}

static void paths_start_where_the_child_is(void **state) {
        (void)state;
        run(use_folders, after_use_folders);
}

static void use_root(void) {
        make_file("outside", 0644);
        CHECK(mkdir("root", 0755) == 0 && mkdir("root/etc", 0755) == 0);
        make_file("root/etc/f", 0644);
        make_file("root/g", 0644);
        CHECK(symlink("/etc/f", "root/absolute") == 0 && symlink("../../outside", "root/etc/up") == 0);
        CHECK(symlink("../../../../g", "root/etc/g") == 0);
        CHECK(chroot("root") == 0 && chdir("/etc") == 0);
        CHECK(chown("/absolute", 1, 1) == 0 && chown("g", 2, 2) == 0);
        FAILS_WITH(ENOENT, chown("up", 3, 3));
        FAILS_WITH(ENOENT, chown("/../outside", 3, 3));
        FAILS_WITH(ENOENT, chown("../../outside", 3, 3));
}

static void after_use_root(void) {
        CHECK(owned("root/etc/f", 1, 1) && owned("root/g", 2, 2) && owned("outside", 0, 0));
}

static void nothing_leads_out_of_the_child_s_root(void **state) {
        (void)state;
        run(use_root, after_use_root);
}

/* Links of /proc would mean the builder, whose descriptors lead to the host's. */
static void use_magic_links(void) {
        static const char *const links[] = { "/proc/self/root", "/proc/self/cwd", "/proc/self/fd/0", "/proc/self/exe" };
        for (size_t i = 0; i < NB_ARRAY_LEN(links); i++)
                FAILS_WITH(ELOOP, chown(links[i], 1, 1));
        struct stat st;
        CHECK(stat("/proc/self/cwd", &st) == 0); /* done by the kernel, for the child */
}

static void links_of_proc_are_not_followed(void **state) {
        (void)state;
        run(use_magic_links, NULL);
}

static void *in_own_folder(void *arg) {
        (void)arg;
        CHECK(unshare(CLONE_FS) == 0 && chdir("d") == 0 && chown("f", 4, 5) == 0);
        return NULL;
}

static void use_threads(void) {
        pthread_t thread;
        CHECK(mkdir("d", 0755) == 0);
        make_file("f", 0644);
        make_file("d/f", 0644);
        CHECK(pthread_create(&thread, NULL, in_own_folder, NULL) == 0 && pthread_join(thread, NULL) == 0);
        CHECK(chown("f", 6, 7) == 0);
}

static void after_use_threads(void) {
        CHECK(owned("d/f", 4, 5) && owned("f", 6, 7));
}

static void each_thread_has_its_own_folder(void **state) {
        (void)state;
        run(use_threads, after_use_threads);
}

static void be_hostile(void) {
        char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(pages != MAP_FAILED && munmap(pages + PAGE, PAGE) == 0);
        memset(pages, 'x', PAGE);
        FAILS_WITH(EFAULT, syscall(SYS_chown, NULL, 1, 1));
        FAILS_WITH(EFAULT, syscall(SYS_chown, 8, 1, 1));
        FAILS_WITH(EFAULT, syscall(SYS_chown, UINT64_MAX - 3, 1, 1));
        FAILS_WITH(EFAULT, syscall(SYS_chown, pages + PAGE - 8, 1, 1));
        FAILS_WITH(EFAULT, syscall(SYS_mkdir, 8, 0755));
        FAILS_WITH(EFAULT, syscall(SYS_openat, AT_FDCWD, 8, O_CREAT | O_RDWR, 0644));
        FAILS_WITH(EFAULT, syscall(SYS_getresuid, 8, 8, 8));
        make_file("f", 0644);
        memcpy(pages + PAGE - 2, "f", 2);
        CHECK(syscall(SYS_chown, pages + PAGE - 2, 1, 1) == 0);
        NB_AUTO_FREE char *path = nb_calloc(2 * PATH_MAX, 1);
        memset(path, '/', 2 * PATH_MAX - 1);
        FAILS_WITH(ENAMETOOLONG, syscall(SYS_chown, path, 1, 1));
        path[PATH_MAX - 1] = 0;
        path[PATH_MAX - 2] = 'n';
        FAILS_WITH(ENOENT, syscall(SYS_chown, path, 1, 1));
        FAILS_WITH(ENOENT, syscall(SYS_chown, "", 1, 1));
        FAILS_WITH(EINVAL, syscall(SYS_fchownat, AT_FDCWD, "f", 1, 1, 0x80000));
        FAILS_WITH(EBADF, syscall(SYS_fchown, -1, 1, 1));
        FAILS_WITH(ENOSYS, syscall(SYS_openat2, AT_FDCWD, "f", NULL, 0));
        FAILS_WITH(ENOSYS, syscall(SYS_io_uring_setup, 1, NULL));
        int ends[2];
        CHECK(pipe(ends) == 0 && fchown(ends[0], 1, 1) == 0);
}

static void bad_arguments_fail_as_usual(void **state) {
        (void)state;
        run(be_hostile, NULL);
}

static char racing[16];
static volatile bool racing_over;

static void *race(void *arg) {
        static const char names[2][8] = { "/inside", "/../out" };
        (void)arg;
        while (!racing_over) {
                memcpy(racing, names[0], sizeof names[0]);
                memcpy(racing, names[1], sizeof names[1]);
                (void)syscall(SYS_renameat2, AT_FDCWD, "/one", AT_FDCWD, "/two", 2 /* RENAME_EXCHANGE */);
        }
        return NULL;
}

static void race_paths(void) {
        pthread_t thread;
        make_file("out", 0644);
        CHECK(mkdir("root", 0755) == 0 && chroot("root") == 0 && chdir("/") == 0);
        CHECK(mkdir("one", 0755) == 0 && symlink("../..", "two") == 0);
        make_file("inside", 0644);
        CHECK(pthread_create(&thread, NULL, race, NULL) == 0);
        for (unsigned i = 0; i < N_RACES; i++) {
                (void)syscall(SYS_chown, racing, 1 + i, 1);
                (void)syscall(SYS_chown, "/one/../out", 1, 1);
                (void)syscall(SYS_chown, "/one/out", 1, 1);
        }
        racing_over = true;
        CHECK(pthread_join(thread, NULL) == 0);
}

static void after_race_paths(void) {
        CHECK(owned("out", 0, 0));
}

static void a_path_that_changes_stays_inside(void **state) {
        (void)state;
        run(race_paths, after_race_paths);
}

static void many_at_once(void) {
        for (unsigned p = 0; p < N_AT_ONCE; p++) {
                if (fork() != 0)
                        continue;
                for (unsigned i = 0; i < N_EACH; i++) {
                        NB_AUTO_FREE char *name = nb_asprintf("%u-%u", p, i);
                        make_file(name, 0644);
                        CHECK(chown(name, 1 + p, 1 + i) == 0);
                }
                _exit(0);
        }
        for (unsigned p = 0, status; p < N_AT_ONCE; p++)
                CHECK(wait((int *)&status) > 0 && status == 0);
}

static void after_many_at_once(void) {
        for (unsigned p = 0; p < N_AT_ONCE; p++)
                for (unsigned i = 0; i < N_EACH; i++) {
                        NB_AUTO_FREE char *name = nb_asprintf("%u-%u", p, i);
                        CHECK(owned(name, 1 + p, 1 + i));
                }
}

static void many_processes_are_served(void **state) {
        (void)state;
        run(many_at_once, after_many_at_once);
}

/* --- the ids of processes --- */

static bool has_uids(uid_t real, uid_t effective, uid_t saved) {
        uid_t r = 77, e = 77, s = 77;
        CHECK(syscall(SYS_getresuid, &r, &e, &s) == 0);
        return r == real && e == effective && s == saved && syscall(SYS_getuid) == (long)r && syscall(SYS_geteuid) == (long)e;
}

static bool has_gids(gid_t real, gid_t effective, gid_t saved) {
        gid_t r = 77, e = 77, s = 77;
        CHECK(syscall(SYS_getresgid, &r, &e, &s) == 0);
        return r == real && e == effective && s == saved && syscall(SYS_getgid) == (long)r && syscall(SYS_getegid) == (long)e;
}

static void change_ids(void) {
        gid_t groups[] = { 5, 6 };
        CHECK(has_uids(0, 0, 0) && has_gids(0, 0, 0));
        CHECK(syscall(SYS_getgroups, 0, NULL) == 0 && syscall(SYS_setgroups, 2, groups) == 0);
        groups[0] = groups[1] = 0;
        CHECK(syscall(SYS_getgroups, 0, NULL) == 2 && syscall(SYS_getgroups, 2, groups) == 2 && groups[0] == 5 &&
              groups[1] == 6);
        FAILS_WITH(EINVAL, syscall(SYS_getgroups, 1, groups));
        FAILS_WITH(EFAULT, syscall(SYS_setgroups, 2, 8));
        FAILS_WITH(EINVAL, syscall(SYS_setgroups, -1, groups));
        CHECK(syscall(SYS_setresuid, KEEP, 9, KEEP) == 0 && has_uids(0, 9, 0));
        CHECK(syscall(SYS_setresuid, KEEP, 0, KEEP) == 0 && has_uids(0, 0, 0));
        CHECK(syscall(SYS_setreuid, 3, 4) == 0 && has_uids(3, 4, 4));
        CHECK(syscall(SYS_setreuid, 4, 3) == 0 && has_uids(4, 3, 3));
        FAILS_WITH(EPERM, syscall(SYS_setuid, 0));
        FAILS_WITH(EPERM, syscall(SYS_setresuid, KEEP, KEEP, 0));
        FAILS_WITH(EINVAL, syscall(SYS_setuid, -1));
        CHECK(syscall(SYS_setuid, 4) == 0 && has_uids(4, 4, 3));
        CHECK(syscall(SYS_setregid, 7, KEEP) == 0 && has_gids(7, 0, 0));
        CHECK(syscall(SYS_setgid, 8) == 0 && has_gids(7, 8, 0) && syscall(SYS_setresgid, 9, 9, 9) == 0 && has_gids(9, 9, 9));
        CHECK(syscall(SYS_setfsuid, 1) == 4 && syscall(SYS_setfsgid, 1) == 9);
}

static void ids_change_as_for_real_root(void **state) {
        (void)state;
        run(change_ids, NULL);
}

static void inherit_ids(void) {
        CHECK(syscall(SYS_setgid, 34) == 0 && syscall(SYS_setuid, 33) == 0);
        pid_t pid = fork();
        if (pid == 0) {
                (void)execl("/bin/sh", "sh", "-c",
                            "test $(id -u):$(id -g) = 33:34 && umask 027 && : >by-shell && mkdir by-mkdir", NULL);
                _exit(127);
        }
        int status = -1;
        CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void after_inherit_ids(void) {
        CHECK(owned("by-shell", 33, 34) && owned("by-mkdir", 33, 34) && mode_of("by-shell") == 0640 &&
              mode_of("by-mkdir") == 0750);
}

static void ids_are_inherited(void **state) {
        (void)state;
        run(inherit_ids, after_inherit_ids);
}

/* Where the host limits what the ids are kept in. Has an effect on the tests after it. */
static void ids_are_inherited_below_a_limit(void **state) {
        (void)state;
        const struct rlimit limit = { HARD_LIMIT, HARD_LIMIT };
        assert_int_equal(setrlimit(RLIMIT_RSS, &limit), 0);
        run(inherit_ids, after_inherit_ids);
        run(change_ids, NULL);
}

static void make_as_user(void) {
        make_file("roots", 0644);
        CHECK(syscall(SYS_setgid, 34) == 0 && syscall(SYS_setuid, 33) == 0);
        umask(022);
        int fd = open("f", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        CHECK(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC && write(fd, "x", 1) == 1);
        FAILS_WITH(EEXIST, open("f", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
        fd = open("roots", O_RDWR | O_CREAT | O_TRUNC, 0666); // NOLINT: that the flag is not there is looked at
        CHECK(fd >= 0 && fcntl(fd, F_GETFD) == 0);
        fd = creat("g", 0600); // NOLINT
        CHECK(fd >= 0 && fcntl(fd, F_GETFD) == 0 && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY);
        CHECK(mkdir("d/", 0777) == 0 && symlink("d", "l") == 0 && mkfifo("p", 0666) == 0 && mknod("n", S_IFREG | 0666, 0) == 0);
        fd = open(".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0666);
        NB_AUTO_FREE char *name = nb_asprintf("/proc/self/fd/%d", fd);
        CHECK(fd >= 0 && linkat(AT_FDCWD, name, AT_FDCWD, "t", AT_SYMLINK_FOLLOW) == 0);
        FAILS_WITH(EEXIST, mkdir("d", 0777));
        FAILS_WITH(EEXIST, symlink("x", "l"));
        FAILS_WITH(ENOENT, open("none/f", O_RDWR | O_CREAT | O_CLOEXEC, 0666));
        FAILS_WITH(EISDIR, open("new/", O_RDWR | O_CREAT | O_CLOEXEC, 0666));
        FAILS_WITH(EPERM, chown("roots", 33, 34));
        FAILS_WITH(EPERM, chown("f", 0, 34));
        CHECK(chown("f", 33, 5) == 0);
        struct rlimit none = { 3, 3 };
        CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
        FAILS_WITH(EMFILE, open("unmade", O_RDWR | O_CREAT | O_CLOEXEC, 0666));
}

static void after_make_as_user(void) {
        CHECK(owned("roots", 0, 0) && owned("f", 33, 5) && owned("g", 33, 34) && owned("d", 33, 34) && owned("l", 33, 34));
        CHECK(owned("p", 33, 34) && owned("n", 33, 34) && owned("t", 33, 34));
        CHECK(mode_of("f") == 0644 && mode_of("g") == 0600 && mode_of("d") == 0755 && mode_of("p") == 0644 &&
              mode_of("t") == 0644);
        CHECK(access("unmade", F_OK) < 0);
}

static void what_a_process_makes_is_its_own(void **state) {
        (void)state;
        run(make_as_user, after_make_as_user);
}

static void on_alarm(int number) {
        (void)number;
}

/* A call that a signal broke off would be started again, and find the folder there. */
static void make_under_signals(void) {
        const struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
        const struct itimerval often = { { 0, ALARM_US }, { 0, ALARM_US } };
        CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
        CHECK(syscall(SYS_setuid, 33) == 0);
        for (unsigned i = 0; i < N_SIGNALLED; i++) {
                NB_AUTO_FREE char *name = nb_asprintf("d%u", i);
                CHECK(mkdir(name, 0755) == 0);
        }
}

static void signals_do_not_repeat_a_call(void **state) {
        (void)state;
        run(make_under_signals, NULL);
}

static void make_in_setgid_folder(void) {
        CHECK(mkdir("d", 0755) == 0 && chown("d", 1, 50) == 0 && chmod("d", 02775) == 0);
        make_file("d/f", 0644);
        CHECK(mkdir("d/sub", 0755) == 0 && symlink("x", "d/l") == 0 && mkfifo("d/p", 0600) == 0);
        make_file("d/sub/f", 0644);
        make_file("d/chowned", 0644);
        CHECK(chown("d/chowned", 0, 0) == 0);
        make_file("moved", 0644);
        CHECK(rename("moved", "d/moved") == 0);
}

static void after_make_in_setgid_folder(void) {
        CHECK(owned("d/f", 0, 50) && owned("d/sub", 0, 50) && owned("d/l", 0, 50) && owned("d/p", 0, 50) &&
              owned("d/sub/f", 0, 50));
        CHECK(owned("d/chowned", 0, 0) && owned("d/moved", 0, 0) && mode_of("d/sub") == 02755);
}

static void a_folder_gives_its_group(void **state) {
        (void)state;
        run(make_in_setgid_folder, after_make_in_setgid_folder);
}

/* --- the rest --- */

/* chown(2) of the 32-bit interface, number 182, whatever the path is. */
static void use_32_bits(void) {
        long r;
        __asm__ volatile("int $0x80" : "=a"(r) : "a"(182), "b"(0), "c"(1), "d"(1) : "memory");
        (void)r;
}

static void other_interfaces_are_killed(void **state) {
        (void)state;
        int status = run_status(use_32_bits, NULL, 0);
        assert_true(WIFSIGNALED(status));
        assert_true(WTERMSIG(status) == SIGSYS || WTERMSIG(status) == SIGSEGV); /* SEGV: a kernel without it */
}

/* The usual set-up: the child is the first process of a pid namespace, its builder outside. */
static void use_pid_namespace(void) {
        CHECK(getpid() == 1);
        make_file("f", 0644);
        CHECK(chown("f", 5, 6) == 0);
        if (fork() == 0)
                (void)pause(); /* the kernel ends it with the namespace, and so the serving */
}

static void after_use_pid_namespace(void) {
        CHECK(owned("f", 5, 6));
}

static void a_pid_namespace_is_seen_through(void **state) {
        (void)state;
        assert_int_equal(run_status(use_pid_namespace, after_use_pid_namespace, CLONE_NEWPID), 0);
}

static void leave_something(void) {
        pid_t pid = fork();
        if (pid == 0)
                (void)pause();
        CHECK(symlink(nb_asprintf("%d", pid), "left") == 0);
}

static void after_leave_something(void) {
        char pid[16] = "";
        CHECK(readlink("left", pid, sizeof pid - 1) > 0 && kill((pid_t)strtol(pid, NULL, 10), SIGKILL) == 0);
}

static void what_is_left_running_does_not_keep_the_builder(void **state) {
        (void)state;
        run(leave_something, after_leave_something);
}

static void in_namespace(body *what) {
        char dir[SCRATCH_PATH];
        int status = -1;
        assert_int_equal(scratch_enter(dir, NULL), 0);
        pid_t pid = fork();
        if (pid == 0) {
                enter_namespace(0);
                what();
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(scratch_leave(dir), 0);
        assert_int_equal(status, 0);
}

static void record_directly(void) {
        make_file("f", 0);
        CHECK(symlink("f", "l") == 0 && mkdir("d", 0) == 0);
        CHECK(fakeown_record(AT_FDCWD, "f", 1, 2) == 0 && fakeown_record(AT_FDCWD, "l", 3, 4) == 0);
        int d = open("d", O_PATH | O_DIRECTORY | O_CLOEXEC);
        uid_t uid = 0;
        gid_t gid = 0;
        CHECK(fakeown_record(d, "", 5, 6) == 0 && fakeown_owner(d, "", &uid, &gid) == 0 && uid == 5 && gid == 6);
        CHECK(owned("f", 1, 2) && owned("l", 3, 4) && fakeown_record(AT_FDCWD, "l", 0, 0) == 0 && owned("l", 0, 0));
        CHECK(fakeown_owner(AT_FDCWD, "none", &uid, &gid) == -ENOENT && chmod("d", 0700) == 0);
}

static void a_builder_can_record_itself(void **state) {
        (void)state;
        in_namespace(record_directly);
}

/* ramfs has no attributes at all. */
static void probe(void) {
        NB_AUTO_ERROR err = { 0 };
        CHECK(fakeown_probe(".", &err) == 0 && access("owner-probe", F_OK) < 0);
        CHECK(mkdir("ram", 0755) == 0 && mount("none", "ram", "ramfs", 0, NULL) == 0);
        CHECK(fakeown_probe("ram", &err) < 0 && strstr(err.what, "ram") && strstr(err.hint, "subordinate ids"));
        CHECK(fakeown_probe("none", &err) == -ENOENT);
}

static void a_file_system_without_attributes_is_named(void **state) {
        (void)state;
        in_namespace(probe);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(owners_are_recorded),
                cmocka_unit_test(minus_one_keeps_an_id),
                cmocka_unit_test(stat_shows_the_record),
                cmocka_unit_test(lists_of_attributes_leave_the_record_out),
                cmocka_unit_test(records_live_with_the_inode),
                cmocka_unit_test(set_id_bits_are_cleared_as_by_the_kernel),
                cmocka_unit_test(paths_start_where_the_child_is),
                cmocka_unit_test(nothing_leads_out_of_the_child_s_root),
                cmocka_unit_test(links_of_proc_are_not_followed),
                cmocka_unit_test(each_thread_has_its_own_folder),
                cmocka_unit_test(bad_arguments_fail_as_usual),
                cmocka_unit_test(a_path_that_changes_stays_inside),
                cmocka_unit_test(many_processes_are_served),
                cmocka_unit_test(ids_change_as_for_real_root),
                cmocka_unit_test(ids_are_inherited),
                cmocka_unit_test(what_a_process_makes_is_its_own),
                cmocka_unit_test(signals_do_not_repeat_a_call),
                cmocka_unit_test(a_folder_gives_its_group),
                cmocka_unit_test(other_interfaces_are_killed),
                cmocka_unit_test(a_pid_namespace_is_seen_through),
                cmocka_unit_test(what_is_left_running_does_not_keep_the_builder),
                cmocka_unit_test(a_builder_can_record_itself),
                cmocka_unit_test(a_file_system_without_attributes_is_named),
                cmocka_unit_test(ids_are_inherited_below_a_limit),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
