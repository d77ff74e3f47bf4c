/* Making and removing a run's places (see scene.h). */
#include "attack/scene.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/sha256.h"
#include "base/text.h"
#include "box/events.h"
#include "gateway/gateway.h"

#define WITNESS_MAX (1u << 20) /* bytes of the file that is looked at */
#define SEARCH_MAX 500u        /* entries of a mount that are looked through for one */
#define REMOVE_TRIES 20
#define REMOVE_PAUSE_MS 100
#define HOST_NAME_MIN 6u /* a shorter host name is in too many other texts */

static void random_word(char *ret, size_t len) {
        static const char digits[] = "0123456789abcdef";
        uint8_t bytes[64];
        if (getrandom(bytes, len, 0) != (ssize_t)len)
                abort(); /* the kernel's pool is always ready by now */
        for (size_t i = 0; i < len; i++)
                ret[i] = digits[bytes[i] & 15];
        ret[len] = 0;
}

int attack_scene_begin(struct attack_scene *s, struct nb_error *err) {
        char word[33];
        s->rw = s->fifo = s->listener = s->host_tcp = s->host_udp = s->loop_tcp = -1;
        random_word(s->token, ATTACK_TOKEN_LEN);
        random_word(word, 32);
        s->marker = nb_asprintf("marker-%s", word);
        random_word(word, 32);
        s->canary_text = nb_asprintf("canary-%s", word);
        return setenv(ATTACK_MARKER, s->marker, 1) < 0 ? nb_fail_errno(err, errno, "cannot set a variable") : 0;
}

/* ---- files */

/* Whatever lies in a writable mount may be replaced by the guest at any moment, by a link to anywhere: there, nothing is opened
 * by its path, and no link is followed. */
static int look_at(const char *path, struct attack_seen_file *ret) {
        NB_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &ret->st) < 0 || !S_ISREG(ret->st.st_mode))
                return -EINVAL;
        if (ret->st.st_size <= (off_t)WITNESS_MAX && nb_sha256_fd(fd, ret->sha256) < 0)
                return -EIO;
        free(ret->path);
        ret->path = nb_strdup(path);
        return 0;
}

/* The first file of a folder that can be looked at, else of one below. */
static bool find_witness(const char *folder, unsigned depth, unsigned *left, struct attack_seen_file *ret) {
        DIR *d = opendir(folder);
        NB_AUTO_STRV char **below = NULL;
        bool found = false;
        for (const struct dirent *e; d && !found && *left > 0 && (e = readdir(d)); --*left) {
                NB_AUTO_FREE char *path = nb_path_join(folder, e->d_name);
                if (e->d_type == DT_REG)
                        found = look_at(path, ret) == 0 && ret->st.st_size <= (off_t)WITNESS_MAX;
                else if (e->d_type == DT_DIR && e->d_name[0] != '.')
                        nb_strv_add(&below, path);
        }
        if (d)
                closedir(d);
        for (size_t i = 0; below && below[i] && !found && depth > 0; i++)
                found = find_witness(below[i], depth - 1, left, ret);
        return found;
}

static void take_readonly(struct attack_scene *s, const char *source, const char *target) {
        unsigned left = SEARCH_MAX;
        s->ro_source = nb_strdup(source);
        s->ro_target = nb_strdup(target);
        nb_strv_add(&s->mounts, target);
        if (find_witness(source, 2, &left, &s->witness))
                s->witness_inside = nb_asprintf("%s%s", target, s->witness.path + strlen(source));
}

