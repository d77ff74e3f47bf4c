/* Making, keeping and removing the files of disks (see disk.h). */
#include "box/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "box/supervisor_impl.h"

#define SCRATCH "disk.raw" /* removed with what a box leaves behind */
#define KEPT "disk.kept"   /* a scratch disk that waits for the next start */
#define PERSISTENT "disk.persistent"
#define RECORD ".json" /* behind the name of a kept disk: which image it belongs to */
#define RECORD_MAX 4096u
#define DIGEST_SHOWN 19 /* "sha256:" and 12 digits */

static const char *const kept_names[] = { KEPT, PERSISTENT };

char *disk_file(const struct start_message *m) {
        return nb_path_join(m->state, m->disk_persistent ? PERSISTENT : SCRATCH);
}

static int write_record(const char *state, const char *name, const char *image) {
        NB_AUTO_FREE char *path = nb_asprintf("%s/%s" RECORD, state, name);
        json_t *record = json_pack("{s:s}", "image", image);
        char *text = json_dumps(record, JSON_COMPACT);
        int r = nb_write_file_atomic(path, text, strlen(text), 0600);
        free(text);
        json_decref(record);
        return r;
}

/* The image's digest; "unknown" where there is no record that can be read. New string. */
static char *recorded_image(const char *state, const char *name) {
        NB_AUTO_FREE char *path = nb_asprintf("%s/%s" RECORD, state, name), *text = NULL;
        size_t len = 0;
        json_t *record = nb_read_regular(path, RECORD_MAX, &text, &len) == 0 ? json_loadb(text, len, 0, NULL) : NULL;
        const char *image = json_string_value(json_object_get(record, "image"));
        NB_AUTO_FREE char *clean = nb_text_clean(image ? image : "unknown", 0);
        json_decref(record);
        return nb_steal(&clean);
}

/* The kept disk that a start would go on with; NULL: none. */
static const char *kept_name(const struct box_start *start) {
        if (start->config->disk == 0 || (start->recreate && !start->config->keep_disk))
                return NULL;
        const char *name = start->config->keep_disk ? PERSISTENT : KEPT;
        NB_AUTO_FREE char *path = nb_path_join(start->paths->state, name);
        struct stat st;
        return lstat(path, &st) == 0 && S_ISREG(st.st_mode) ? name : NULL;
}

int disk_check(const struct box_start *start, struct nb_error *err) {
        const char *name = kept_name(start), *box = start->paths->name;
        if (!name)
                return 0;
        NB_AUTO_FREE char *image = recorded_image(start->paths->state, name);
        if (strcmp(image, start->image->digest) == 0)
                return 0;
        nb_fail(err, ESTALE, "the kept disk of the box '%s' belongs to another image (%.*s, not %.*s)", box, DIGEST_SHOWN,
                image, DIGEST_SHOWN, start->image->digest);
        return nb_hint(err,
                       "go back to the image that it was made with, or remove it with all that is on it: nixbox -n %s down "
                       "--delete-disk",
                       box);
}

/* A kept disk with its record. Returns 0 or -errno. */
static int remove_kept(const char *path) {
        NB_AUTO_FREE char *record = nb_asprintf("%s" RECORD, path);
        int r = unlink(path) < 0 ? -errno : 0;
        (void)unlink(record);
        return r;
}

static int make_file(const struct box_start *start, const char *path, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0 || ftruncate(fd, (off_t)start->config->disk) < 0) {
                nb_fail_errno(err, errno, "cannot make the disk %s", path);
                return nb_hint(err, "make room there, or set machine.disk to less");
        }
        return 0;
}

static int take_persistent(const struct box_start *start, const char *path, struct nb_error *err) {
        struct stat st;
        if (lstat(path, &st) < 0) {
                /* the record first: a disk without one could not be used again */
                int r = write_record(start->paths->state, PERSISTENT, start->image->digest);
                return r < 0 ? nb_fail_errno(err, -r, "cannot record what the disk %s belongs to", path)
                             : make_file(start, path, err);
        }
        if ((uint64_t)st.st_size != start->config->disk) {
                NB_AUTO_FREE char *has = nb_format_size((uint64_t)st.st_size), *wanted = nb_format_size(start->config->disk);
                nb_warn("the kept disk of the box '%s' has %s and stays so; machine.disk is %s now", start->paths->name, has,
                        wanted);
        }
        return 0;
}

int disk_take(const struct box_start *start, struct start_message *m, struct nb_error *err) {
        NB_AUTO_FREE char *disk = disk_file(m), *kept = nb_path_join(start->paths->state, KEPT);
        if (start->recreate)
                (void)remove_kept(kept);
        if (start->config->disk == 0)
                return 0;
        int r = disk_check(start, err);
        if (r < 0)
                return r;
        if (m->disk_persistent)
                return take_persistent(start, disk, err);
        m->disk_kept = rename(kept, disk) == 0;
        if (!m->disk_kept)
                return make_file(start, disk, err);
        (void)remove_kept(kept); /* its record: it is an ordinary scratch disk again */
        return 0;
}

void disk_put_by(const struct start_message *m) {
        if (!m->disk_file || m->disk_persistent)
                return;
        NB_AUTO_FREE char *disk = disk_file(m), *kept = nb_path_join(m->state, KEPT);
        int r = write_record(m->state, KEPT, m->image.digest);
        if (r == 0 && rename(disk, kept) < 0)
                r = -errno;
        if (r < 0)
                nb_warn("cannot keep the disk: %s", strerror(-r));
}

bool disk_is_kept(const struct box_paths *p) {
        for (size_t i = 0; i < NB_ARRAY_LEN(kept_names); i++) {
                NB_AUTO_FREE char *path = nb_path_join(p->state, kept_names[i]);
                if (access(path, F_OK) == 0)
                        return true;
        }
        return false;
}

int disk_delete(const struct box_paths *p, bool *ret_removed, struct nb_error *err) {
        struct box_lock lock;
        *ret_removed = false;
        if (!disk_is_kept(p))
                return 0;
        int r = box_claim(p, &lock, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < NB_ARRAY_LEN(kept_names); i++) {
                NB_AUTO_FREE char *path = nb_path_join(p->state, kept_names[i]);
                int one = remove_kept(path);
                if (one == 0)
                        *ret_removed = true;
                else if (one != -ENOENT)
                        r = nb_fail_errno(err, -one, "cannot remove the disk %s", path);
        }
        box_release(p, &lock);
        return r;
}
