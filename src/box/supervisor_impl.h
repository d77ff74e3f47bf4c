/* What the files of the supervisor share; nobody else includes this. One struct supervisor per process:
 *   supervisor_start.c    the caller's half: prepares, starts the process, follows it
 *   supervisor_message.c  the message between the two halves
 *   supervisor.c          the process: namespaces, children, the way up and the way down
 *   supervisor_image.c    what the box boots from: kept in place, and the same that was checked
 *   supervisor_disk.c     the disk's file system
 *   supervisor_setup.c    the SETUP frame for the guest
 *   supervisor_gateway.c  the box's way out, see supervisor_gateway.h for its files
 *   supervisor_guard.c    the guard: its start, what it refuses, what the owner allows
 *   supervisor_control.c  the control socket: connections
 *   supervisor_requests.c what they may ask for
 *   supervisor_guest.c    what the conduit passes on from the guest, and requests to it
 *   supervisor_watch.c    children's deaths, timers, clock, the runtime folder
 *   supervisor_memory.c   the guest's memory: figures, and requests to give some back
 *   supervisor_room.c     room on the file systems behind the mounts, and the children's memory
 *   supervisor_log.c      output of guest and children into files that cannot grow without bound */
#pragma once
#include <event2/event.h>
#include <jansson.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "box/cgroup.h"
#include "box/control.h"
#include "box/disk.h"
#include "box/events.h"
#include "box/memory.h"
#include "box/share.h"
#include "box/supervisor.h"
#include "jail/jail.h"
#include "wire/wire.h"

/* Descriptor numbers the supervisor is started with. */
#define SUPER_FD_START 3 /* stream socket to the starting command */
#define SUPER_FD_LOCK 4  /* the locks, see state.h */
#define SUPER_FD_STATE 5
#define SUPER_FD_CONTROL 6 /* listening control socket */

/* Limits. */
#define SUPER_MOUNTS_MAX 1024
#define SUPER_PORTS_MAX 128
#define SUPER_REASON_MAX 1024
#define SUPER_MARKS 4 /* runtime, kernel, initramfs, root file system */
#define SUPER_MESSAGE_MAX (4u * 1024u * 1024u)

/* ---- the message between the halves */
struct start_mount {
        char *source, *target;
        char *volume; /* the name of the volume that it is; NULL: a mount */
        bool write, is_file;
        bool remote; /* its file system is asked over a network */
        int fd;      /* detached tree; -1 once attached */
        int lock;    /* keeps a volume from being removed while the box runs; -1 */
        char id[16]; /* share entry, once attached */
};
/* A port of the guest that is published on the host. */
struct start_port {
        char *address;
        uint16_t host_port, guest_port;
        int fd; /* listens there */
};
struct start_message {
        char *name, *runtime, *state, *control; /* as in struct box_paths */
        struct image image;
        struct accel accel;
        unsigned cpus;
        uint64_t memory, disk;
        uint64_t disk_floor;   /* what must stay free, see room.h */
        bool disk_file;        /* there is a disk, in a file (disk.h) */
        bool disk_kept;        /* it was kept from an earlier boot, and outlives a start that fails */
        bool disk_persistent;  /* it outlives the box, and is not the scratch disk but one of its own (disk.h) */
        unsigned boot_seconds; /* how long the guest may take to get ready; 0: as usual */
        unsigned uid, gid;
        char *user, *home, *timezone;
        char *config_file, *config_hash;
        struct policy *policy; /* mode and rules in force; rules may be added while the box runs */
        json_t *proxy;         /* of the caller's environment, as gateway.h has it; NULL: none */
        struct start_port *ports;
        size_t n_ports;
        char **env;
        char **secret_names;
        char **protect; /* patterns of files that the host runs (policy/protect.h); NULL: none */
        char **secrets; /* "NAME=value"; wiped as soon as the guest has them */
        struct start_mount *mounts;
        size_t n_mounts;
};
int start_message_send(int sock, const struct start_message *m, struct nb_error *err);
int start_message_receive(int sock, struct start_message *ret, struct nb_error *err);
void start_message_wipe_secrets(struct start_message *m);
void start_message_clear(struct start_message *m);