/* Sealed: the writable mount counts as a read-only one. What the probes change in it is a file of the run's own. */
static void take_writable_as_readonly(struct attack_scene *s) {
        const char *target = s->mounts[nb_strv_len(s->mounts) - 1];
        NB_AUTO_FREE char *path = nb_asprintf("/proc/self/fd/%d/witness", s->rw);
        NB_AUTO_CLOSE int fd = openat(s->rw, "witness", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        s->ro_source = nb_strdup(s->rw_source);
        s->ro_target = nb_strdup(target);
        if (fd >= 0 && nb_write_all(fd, s->token, ATTACK_TOKEN_LEN) == 0 && look_at(path, &s->witness) == 0)
                s->witness_inside = nb_asprintf("%s/%s/witness", target, s->rw_folder);
}

/* A FIFO and a socket that a process of this host, this one, waits at. */
static void make_meetings(struct attack_scene *s) {
        NB_AUTO_FREE char *path = nb_asprintf("/proc/self/fd/%d/meets-socket.host", s->rw);
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        (void)snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
        struct stat st;
        if (mkfifoat(s->rw, "meets-fifo.host", 0666) == 0)
                s->fifo = openat(s->rw, "meets-fifo.host", O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
        if (s->fifo >= 0 && (fstat(s->fifo, &st) < 0 || !S_ISFIFO(st.st_mode)))
                s->fifo = nb_close(s->fifo);
        s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (s->listener >= 0 && (bind(s->listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(s->listener, 8) < 0))
                s->listener = nb_close(s->listener);
}

static void take_writable(struct attack_scene *s, const char *source, const char *target) {
        NB_AUTO_FREE char *name = nb_asprintf("." ATTACK_FOLDER "%s", s->token), *path = nb_path_join(source, name);
        if (mkdir(path, 0755) < 0)
                return;
        s->rw_source = nb_strdup(source);
        s->rw_folder = nb_strdup(name);
        s->rw = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        s->rw_inside = nb_path_join(target, name);
        nb_strv_add(&s->mounts, target);
        if (s->rw >= 0)
                make_meetings(s);
}

static const char *text_of(const json_t *doc, const char *key) {
        const char *text = json_string_value(json_object_get(doc, key));
        return text ? text : "";
}

/* One mount of each kind is enough: the host treats all of a kind alike. */
static void take_mounts(struct attack_scene *s) {
        size_t i;
        json_t *m;
        json_array_foreach(json_object_get(s->status, "mounts"), i, m) {
                const char *source = text_of(m, "source"), *target = text_of(m, "target");
                bool write = json_is_true(json_object_get(m, "write"));
                if (json_is_true(json_object_get(m, "file")) || !*source || !*target)
                        continue;
                if (!write && !s->ro_source)
                        take_readonly(s, source, target);
                if (write && !s->rw_source)
                        take_writable(s, source, target);
        }
        if (s->sealed && !s->ro_source && s->rw >= 0)
                take_writable_as_readonly(s);
}

/* Where it goes with the box, if we do not get to it. */
static int make_canary(struct attack_scene *s, struct nb_error *err) {
        NB_AUTO_FREE char *path = nb_asprintf("%s/" ATTACK_FOLDER "%s", s->paths->runtime, s->token);
        int r = nb_write_file_atomic(path, s->canary_text, strlen(s->canary_text), 0600);
        if (r < 0)
                return nb_fail_errno(err, -r, "cannot write %s", path);
        s->canary = nb_steal(&path);
        return 0;
}

static void take_image(struct attack_scene *s) {
        NB_AUTO_FREE char *data = nb_data_dir();
        const char *digest = text_of(s->status, "image"), *colon = strchr(digest, ':');
        NB_AUTO_FREE char *path = nb_asprintf("%s/images/%s.erofs", data, colon ? colon + 1 : digest);
        struct stat st;
        if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
                return;
        s->image.path = nb_steal(&path);
        s->image.st = st;
}

/* ---- listeners */

static int listen_on(const char *address, int type, unsigned *port) {
        struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)*port) };
        socklen_t len = sizeof at;
        NB_AUTO_CLOSE int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)inet_pton(AF_INET, address, &at.sin_addr);
        if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || (type == SOCK_STREAM && listen(fd, 16) < 0) ||
            getsockname(fd, (struct sockaddr *)&at, &len) < 0)
                return -1;
        *port = ntohs(at.sin_port);
        return nb_steal_fd(&fd);
}

/* An address that others reach this host by. New string or NULL. */
static char *own_address(void) {
        struct ifaddrs *all = NULL;
        char text[INET_ADDRSTRLEN];
        char *found = NULL;
        (void)getifaddrs(&all);
        for (struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
                if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP) ||
                    i->ifa_flags & IFF_LOOPBACK)
                        continue;
                struct sockaddr_in at;
                memcpy(&at, i->ifa_addr, sizeof at);
                found = nb_strdup(inet_ntop(AF_INET, &at.sin_addr, text, sizeof text));
        }
        freeifaddrs(all);
        return found;
}

static void make_listeners(struct attack_scene *s) {
        unsigned port = 0;
        s->facts.loopport = 0;
        s->loop_tcp = listen_on("127.0.0.1", SOCK_STREAM, &s->facts.loopport);
        s->host = own_address();
        if (s->host)
                s->host_tcp = listen_on(s->host, SOCK_STREAM, &port);
        if (s->host_tcp >= 0)
                s->host_udp = listen_on(s->host, SOCK_DGRAM, &port);
        s->facts.port = s->host_udp >= 0 ? port : 0;
}

/* ---- what must not be inside */

static void add_needle(struct attack_scene *s, const char *name, const char *text) {
        nb_strv_add(&s->needles, name);
        nb_strv_add(&s->needles, text);
}

