/* What a run's places look like afterwards: the verdict about files and listeners is made here, not inside. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "attack/scene.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/sha256.h"
#include "base/text.h"

#define ENTRIES_MAX 1000u
#define LOGS_MAX (64u << 20)

static const char *short_name(const struct attack_row *row) {
        return strchr(row->probe->name, '.') + 1;
}

/* ---- the writable mount */

/* Attributes that the host's own kernel or programs set are not the guest's. */
static bool has_attribute(int folder, const char *name) {
        char list[4096];
        NB_AUTO_FREE char *path = nb_asprintf("/proc/self/fd/%d/%s", folder, name);
        ssize_t n = llistxattr(path, list, sizeof list);
        for (ssize_t i = 0; i < n; i += (ssize_t)strlen(list + i) + 1)
                if (strcmp(list + i, "security.selinux") != 0 && !nb_starts_with(list + i, "system.posix_acl"))
                        return true;
        return false;
}

/* What is wrong with a file that the guest made, NULL if nothing is. */
static const char *problem(int folder, const char *name, const struct stat *st) {
        if (st->st_mode & (S_ISUID | S_ISGID))
                return "it has a set-id bit here";
        if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
                return "it is a device here";
        if (st->st_uid != getuid())
                return "it belongs to another user here";
        return has_attribute(folder, name) ? "it has an extended attribute here" : NULL;
}