/* ---- the process */
enum child_role {
        CHILD_VIRTIOFSD,
        CHILD_GUARD,
        CHILD_QEMU,
        CHILD_CONDUIT,
        CHILD_VITAL, /* the death of one before this ends the box; those from here on are started again */
        CHILD_GATEWAY = CHILD_VITAL,
        CHILD_RESOLVER,
        CHILD_PORTAL,
        CHILD_COUNT
};
struct child {
        struct supervisor *super;
        const char *name;
        struct jail_child proc; /* pid 0: not started, or reaped */
        struct event *event;
        bool died;
        bool by_signal;
        int status; /* exit status or signal number */
};

/* An output that is read line by line into a bounded file. */
struct capture {
        struct supervisor *super;
        const char *name;
        int fd;
        struct event *event;
        struct nb_buf line;
        struct log_file *file; /* NULL: into the box's log */
};
struct log_file {
        char *path;
        int fd;
        uint64_t size, limit;
};

enum super_phase { SUPER_BOOTING, SUPER_READY, SUPER_UP, SUPER_ENDING, SUPER_KILLING, SUPER_OVER };

/* A session in the guest, for the event log. */
struct super_session {
        TAILQ_ENTRY(super_session) link;
        uint32_t id;
        uint64_t since_ms;
};
/* A request to the guest that waits for its REPLY. */
struct super_request {
        TAILQ_ENTRY(super_request) link;
        uint32_t id;
        void (*done)(struct supervisor *s, void *user, int code, const char *text);
        void *user;
};

struct supervisor {
        struct event_base *base;
        struct start_message m;
        struct egress *egress;  /* NULL: the box has no network */
        struct box_paths paths; /* borrows from m */
        struct box_lock lock;
        struct events *events;
        struct share *share;
        struct guarding *guarding; /* NULL: nothing is protected */
        struct vmm_monitor *monitor;
        struct child child[CHILD_COUNT];
        struct capture capture[CHILD_COUNT + 1]; /* the last one: the guest's console */
        struct cgroup cgroup;
        struct log_file log, console;
        char *last_console; /* last line of the guest's console, cleaned */

        enum super_phase phase;
        uint64_t began_ms, phase_ms, ready_ms;
        char *reason; /* why the box ends; the first cause wins */
        char *bye;    /* the guest's own farewell */
        int end_code; /* errno for the starting command */
        bool keep_disk;
        bool memory_asked; /* the guest owes its figures */

        int marks[SUPER_MARKS]; /* keep in the store what the box was booted from (base/seal.h); never closed */

        int start_fd; /* -1 once the box is up */
        struct event *start_event;

        int guest_fd; /* our end of the control channel until the conduit has it */
        struct event *setup_event;
        struct nb_buf setup;

        int super_fd, clients_fd; /* to the conduit */
        struct event *guest_read, *guest_write;
        struct nb_buf guest_in, guest_out;
        uint32_t next_request, next_session;
        TAILQ_HEAD(super_requests, super_request) requests;
        TAILQ_HEAD(super_sessions, super_session) sessions;
        size_t n_sessions, n_requests;
        uint64_t sessions_total;

        int control_fd;
        struct event *control_event;
        TAILQ_HEAD(super_clients, super_client) clients;
        size_t n_clients;

        struct event *end_timer, *settle_timer, *tick_timer, *descriptor_timer, *clock_event, *place_event, *term_event;
        unsigned settles; /* how often the judgement about the dead was put off */
        int clock_fd, place_fd;
        unsigned long ticks;
        bool served;       /* virtiofsd answered when the guest got ready */
        unsigned unserved; /* looks in a row at which it did not */
        uint64_t last_reclaim_ms;
        bool reclaiming; /* the guest has been asked and has not answered */
        struct memory_policy memory;
        char *paused;         /* why the machine stands still; NULL: it runs */
        unsigned over_ticks;  /* looks in a row at which the children used too much memory */
        uint64_t memory_ms;   /* when it was asked for them */
        uint64_t memory_peak; /* the most host memory that the guest took at once, as far as seen */
};

/* supervisor.c */
/** An id for jails that nobody has, as real root; one for each kind of process. */
unsigned super_unused_id(enum child_role role);
void super_phase_done(struct supervisor *s, const char *name);
/** Begins the end of the box: graceful while the guest listens, then by force. The first reason stays. `code` is the errno
 *  that a starting command gets. */
void super_end(struct supervisor *s, int code, const char *fmt, ...) NB_PRINTF(3, 4);
/** Ends it without asking the guest. */
void super_kill(struct supervisor *s);
void super_ready(struct supervisor *s);
bool super_all_dead(const struct supervisor *s);

