/* The program's frame: reads the plan that rides behind it, makes its places, runs the probes a few at a time, each in a
 * process of its own with a deadline, prints a line for each, and removes what it made. It ends in the same way when it is told
 * to. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attack/guest/guest.h"
#include "attack/table.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

#define AT_ONCE 16u /* probes that run at the same time: most of them wait */
#define PLAN_MAX (256u * 1024u)
#define MARK_LEN (sizeof ATTACK_PLAN_MARK - 1 + 9)
#define AGENT_FDS_MAX 64
#define FUSE_SUPER_MAGIC 0x65735546

#define ROW(class, name, judge, function, args, description) { class, name, guest_##function },
static const struct {
        char class;
        const char *name;
        probe_fn *run;
} table[] = { ATTACK_PROBES(ROW) };

struct guest guest;
static volatile sig_atomic_t told_to_end;

struct running {
        size_t at; /* in the table */
        pid_t pid;
        int said;
        uint64_t deadline;
};

void tried(struct outcome *o, enum attempt attempt, const char *fmt, ...) {
        va_list ap;
        va_start(ap, fmt);
        o->attempt = attempt;
        (void)vsnprintf(o->said, sizeof o->said, fmt, ap);
        va_end(ap);
}

void tried_call(struct outcome *o, long result, const char *what) {
        if (result < 0)
                tried(o, TRIED_REFUSED, "%s: %s", what, strerror(errno));
        else
                tried(o, TRIED_DONE, "%s succeeded", what);
}

void controlled(struct outcome *o, bool ok) {
        o->control = ok ? CONTROL_OK : CONTROL_FAILED;
}

char *decode(const char *word) {
        char *out = nb_calloc(strlen(word) + 1, 1), *to = out;
        for (unsigned byte; *word; to++) {
                if (*word == '%' && sscanf(word + 1, "%2x", &byte) == 1) {
                        *to = (char)byte;
                        word += 3;
                } else {
                        *to = *word++;
                }
        }
        return out;
}

/* ---- one probe */

static _Noreturn void probe_main(size_t at, char *const *words, int out) {
        static const char *const attempts[] = { "nothing", "refused", "done" }, *const controls[] = { "none", "ok", "failed" };
        struct outcome o = { 0 };
        (void)setpgid(0, 0);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)signal(SIGINT, SIG_DFL);
        (void)signal(SIGTERM, SIG_DFL);
        (void)signal(SIGHUP, SIG_DFL);
        table[at].run(words, &o);
        NB_AUTO_FREE char *line = nb_asprintf("%s %s %s", attempts[o.attempt], controls[o.control], o.said);
        (void)nb_write_all(out, line, strlen(line));
        _exit(0);
}

/* The row that a line of the plan is about. */
static bool find_row(const char *line, size_t *ret) {
        size_t len = strcspn(line, " ");
        for (size_t i = 0; i < NB_ARRAY_LEN(table); i++)
                if (strlen(table[i].name) == len && memcmp(table[i].name, line, len) == 0) {
                        *ret = i;
                        return true;
                }
        return false;
}

static bool start(size_t at, const char *line, struct running *ret) {
        char *words[WORDS_MAX + 1] = { NULL }, *save = NULL;
        NB_AUTO_FREE char *copy = nb_strdup(line);
        size_t n = 0;
        for (char *w = strtok_r(copy, " ", &save); w && n < WORDS_MAX; w = strtok_r(NULL, " ", &save))
                words[n++] = w;
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
                return false;
        *ret = (struct running){ .at = at, .said = ends[0], .deadline = nb_now_ms() + ATTACK_PROBE_SECONDS * 1000u };
        ret->pid = fork();
        if (ret->pid == 0)
                probe_main(at, words + 1, ends[1]);
        nb_close(ends[1]);
        if (ret->pid > 0)
                (void)setpgid(ret->pid, ret->pid);
        else
                nb_close(ends[0]);
        return ret->pid > 0;
}

static void finish(struct running *r, bool late) {
        char said[SAID_MAX + 32] = "";
        ssize_t n = late ? 0 : nb_read_full(r->said, said, sizeof said - 1);
        (void)kill(-r->pid, SIGKILL);
        (void)kill(r->pid, SIGKILL);
        while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
                ;
        r->said = nb_close(r->said);
        r->pid = 0;
        if (n <= 0)
                (void)snprintf(said, sizeof said, "nothing failed %s", late ? "it did not end in time" : "it ended early");
        for (char *c = said; *c; c++)
                if (*c == '\n')
                        *c = ' ';
        printf("%s %s\n", table[r->at].name, said);
        (void)fflush(stdout);
}

/* ---- all of them */

/* Waits until at most `most` run. */
static void wait_until(struct running *all, size_t most) {
        for (;;) {
                struct pollfd fds[AT_ONCE];
                size_t n = 0;
                uint64_t next = UINT64_MAX, now = nb_now_ms();
                for (size_t i = 0; i < AT_ONCE; i++) {
                        fds[i] = (struct pollfd){ .fd = all[i].pid > 0 ? all[i].said : -1, .events = POLLIN };
                        n += all[i].pid > 0;
                        if (all[i].pid > 0 && all[i].deadline < next)
                                next = all[i].deadline;
                }
                if (n <= most || told_to_end)
                        return;
                if (poll(fds, AT_ONCE, next > now ? (int)(next - now) : 0) < 0)
                        continue;
                now = nb_now_ms();
                for (size_t i = 0; i < AT_ONCE; i++)
                        if (all[i].pid > 0 && (fds[i].revents || now >= all[i].deadline))
                                finish(&all[i], !fds[i].revents);
        }
}

