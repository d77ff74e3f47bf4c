/* What the supervisor keeps an eye on: the deaths of its children (and why a box ended), the guest's clock, the descriptors
 * that virtiofsd holds for the guest, the runtime folder that a logout may remove, and requests to end by signal. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "box/conduit.h"
#include "box/supervisor_gateway.h"
#include "box/supervisor_impl.h"

#define TICK_MS 500
#define TIME_EVERY_TICKS 60 /* the clock is sent this often even if nothing jumped */
#define PLACE_EVERY_TICKS 10
#define UNSERVED_TICKS 4
#define SETTLE_MS 100           /* after a first death: others follow at once, and the cause is judged over all of them */
#define SETTLES_MAX 50          /* while others must still follow */
#define RECLAIM_GIVE_UP_MS 5000 /* a guest that has not answered is asked again */

static void name_death(const struct child *c, char ret[64]) {
        if (c->by_signal)
                snprintf(ret, 64, "%s was killed by signal %d", c->name, c->status);
        else if (c == &c->super->child[CHILD_CONDUIT] && c->status == CONDUIT_EXIT_PROTOCOL)
                snprintf(ret, 64, "the guest broke the protocol of the control channel");
        else
                snprintf(ret, 64, "%s ended with status %d", c->name, c->status);
}

/* QEMU ended in order while the guest was starting, and the guest's kernel had not even a console yet. Under emulation on a
 * busy host that happens once in some hundred boots, and says nothing about the image. */
static bool fell_over(const struct supervisor *s) {
        return s->phase == SUPER_BOOTING && s->m.accel.kind == ACCEL_TCG && !s->last_console && !s->bye;
}

/* The guard is among virtiofsd's processes: the end of virtiofsd ends it first, and is told only when the guard's was taken
 * note of. Until then virtiofsd is there, but runs no program any more. */
static bool is_ending(const struct child *virtiofsd) {
        char path[64], program;
        (void)snprintf(path, sizeof path, "/proc/%d/exe", (int)virtiofsd->proc.pid);
        return virtiofsd->proc.pid > 0 && readlink(path, &program, 1) < 0 && errno == ENOENT;
}

static bool fell_with_virtiofsd(const struct child *c) {
        const struct supervisor *s = c->super;
        return c == &s->child[CHILD_GUARD] && c->died && c->by_signal && s->child[CHILD_VIRTIOFSD].died;
}

/* The cause among the dead: who was killed did not fall because of the others; QEMU's orderly end is the guest's doing. */
static void judge(struct supervisor *s) {
        static const enum child_role order[] = { CHILD_QEMU, CHILD_VIRTIOFSD, CHILD_GUARD, CHILD_CONDUIT };
        char death[64];
        for (int signals = 1; signals >= 0; signals--) {
                for (size_t i = 0; i < NB_ARRAY_LEN(order); i++) {
                        const struct child *c = &s->child[order[i]];
                        if (!c->died || (signals && !c->by_signal) || fell_with_virtiofsd(c))
                                continue;
                        name_death(c, death);
                        if (c->by_signal || order[i] != CHILD_QEMU || c->status != 0)
                                super_end(s, EIO, "%s%s%s", death, s->last_console ? "; the guest's console said last: " : "",
                                          s->last_console ? s->last_console : "");
                        else if (fell_over(s))
                                super_end(s, ETIME, "the guest's kernel fell over before it could say anything");
                        else
                                super_end(s, ESHUTDOWN, "the guest ended its machine%s%s",
                                          s->last_console ? "; its console said last: " : "",
                                          s->last_console ? s->last_console : "");
                        return;
                }
        }
}

/* virtiofsd ends in order when QEMU has let go of it, which that does on its own way out. */
static bool more_to_follow(const struct supervisor *s) {
        const struct child *virtiofsd = &s->child[CHILD_VIRTIOFSD];
        bool in_order = virtiofsd->died && !virtiofsd->by_signal && virtiofsd->status == 0;
        return (in_order && s->child[CHILD_QEMU].proc.pid > 0) || (s->child[CHILD_GUARD].died && is_ending(virtiofsd));
}