static void look_at_made(const struct attack_scene *s, struct attack_row *row) {
        int fd = openat(s->rw, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = fd < 0 ? NULL : fdopendir(fd);
        NB_AUTO_FREE char *prefix = nb_asprintf("%s.", short_name(row));
        unsigned left = ENTRIES_MAX;
        if (!d) {
                nb_close(fd);
                attack_row_see(row, FAR_UNCLEAR, "the folder in the mount is gone");
                return;
        }
        for (const struct dirent *e; left > 0 && (e = readdir(d)); left--) {
                struct stat st;
                if (!nb_starts_with(e->d_name, prefix) || fstatat(s->rw, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                const char *bad = problem(s->rw, e->d_name, &st);
                if (bad)
                        attack_row_see(row, FAR_OPEN, "%s: mode %o, owner %u", bad, st.st_mode, st.st_uid);
                else
                        attack_row_see(row, FAR_HELD, "a plain file here: mode %o, owner %u", st.st_mode, st.st_uid);
        }
        closedir(d);
        attack_row_see(row, FAR_HELD, "nothing was made here");
}

static void look_at_meeting(const struct attack_scene *s, struct attack_row *row) {
        char byte;
        bool fifo = strcmp(short_name(row), "meets-fifo") == 0;
        if ((fifo ? s->fifo : s->listener) < 0) {
                free(row->skipped);
                row->skipped = nb_strdup("this file system has none of these");
                return;
        }
        NB_AUTO_CLOSE int peer = fifo ? -1 : accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        bool came = fifo ? read(s->fifo, &byte, 1) > 0 : peer >= 0;
        if (came)
                attack_row_see(row, FAR_OPEN, "it arrived at a process of this host");
        else
                attack_row_see(row, FAR_HELD, "nothing arrived here");
}

/* ---- the read-only mount, the canary, the image */

static bool is_changed(const struct attack_seen_file *f) {
        struct stat now;
        char sha256[65] = "";
        NB_AUTO_CLOSE int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &now) < 0)
                return true;
        bool same = now.st_ino == f->st.st_ino && now.st_mode == f->st.st_mode && now.st_uid == f->st.st_uid &&
                    now.st_gid == f->st.st_gid && now.st_size == f->st.st_size && now.st_nlink == f->st.st_nlink &&
                    now.st_mtim.tv_sec == f->st.st_mtim.tv_sec && now.st_mtim.tv_nsec == f->st.st_mtim.tv_nsec &&
                    now.st_ctim.tv_sec == f->st.st_ctim.tv_sec && now.st_ctim.tv_nsec == f->st.st_ctim.tv_nsec;
        return !same || (f->sha256[0] && (nb_sha256_fd(fd, sha256) < 0 || strcmp(sha256, f->sha256) != 0));
}

static void look_at_readonly(const struct attack_scene *s, struct attack_row *row) {
        struct stat st;
        NB_AUTO_FREE char *made = nb_asprintf("%s/." ATTACK_FOLDER "%s.%s", s->ro_source, s->token, short_name(row));
        if (strstr(row->probe->args, "@witness")) {
                if (is_changed(&s->witness))
                        attack_row_see(row, FAR_OPEN,
                                       "the file is not what it was (if no program of yours wrote to it meanwhile)");
                else
                        attack_row_see(row, FAR_HELD, "the file is as it was");
        } else if (lstat(made, &st) == 0) {
                attack_row_see(row, FAR_OPEN, "it is in the read-only folder");
        } else {
                attack_row_see(row, FAR_HELD, "nothing was made here");
        }
}

static void look_at_canary(const struct attack_scene *s, struct attack_row *row) {
        char *text = NULL;
        int r = nb_read_regular(s->canary, 256, &text, NULL);
        if (r < 0 || strcmp(text, s->canary_text) != 0)
                attack_row_see(row, FAR_OPEN, "the file was changed");
        else
                attack_row_see(row, FAR_HELD, "the file is as it was");
        free(text);
}

static void look_at_image(const struct attack_scene *s, struct attack_row *row) {
        if (!s->image.path)
                attack_row_see(row, FAR_NONE, "the image was not found here");
        else if (is_changed(&s->image))
                attack_row_see(row, FAR_OPEN, "the image is not what it was");
        else
                attack_row_see(row, FAR_HELD, "the image is as it was");
}

/* ---- what a reader of the console gets to see */

static void look_at_console(const struct attack_scene *s, struct attack_row *row) {
        NB_AUTO_FREE char *word = nb_asprintf("nixbox-attack-%s", s->token);
        char *argv[] = { "/proc/self/exe", "-n", s->paths->name, "logs", "--console", NULL };
        const struct proc_spec spec = { .argv = argv, .output_max = LOGS_MAX, .stderr_fd = -1 };
        NB_AUTO_FREE char *text = NULL;
        size_t len = 0;
        if (proc_run(&spec, &text, &len, NULL) < 0) {
                attack_row_see(row, FAR_UNCLEAR, "the logs cannot be read");
                return;
        }
        bool raw = memchr(text, 033, len) || memchr(text, 007, len);
        row->control = memmem(text, len, word, strlen(word)) ? CONTROL_OK : CONTROL_FAILED;
        if (raw)
                attack_row_see(row, FAR_OPEN, "nixbox logs shows it as it is");
        else
                attack_row_see(row, FAR_HELD, "nixbox logs shows it as \\x1b");
}

/* ---- listeners */

static bool somebody_came(int fd, bool datagram) {
        char byte;
        NB_AUTO_CLOSE int peer = fd < 0 || datagram ? -1 : accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        return fd >= 0 && (datagram ? recv(fd, &byte, 1, MSG_DONTWAIT) >= 0 : peer >= 0);
}

static void look_at_listeners(const struct attack_scene *s, struct attack_rows *rows) {
        const struct {
                const char *word, *name;
                bool came;
        } all[] = { { "@loopport", NULL, somebody_came(s->loop_tcp, false) },
                    { "@port", "network.host-address", somebody_came(s->host_tcp, false) },
                    { "@port", "network.host-udp", somebody_came(s->host_udp, true) } };
        for (size_t i = 0; i < rows->n; i++)
                for (size_t k = 0; k < NB_ARRAY_LEN(all); k++) {
                        struct attack_row *row = &rows->rows[i];
                        if (!row->args || !strstr(row->probe->args, all[k].word) ||
                            (all[k].name && strcmp(all[k].name, row->probe->name) != 0))
                                continue;
                        if (all[k].came)
                                attack_row_see(row, FAR_OPEN, "it arrived at a process of this host");
                        else
                                attack_row_see(row, FAR_HELD, "nobody came to this host's socket");
                }
}

void attack_scene_look(struct attack_scene *s, struct attack_rows *rows) {
        look_at_listeners(s, rows);
        for (size_t i = 0; i < rows->n; i++) {
                struct attack_row *row = &rows->rows[i];
                if (!row->args || row->allowed)
                        continue;
                switch (row->probe->judge) {
                case JUDGE_SHARE: look_at_made(s, row); break;
                case JUDGE_MEETS: look_at_meeting(s, row); break;
                case JUDGE_READONLY: look_at_readonly(s, row); break;
                case JUDGE_CANARY: look_at_canary(s, row); break;
                case JUDGE_IMAGE: look_at_image(s, row); break;
                case JUDGE_CONSOLE: look_at_console(s, row); break;
                default: break;
                }
        }
}