/* Those of class C come after everything else, one by one: what they are about is what the others may have changed. */
static size_t run_all(char *const *lines) {
        struct running all[AT_ONCE] = { 0 };
        size_t n = 0;
        for (size_t i = 0, at; lines && lines[i] && !told_to_end; i++) {
                if (!find_row(lines[i], &at))
                        continue;
                wait_until(all, table[at].class == 'C' ? 0 : AT_ONCE - 1);
                size_t place = 0;
                while (all[place].pid > 0)
                        place++;
                n += start(at, lines[i], &all[place]);
        }
        wait_until(all, 0);
        for (size_t i = 0; i < AT_ONCE; i++)
                if (all[i].pid > 0) {
                        (void)kill(-all[i].pid, SIGKILL);
                        (void)waitpid(all[i].pid, NULL, 0);
                }
        return n;
}

/* ---- the plan, and places */

/* The plan is the end of the file that this program is in. NULL if there is none. New string. */
static char *read_plan(void) {
        NB_AUTO_CLOSE int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        char mark[MARK_LEN + 1] = "";
        off_t end = lseek(fd, 0, SEEK_END);
        unsigned len = 0;
        if (end < (off_t)MARK_LEN || pread(fd, mark, MARK_LEN, end - (off_t)MARK_LEN) != (ssize_t)MARK_LEN ||
            sscanf(mark, ATTACK_PLAN_MARK "%8x", &len) != 1 || len > PLAN_MAX || (off_t)(len + MARK_LEN) > end)
                return NULL;
        char *plan = nb_calloc(len + 1, 1);
        if (pread(fd, plan, len, end - (off_t)MARK_LEN - (off_t)len) == (ssize_t)len)
                return plan;
        free(plan);
        return NULL;
}

/* Texts to look for come backwards, so that they are not inside because of us. */
static void add_needle(const char *name, const char *backwards) {
        if (guest.n_needles == NEEDLES_MAX)
                return;
        char *text = decode(backwards);
        for (size_t i = 0, n = strlen(text); i < n / 2; i++) {
                char c = text[i];
                text[i] = text[n - 1 - i];
                text[n - 1 - i] = c;
        }
        guest.needles[guest.n_needles++] = (struct needle){ nb_strdup(name), text };
}

static void take_line(char *line, char ***ret_probes) {
        char name[64] = "", value[8192] = "";
        if (nb_starts_with(line, "probe "))
                nb_strv_add(ret_probes, line + 6);
        else if (sscanf(line, "needle %63s %8191s", name, value) == 2)
                add_needle(name, value);
        else if (sscanf(line, "rw %8191s", value) == 1)
                guest.rw = decode(value);
        else if (sscanf(line, "mount %8191s", value) == 1) {
                NB_AUTO_FREE char *target = decode(value);
                nb_strv_add(&guest.mounts, target);
        }
}

static void take_plan(char *plan, char ***ret_probes) {
        char *save = NULL;
        for (char *line = strtok_r(plan, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                take_line(line, ret_probes);
}

/* The agent mounts the shared folders where no path leads to; but it has that folder open, and root may look into any process.
 */
static char *find_share(void) {
        for (int fd = 3; fd < AGENT_FDS_MAX; fd++) {
                struct statfs st;
                char *path = nb_asprintf("/proc/1/fd/%d/share", fd);
                if (statfs(path, &st) == 0 && st.f_type == FUSE_SUPER_MAGIC)
                        return path;
                free(path);
        }
        return NULL;
}

/* Mounts that are made from here on are this program's alone, and go with it. */
static void make_places(const char *folder) {
        guest.folder = nb_strdup(folder);
        guest.share = find_share();
        (void)unshare(CLONE_NEWNS);
        (void)mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static void remove_places(void) {
        (void)chdir("/");
        (void)nb_remove_tree(AT_FDCWD, guest.folder);
        /* the host removes what is in the mount, after it has looked at it; unless it is gone itself */
        if (told_to_end && guest.rw)
                (void)nb_remove_tree(AT_FDCWD, guest.rw);
}

static void on_signal(int number) {
        (void)number;
        told_to_end = 1;
}

int main(int argc, char **argv) {
        /* for probes that need a process with something in its environment */
        if (argc == 2 && strcmp(argv[1], "pause") == 0)
                return pause();
        if (argc != 3) {
                fprintf(stderr, "usage: nixbox-attack FOLDER TOKEN; nixbox attack starts it\n");
                return 2;
        }
        struct sigaction end = { .sa_handler = on_signal };
        (void)sigaction(SIGINT, &end, NULL);
        (void)sigaction(SIGTERM, &end, NULL);
        (void)sigaction(SIGHUP, &end, NULL);
        (void)signal(SIGPIPE, SIG_IGN);
        NB_AUTO_STRV char **probes = NULL;
        NB_AUTO_FREE char *plan = read_plan();
        if (plan)
                take_plan(plan, &probes);
        make_places(argv[1]);
        printf("attack 1 %s\n", argv[2]);
        size_t n = run_all(probes);
        remove_places();
        if (told_to_end)
                return 1;
        printf("end %s %zu\n", argv[2], n);
        return 0;
}