/* supervisor_image.c */
/** Marks all of it as in use, until this process ends; the starting command's own marks end when the box is up. */
int image_mark(struct supervisor *s, struct nb_error *err);
/** Opens a file of the image for QEMU. The very descriptor is compared with what was checked (`seal`, see base/seal.h). */
int image_open(const struct supervisor *s, const char *path, const char *seal, struct nb_error *err);

/* supervisor_disk.c */
/** Makes the file system on a new scratch disk. */
int disk_prepare(struct supervisor *s, struct nb_error *err);
/** What makes it. Free with jail_plan_free(). */
struct jail_plan *disk_plan(const char *runtime, const char *path, int log_fd);

/* supervisor_setup.c */
int setup_build(struct supervisor *s, struct nb_buf *out, struct nb_error *err);

/* supervisor_control.c */
int control_begin(struct supervisor *s, struct nb_error *err);
void control_up(struct supervisor *s);
/** Changes of policy up to this one are in force. */
void control_policy(struct supervisor *s, unsigned change);
void control_phase(struct supervisor *s, const char *name, unsigned long ms);
/** Answers everybody who waits for the end, and closes. */
void control_over(struct supervisor *s);
void control_free(struct supervisor *s);

/* supervisor_guard.c */
/** A socket on which virtiofsd's jail sends the listener for its calls; -1 in *ret where nothing is protected. */
int guarding_begin(struct supervisor *s, int *ret_sock, struct nb_error *err);
/** Starts the guard, once virtiofsd runs. */
int guarding_start(struct supervisor *s, struct nb_error *err);
/** To be called before a mount is attached: the guard hears of it. */
int guarding_mount(struct supervisor *s, const char *id, const struct start_mount *m, struct nb_error *err);
void guarding_free(struct supervisor *s);
/** The patterns, as a list. */
json_t *guarding_words(const struct supervisor *s);

/* supervisor_requests.c */
json_t *super_mounts(const struct supervisor *s);

/* supervisor_guest.c */
int guest_begin(struct supervisor *s, struct nb_error *err);
void guest_free(struct supervisor *s);
void guest_send(struct supervisor *s, uint8_t type, uint32_t stream, const void *payload, size_t len);
/** Sends a request; `done` is called with the guest's answer, or with ECONNRESET when the box ends first. */
int guest_request(struct supervisor *s, uint8_t type, const void *payload, size_t len,
                  void (*done)(struct supervisor *, void *, int, const char *), void *user);
/** The frame for MOUNT, and the TLV of one mount inside SETUP. */
void guest_mount_tlv(struct nb_buf *out, const struct start_mount *m);

/* supervisor_watch.c */
int watch_begin(struct supervisor *s, struct nb_error *err);
int watch_child(struct supervisor *s, enum child_role role, struct nb_error *err);
void watch_send_time(struct supervisor *s);
/** Asks the guest to give something back (WIRE_RECLAIM_*). */
void watch_reclaim(struct supervisor *s, uint64_t flags);
void watch_free(struct supervisor *s);

/* supervisor_memory.c */
/** Called often; asks the guest for its figures when it is time to. */
void memory_tick(struct supervisor *s);
/** The guest's figures. -EPROTO if they are none. */
int memory_stats(struct supervisor *s, const struct wire_frame *f);

/* supervisor_room.c */
/** Makes the box's cgroup, where there can be one. */
int room_cgroup(struct supervisor *s, struct nb_error *err);
/** Refuses a mount (attached already) whose file system has too little room. */
int room_begin(struct supervisor *s, struct start_mount *m, struct nb_error *err);
/** Called often, while the box runs. */
void room_tick(struct supervisor *s);
/** Lets a machine that stands still go on, because it is to end. */
void room_end(struct supervisor *s);

/* supervisor_log.c */
int log_file_open(struct log_file *f, const char *dir, const char *name, uint64_t limit, struct nb_error *err);
void log_file_write(struct log_file *f, const void *bytes, size_t len);
void log_file_close(struct log_file *f);
/** Makes a pipe; its write end is *ret_write. What is written there goes to `file`, or line by line to the box's log. */
int capture_begin(struct supervisor *s, size_t index, const char *name, struct log_file *file, int *ret_write,
                  struct nb_error *err);
void capture_free(struct capture *c);
