/* Inside of the session server: what a session and its streams are. Only session.c and stream.c include this. */
#pragma once
#include "guest/session.h"

struct session;

/* A byte stream between the host and the command. An epoll entry points at one. */
struct stream {
        struct session *session;
        int fd; /* -1: over */
        uint8_t channel;
        uint32_t credit;       /* output: what the host still takes. input: what we owe it */
        uint32_t left;         /* output: bytes still to pass on once the command has ended */
        bool ready;            /* output: a read may give something */
        bool queued;           /* output: in the list of those to be served */
        struct stream *next;   /* in that list */
        struct nb_buf pending; /* input: not taken by the command yet */
        bool ended;            /* input: the host has sent its EOF */
        uint8_t last;          /* input: last byte of the host's, for the terminal's end of file */
};

struct session {
        uint32_t id;
        pid_t pid;
        bool pty, exited;
        bool closed; /* the host's caller is gone: nothing but EXIT is sent */
        bool over;   /* EXIT is on its way */
        uint32_t status, signal;
        struct stream in, out, err;
        struct session *next; /* in its bucket, or among those to be freed */
};

#define BUCKETS 256u

struct sessions {
        struct session_host host;
        struct session *bucket[BUCKETS];
        struct session *dead;
        struct stream *first, *last; /* output streams to be served, in turn */
        unsigned n;
        uint8_t *chunk; /* one frame under construction */
};

/** Starts watching a descriptor that the stream takes over. */
void stream_watch(struct sessions *all, struct stream *s, int fd, uint32_t events);
void stream_close(struct sessions *all, struct stream *s);
/** Puts an output stream in line if it could be served. */
void stream_queue(struct sessions *all, struct stream *s);
void stream_unqueue(struct sessions *all, struct stream *s);
/** Serves one output stream once. True if it may have more. */
bool stream_pass_on(struct sessions *all, struct stream *s);
/** The command has ended: what it wrote is still passed on, then the output stream is over. */
void stream_drain(struct sessions *all, struct stream *s);
/** Input: more bytes from the host, its end, and what the command did not take at once. */
int stream_take(struct sessions *all, struct stream *s, const uint8_t *bytes, size_t len);
void stream_end(struct sessions *all, struct stream *s);
void stream_flush(struct sessions *all, struct stream *s);
/** session.c: called when an output stream is over. */
void session_check(struct sessions *all, struct session *s);
