/* Named volumes (see volume.h). What is in them was written by guests: nothing here follows a symbolic link or believes a
 * name. The folder that holds them is open to the caller alone, whatever modes a guest gives to what is below it. */
#include "box/volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"
#include "box/control.h"
#include "box/state.h"
#include "config/config.h"

#define OPEN_TRIES 8 /* each lost to somebody who removed it at that moment */
#define BLOCK 512    /* of st_blocks */

/* The folder of all volumes. -ENOENT without an error if there is none and `make` is false. */
static int open_all(bool make, int *ret, struct nb_error *err) {
        NB_AUTO_FREE char *all = config_volume_path(NULL);
        NB_AUTO_FREE char *state = nb_state_dir();
        int r = make ? nb_private_dir(state, err) : 0;
        if (r == 0 && make)
                r = nb_private_dir(all, err);
        if (r < 0)
                return r;
        int fd = open(all, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT && !make ? -ENOENT : nb_fail_errno(err, errno, "cannot open the folder %s", all);
        *ret = fd;
        return 0;
}

static int open_one(int all, const char *name, int *ret, struct nb_error *err) {
        NB_AUTO_CLOSE int fd = openat(all, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;
        if (fd < 0)
                return errno == ENOENT ? -ENOENT : nb_fail_errno(err, errno, "cannot open the volume '%s'", name);
        if (fstat(fd, &st) < 0 || st.st_uid != getuid())
                return nb_fail(err, EPERM, "the volume '%s' belongs to somebody else", name);
        if ((st.st_mode & 0777) != 0700 && fchmod(fd, 0700) < 0) /* the guest can change it */
                return nb_fail_errno(err, errno, "cannot make the volume '%s' private", name);
        *ret = nb_steal_fd(&fd);
        return 0;
}

static bool in_place(int all, const char *name, int fd) {
        struct stat held, there;
        return fstat(fd, &held) == 0 && fstatat(all, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && held.st_ino == there.st_ino &&
               held.st_dev == there.st_dev;
}

int volume_open(const char *name, char **ret_path, int *ret_lock, struct nb_error *err) {
        NB_AUTO_CLOSE int all = -1;
        int r = open_all(true, &all, err);
        for (int i = 0; r == 0 && i < OPEN_TRIES; i++) {
                NB_AUTO_CLOSE int fd = -1;
                if (mkdirat(all, name, 0700) < 0 && errno != EEXIST)
                        return nb_fail_errno(err, errno, "cannot make the volume '%s'", name);
                r = open_one(all, name, &fd, err);
                if (r == -ENOENT) {
                        r = 0;
                        continue;
                }
                if (r < 0)
                        return r;
                if (flock(fd, LOCK_SH | LOCK_NB) < 0) {
                        nb_fail(err, EBUSY, "the volume '%s' is being removed", name);
                        return nb_hint(err, "try again when that is done");
                }
                if (!in_place(all, name, fd))
                        continue;
                *ret_path = config_volume_path(name);
                *ret_lock = nb_steal_fd(&fd);
                return 0;
        }
        return r < 0 ? r : nb_fail(err, EBUSY, "the volume '%s' is removed again and again", name);
}

/* Names of the mounted volumes of every running box: {VOLUME: [BOX…]}. */
static json_t *users_of_all(void) {
        NB_AUTO_STRV char **boxes = NULL;
        json_t *users = json_object();
        if (box_list(&boxes, NULL) < 0)
                return users;
        for (size_t i = 0; boxes[i]; i++) {
                __attribute__((cleanup(box_paths_freep))) struct box_paths *paths = NULL;
                NB_AUTO_CLOSE int fd = -1;
                json_t *answer = NULL, *request = json_pack("{s:s}", "op", "status"), *mount;
                size_t k;
                if (box_paths_new(boxes[i], &paths, NULL) == 0 && box_connect(paths, &fd, NULL) == 0)
                        (void)control_call(fd, request, NULL, 0, &answer, NULL);
                json_array_foreach(json_object_get(answer, "mounts"), k, mount) {
                        const char *name = json_string_value(json_object_get(mount, "volume"));
                        if (name && !json_object_get(users, name))
                                (void)json_object_set_new(users, name, json_array());
                        if (name)
                                (void)json_array_append_new(json_object_get(users, name), json_string(boxes[i]));
                }
                json_decref(request);
                json_decref(answer);
        }
        return users;
}

/* What it takes on the disk. A running box may change it meanwhile: the sum is then of what was seen. */
static uint64_t size_of(const char *path) {
        char *const roots[] = { (char *)path, NULL };
        FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
        uint64_t sum = 0;
        for (FTSENT *e; fts && (e = fts_read(fts));)
                if (e->fts_info != FTS_DP && e->fts_info != FTS_NS && e->fts_info != FTS_ERR)
                        sum += (uint64_t)e->fts_statp->st_blocks * BLOCK;
        if (fts)
                (void)fts_close(fts);
        return sum;
}

static int compare_names(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted. Not NULL. */
static char **names_in(int all) {
        char **names = nb_calloc(1, sizeof *names);
        int copy = fcntl(all, F_DUPFD_CLOEXEC, 0);
        DIR *dir = copy < 0 ? NULL : fdopendir(copy);
        for (struct dirent *e; dir && (e = readdir(dir));)
                if (nb_valid_name(e->d_name))
                        nb_strv_add(&names, e->d_name);
        if (dir)
                closedir(dir);
        else
                nb_close(copy);
        qsort(names, nb_strv_len(names), sizeof *names, compare_names);
        return names;
}

int volume_list(json_t **ret, struct nb_error *err) {
        NB_AUTO_CLOSE int all = -1;
        int r = open_all(false, &all, err);
        json_t *list = json_array(), *users = r == 0 ? users_of_all() : NULL;
        NB_AUTO_STRV char **names = r == 0 ? names_in(all) : NULL;
        for (size_t i = 0; names && names[i]; i++) {
                NB_AUTO_FREE char *path = config_volume_path(names[i]);
                json_t *boxes = json_incref(json_object_get(users, names[i]));
                (void)json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:o}", "name", names[i], "path", path, "size",
                                                            (json_int_t)size_of(path), "boxes", boxes ? boxes : json_array()));
        }
        json_decref(users);
        if (r < 0 && r != -ENOENT) {
                json_decref(list);
                return r;
        }
        *ret = list;
        return 0;
}

static int in_use(const char *name, struct nb_error *err) {
        json_t *users = users_of_all(), *box;
        NB_AUTO_FREE char *boxes = nb_strdup("");
        size_t i;
        json_array_foreach(json_object_get(users, name), i, box) {
                char *longer = nb_asprintf("%s%s'%s'", boxes, i ? ", " : "", json_string_value(box));
                free(boxes);
                boxes = longer;
        }
        json_decref(users);
        nb_fail(err, EBUSY, "the volume '%s' is in use by %s%s", name, boxes[0] ? "the box " : "a box that starts or ends",
                boxes);
        return nb_hint(err, "nixbox down ends a box; the volume stays until you remove it");
}

int volume_remove(const char *name, struct nb_error *err) {
        NB_AUTO_CLOSE int all = -1;
        NB_AUTO_CLOSE int fd = -1;
        int r = nb_valid_name(name) ? open_all(false, &all, err) : -ENOENT;
        if (r == 0)
                r = open_one(all, name, &fd, err);
        if (r == -ENOENT) {
                nb_fail(err, ENOENT, "there is no volume '%s'", name);
                return nb_hint(err, "nixbox volume ls lists them");
        }
        if (r < 0)
                return r;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return in_use(name, err);
        r = nb_remove_tree(all, name);
        return r < 0 ? nb_fail_errno(err, -r, "cannot remove all of the volume '%s'", name) : 0;
}