static void settle(struct supervisor *s) {
        if (!event_pending(s->settle_timer, EV_TIMEOUT, NULL))
                (void)event_add(s->settle_timer, &(struct timeval){ .tv_usec = SETTLE_MS * 1000 });
}

static void on_settled(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct supervisor *s = user;
        if (more_to_follow(s) && s->settles++ < SETTLES_MAX) {
                settle(s);
                return;
        }
        judge(s);
        super_kill(s);
}

static void on_child(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct child *c = user;
        struct supervisor *s = c->super;
        siginfo_t info = { 0 };
        if (waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
                return;
        (void)event_del(c->event);
        c->died = true;
        c->by_signal = info.si_code != CLD_EXITED;
        c->status = info.si_status;
        c->proc.pid = 0;
        char death[64];
        name_death(c, death);
        nb_info("%s", death);
        if (c - s->child >= CHILD_VITAL)
                egress_died(s, c, death);
        else if (s->phase >= SUPER_ENDING)
                super_kill(s);
        else
                settle(s);
}

int watch_child(struct supervisor *s, enum child_role role, struct nb_error *err) {
        struct child *c = &s->child[role];
        c->super = s;
        c->died = false;
        c->event = event_new(s->base, c->proc.pidfd, EV_READ | EV_PERSIST, on_child, c);
        if (!c->event || event_add(c->event, NULL) < 0)
                return nb_fail(err, ENOMEM, "cannot watch %s", c->name);
        return 0;
}

void watch_send_time(struct supervisor *s) {
        struct timespec now;
        (void)clock_gettime(CLOCK_REALTIME, &now);
        uint64_t ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        uint8_t bytes[8];
        for (int i = 0; i < 8; i++)
                bytes[i] = (uint8_t)(ns >> (8 * i));
        guest_send(s, WIRE_TIME, 0, bytes, sizeof bytes);
}

/* A timer far away that exists only to be cancelled by the kernel when the clock is set (also after a sleep of the host). */
static void arm_clock(struct supervisor *s) {
        struct itimerspec far = { 0 };
        (void)clock_gettime(CLOCK_REALTIME, &far.it_value);
        far.it_value.tv_sec += 365L * 24 * 3600;
        (void)timerfd_settime(s->clock_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL);
}

static void on_clock(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct supervisor *s = user;
        uint64_t ticks;
        (void)!read(fd, &ticks, sizeof ticks);
        arm_clock(s);
        nb_info("the host's clock was set");
        if (s->phase == SUPER_READY || s->phase == SUPER_UP)
                watch_send_time(s);
}

static void check_place(struct supervisor *s) {
        if (s->phase < SUPER_ENDING && !box_in_place(&s->paths, &s->lock))
                super_end(s, ENOENT, "its runtime folder %s was removed (a logout does that)", s->paths.runtime);
}

static void on_place(evutil_socket_t fd, short what, void *user) {
        (void)what;
        char events[4096];
        (void)!read(fd, events, sizeof events);
        check_place(user);
}

static void on_reclaimed(struct supervisor *s, void *user, int code, const char *text) {
        (void)user;
        s->reclaiming = false;
        if (code != 0)
                nb_warn("the guest could not forget unused files: %s", text ? text : strerror(code));
}

void watch_reclaim(struct supervisor *s, uint64_t flags) {
        uint8_t bytes[8];
        for (int i = 0; i < 8; i++)
                bytes[i] = (uint8_t)(flags >> (8 * i));
        s->last_reclaim_ms = nb_now_ms();
        s->reclaiming = guest_request(s, WIRE_RECLAIM, bytes, sizeof bytes, on_reclaimed, NULL) >= 0;
}

/* How often to look, and when to ask, is share_fd_pressure()'s to say; here only one request is under way at a time. */
static void on_descriptors(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct supervisor *s = user;
        unsigned long held = 0, limit = 0;
        struct share_pressure p = { .next_ms = TICK_MS };
        bool up = s->phase == SUPER_READY || s->phase == SUPER_UP;
        pid_t virtiofsd = s->child[CHILD_VIRTIOFSD].proc.pid;
        if (up && virtiofsd > 0 && share_fd_use(virtiofsd, &held, &limit) == 0)
                p = share_fd_pressure(held, limit);
        if (p.ask && (!s->reclaiming || nb_now_ms() - s->last_reclaim_ms > RECLAIM_GIVE_UP_MS)) {
                nb_debug("virtiofsd holds %lu of %lu descriptors: the guest is asked to forget unused files", held, limit);
                watch_reclaim(s, WIRE_RECLAIM_DENTRIES);
        }
        (void)event_add(s->descriptor_timer,
                        &(struct timeval){ .tv_sec = p.next_ms / 1000, .tv_usec = p.next_ms % 1000 * 1000 });
}

/* Not yet at the first look: at its own end, too, virtiofsd lets go of its threads before it is gone. */
static void check_share(struct supervisor *s) {
        bool alive = s->child[CHILD_QEMU].proc.pid > 0 && s->child[CHILD_VIRTIOFSD].proc.pid > 0 && !s->bye;
        if (!s->served || !alive || share_answers(s->child[CHILD_VIRTIOFSD].proc.pid))
                s->unserved = 0;
        else if (++s->unserved == UNSERVED_TICKS)
                super_end(s, EPROTO, "virtiofsd serves the mounts no more: it was sent a request that is none");
}

static void on_tick(evutil_socket_t fd, short what, void *user) {
        (void)fd;
        (void)what;
        struct supervisor *s = user;
        s->ticks++;
        if (s->ticks % PLACE_EVERY_TICKS == 0)
                check_place(s);
        if (s->phase != SUPER_READY && s->phase != SUPER_UP)
                return;
        if (s->ticks % TIME_EVERY_TICKS == 0 && !s->paused)
                watch_send_time(s);
        check_share(s);
        memory_tick(s);
        room_tick(s);
}

static void on_terminate(evutil_socket_t signal, short what, void *user) {
        (void)what;
        super_end(user, EINTR, "the supervisor was told to end by signal %d", (int)signal);
}

int watch_begin(struct supervisor *s, struct nb_error *err) {
        s->settle_timer = evtimer_new(s->base, on_settled, s);
        s->tick_timer = event_new(s->base, -1, EV_PERSIST, on_tick, s);
        s->descriptor_timer = evtimer_new(s->base, on_descriptors, s);
        s->clock_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
        s->place_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (s->clock_fd < 0)
                return nb_fail_errno(err, errno, "cannot make a timer");
        arm_clock(s);
        s->clock_event = event_new(s->base, s->clock_fd, EV_READ | EV_PERSIST, on_clock, s);
        s->term_event = evsignal_new(s->base, SIGTERM, on_terminate, s);
        if (!s->settle_timer || !s->tick_timer || !s->descriptor_timer || !s->clock_event || !s->term_event ||
            event_add(s->clock_event, NULL) < 0 || event_add(s->term_event, NULL) < 0 ||
            event_add(s->tick_timer, &(struct timeval){ .tv_usec = TICK_MS * 1000 }) < 0)
                return nb_fail(err, ENOMEM, "cannot make the supervisor's timers");
        on_descriptors(-1, 0, s);
        /* inotify instances are few for each user; without one the periodic look is enough */
        if (s->place_fd >= 0 &&
            inotify_add_watch(s->place_fd, s->paths.runtime, IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF) >= 0) {
                s->place_event = event_new(s->base, s->place_fd, EV_READ | EV_PERSIST, on_place, s);
                if (s->place_event)
                        (void)event_add(s->place_event, NULL);
        }
        return 0;
}

void watch_free(struct supervisor *s) {
        struct event **all[] = { &s->settle_timer, &s->tick_timer,  &s->descriptor_timer,
                                 &s->clock_event,  &s->place_event, &s->term_event };
        for (size_t i = 0; i < NB_ARRAY_LEN(all); i++) {
                if (*all[i])
                        event_free(*all[i]);
                *all[i] = NULL;
        }
        for (size_t i = 0; i < CHILD_COUNT; i++) {
                if (s->child[i].event)
                        event_free(s->child[i].event);
                s->child[i].event = NULL;
        }
        s->clock_fd = nb_close(s->clock_fd);
        s->place_fd = nb_close(s->place_fd);
}