static void take_needles(struct attack_scene *s) {
        char host[256] = "";
        char *id = NULL;
        NB_AUTO_FREE char *home = nb_home_dir();
        add_needle(s, "the-canary", s->canary_text); /* first: the program inside knows it by its place */
        add_needle(s, "the-caller's-variable", s->marker);
        if (nb_read_regular("/etc/machine-id", 256, &id, NULL) == 0) {
                id[strcspn(id, "\n")] = 0;
                if (strlen(id) == 32)
                        add_needle(s, "this-host's-machine-id", id);
        }
        free(id);
        /* a name that is in what the box was given anyway proves nothing */
        bool common = gethostname(host, sizeof host - 1) < 0 || strlen(host) < HOST_NAME_MIN || strstr(home, host) ||
                      strstr(s->paths->name, host) || strstr("localhost debian", host);
        if (!common)
                add_needle(s, "this-host's-name", host);
}

int attack_scene_make(struct attack_scene *s, const struct box_paths *paths, json_t *status, struct nb_error *err) {
        struct in_addr router = { htonl(NET_GATEWAY) };
        char text[INET_ADDRSTRLEN];
        struct stat st;
        NB_AUTO_FREE char *events = nb_path_join(paths->state, EVENTS_FILE);
        s->paths = paths;
        s->status = json_incref(status);
        s->router = nb_strdup(inet_ntop(AF_INET, &router, text, sizeof text));
        s->events_from = stat(events, &st) == 0 ? st.st_size : 0;
        int r = make_canary(s, err);
        if (r < 0)
                return r;
        take_mounts(s);
        take_image(s);
        make_listeners(s);
        take_needles(s);
        s->facts.token = s->token;
        s->facts.router = s->router;
        s->facts.host = s->host_udp >= 0 ? s->host : NULL;
        s->facts.ro = s->ro_target;
        s->facts.witness = s->witness_inside;
        s->facts.rw = s->rw >= 0 ? s->rw_inside : NULL;
        s->facts.mounts = s->mounts;
        s->facts.canary = s->canary;
        s->facts.needles = s->needles;
        s->facts.memory = (uint64_t)json_integer_value(json_object_get(json_object_get(status, "memory"), "limit"));
        return 0;
}

/* ---- the end */

/* Names of the run's own that came to be in a folder where none should. */
static void remove_own_names(const struct attack_scene *s, const char *folder) {
        NB_AUTO_FREE char *prefix = nb_asprintf("." ATTACK_FOLDER "%s.", s->token);
        NB_AUTO_CLOSE int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = opendir(folder);
        for (const struct dirent *e; d && (e = readdir(d));)
                if (nb_starts_with(e->d_name, prefix))
                        (void)nb_remove_tree(fd, e->d_name);
        if (d)
                closedir(d);
}

/* The folder in the writable mount. After an interrupted run something inside may be about to make one more file there. */
static int remove_writable(const struct attack_scene *s) {
        NB_AUTO_CLOSE int source = s->rw_source ? open(s->rw_source, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        int r = source >= 0 ? nb_remove_tree(source, s->rw_folder) : 0;
        for (int i = 0; r < 0 && i < REMOVE_TRIES; i++) {
                (void)poll(NULL, 0, REMOVE_PAUSE_MS);
                r = nb_remove_tree(source, s->rw_folder);
        }
        return r;
}

static void seen_file_clear(struct attack_seen_file *f) {
        free(f->path);
}

int attack_scene_end(struct attack_scene *s, struct nb_error *err) {
        int r = 0;
        (void)unsetenv(ATTACK_MARKER);
        if (s->canary && unlink(s->canary) < 0)
                r = nb_fail_errno(err, errno, "cannot remove %s", s->canary);
        if (s->ro_source)
                remove_own_names(s, s->ro_source);
        int gone = remove_writable(s);
        if (gone < 0)
                r = nb_fail_errno(err, -gone, "cannot remove %s/%s", s->rw_source, s->rw_folder);
        int *const fds[] = { &s->rw, &s->fifo, &s->listener, &s->host_tcp, &s->host_udp, &s->loop_tcp };
        for (size_t i = 0; i < NB_ARRAY_LEN(fds); i++)
                *fds[i] = nb_close(*fds[i]);
        char *const texts[] = { s->marker,    s->canary,    s->canary_text,    s->rw_source, s->rw_folder, s->ro_source,
                                s->rw_inside, s->ro_target, s->witness_inside, s->host,      s->router };
        for (size_t i = 0; i < NB_ARRAY_LEN(texts); i++)
                free(texts[i]);
        for (size_t i = 0; s->secrets && s->secrets[i]; i++)
                explicit_bzero(s->secrets[i], strlen(s->secrets[i]));
        nb_strv_free(s->secrets);
        nb_strv_free(s->needles);
        nb_strv_free(s->mounts);
        seen_file_clear(&s->witness);
        seen_file_clear(&s->image);
        json_decref(s->status);
        return r;
}
