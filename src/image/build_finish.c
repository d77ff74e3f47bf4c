/* The last step of a build (see build_inside.h), inside the tree. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/text.h"
#include "image/build_inside.h"

#define PYC_HEAD 8   /* magic and flags */
#define PYC_HASHED 3 /* checked against the source, by hash */
#define WALK_FDS 64

static const char *const unwanted[] = {
        "/etc/hostname",
        "/etc/resolv.conf",
        "/etc/.pwd.lock",
        "/etc/ssh/ssh_host_*",
        "/etc/*-",
        "/etc/apt/sources.list",
        "/root/.wget-hsts",
        "/run/*",
        "/tmp/*",
        "/tmp/.[!.]*",
        "/usr/sbin/policy-rc.d",
        "/var/cache/apt/*",
        "/var/cache/debconf/*-old",
        "/var/cache/ldconfig/aux-cache",
        "/var/lib/apt/lists/*",
        "/var/lib/dpkg/*-old",
        "/var/lib/dpkg/lock*",
        "/var/lib/dpkg/triggers/Lock",
        "/var/lib/systemd/random-seed",
        "/var/log/*",
        "/var/tmp/*",
};
static const char *const folders[] = { "/etc/apt/sources.list.d", "/var/log/apt", "/var/lib/apt/lists/partial",
                                       "/var/cache/apt/archives/partial", "/etc/default" };

/* What a package brings twice, byte for byte. */
static const struct {
        const char *keep, *again;
} twins[] = { { "/usr/bin/git", "/usr/lib/git-core/git" },
              { "/usr/bin/git-shell", "/usr/lib/git-core/git-shell" },
              { "/usr/bin/scalar", "/usr/lib/git-core/scalar" } };

static int remove_unwanted(struct nb_error *err) {
        for (size_t i = 0; i < NB_ARRAY_LEN(unwanted); i++) {
                glob_t found = { 0 };
                int r = 0;
                if (glob(unwanted[i], GLOB_NOSORT, NULL, &found) == 0)
                        for (size_t k = 0; r == 0 && k < found.gl_pathc; k++)
                                if ((r = nb_remove_tree(AT_FDCWD, found.gl_pathv[k])) < 0)
                                        r = nb_fail_errno(err, -r, "cannot remove %s", found.gl_pathv[k]);
                globfree(&found);
                if (r < 0)
                        return r;
        }
        return 0;
}

bool build_pyc_is_hashed(const unsigned char *head, size_t len) {
        return len >= PYC_HEAD && head[4] == PYC_HASHED && head[5] == 0 && head[6] == 0 && head[7] == 0;
}

static int look_at_file(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
        (void)st;
        (void)ftw;
        size_t len = strlen(path);
        if (kind != FTW_F || len < 4 || strcmp(path + len - 4, ".pyc") != 0)
                return 0;
        unsigned char head[PYC_HEAD] = { 0 };
        NB_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        ssize_t n = fd < 0 ? -errno : nb_read_full(fd, head, sizeof head);
        if (n >= 0 && build_pyc_is_hashed(head, (size_t)n))
                return 0;
        return unlink(path);
}

/* The times of all files are set to one: only byte code that names its source's hash stays valid. */
static int remove_stale_bytecode(struct nb_error *err) {
        return nftw("/usr", look_at_file, WALK_FDS, FTW_PHYS) < 0
                   ? nb_fail_errno(err, errno, "cannot sort out python's byte code")
                   : 0;
}

static bool digest_of(const char *path, char ret[NB_SHA256_HEX]) {
        NB_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        return fd >= 0 && nb_sha256_fd(fd, ret) == 0;
}

/* One file under two names takes the place of two. */
static int link_twins(struct nb_error *err) {
        for (size_t i = 0; i < NB_ARRAY_LEN(twins); i++) {
                char a[NB_SHA256_HEX], b[NB_SHA256_HEX];
                if (!digest_of(twins[i].keep, a) || !digest_of(twins[i].again, b) || strcmp(a, b) != 0)
                        continue;
                if (unlink(twins[i].again) < 0 || link(twins[i].keep, twins[i].again) < 0)
                        return nb_fail_errno(err, errno, "cannot link %s", twins[i].again);
        }
        return 0;
}

static int write_file(const char *path, const char *text, struct nb_error *err) {
        (void)unlink(path);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        int r = fd < 0 ? -errno : nb_write_all(fd, text, strlen(text));
        nb_close(fd);
        return r < 0 ? nb_fail_errno(err, -r, "cannot write %s", path) : 0;
}

int build_finish(const struct build_job *job, struct nb_error *err) {
        NB_AUTO_FREE char *locale = nb_asprintf("LANG=%s\n", job->locale ? job->locale : "C.UTF-8");
        NB_AUTO_FREE char *sources =
            nb_asprintf("Types: deb\nURIs: http://deb.debian.org/debian\nSuites: %s %s-updates\nComponents: main\n"
                        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
                        "Types: deb\nURIs: http://deb.debian.org/debian-security\nSuites: %s-security\nComponents: main\n"
                        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
                        job->suite, job->suite, job->suite);
        const char *const files[][2] = {
                { "/etc/machine-id", "" },
                { "/etc/resolv.conf", "" },
                { "/etc/hostname", "box\n" },
                { "/etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n" },
                { "/etc/default/locale", locale },
                { "/etc/apt/sources.list.d/debian.sources", sources },
        };
        int r = remove_unwanted(err);
        if (r == 0)
                r = remove_stale_bytecode(err);
        if (r == 0)
                r = link_twins(err);
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(folders); i++)
                if ((r = nb_mkdirs(folders[i], 0755)) < 0)
                        r = nb_fail_errno(err, -r, "cannot make %s", folders[i]);
        for (size_t i = 0; r == 0 && i < NB_ARRAY_LEN(files); i++)
                r = write_file(files[i][0], files[i][1], err);
        return r;
}
