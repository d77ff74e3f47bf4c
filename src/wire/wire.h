/* The protocol between host and guest agent: frame header, frame types, and typed fields (TLV) inside frames.
 * Both sides link this and src/base, and nothing else in common. Pure code: no descriptor, no clock, no allocation
 * beyond the builder's buffer. docs/protocol.md is the specification; it and this file change together. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define WIRE_VERSION 1u
#define WIRE_HEADER 12u               /* u32 payload length, u8 type, u8 channel, u16 zero, u32 stream; little endian */
#define WIRE_DATA_MAX (32u * 1024u)   /* payload of one DATA frame */
#define WIRE_GUEST_MAX (64u * 1024u)  /* any frame that the guest sends */
#define WIRE_HOST_MAX (1024u * 1024u) /* any frame that the host sends (SETUP and OPEN may be large) */
#define WIRE_WINDOW (256u * 1024u)    /* first credit of each byte stream, granted by its receiver */
#define WIRE_STREAMS_MAX 4096u        /* sessions open at once */
#define WIRE_STATUS_MAX 255u          /* exit status in EXIT */
#define WIRE_SIGNAL_MAX 64u           /* signal number in EXIT and SIGNAL */

/* Frames. Stream 0 is the box itself; a session's stream id is chosen by the host, never 0, and not used again until the
 * guest has sent EXIT for it. Request ids of MOUNT, UNMOUNT, STATS and RECLAIM travel in the stream field. */
enum wire_type {
        /* host to guest */
        WIRE_SETUP = 1, /* once, first: TLV; everything the guest needs to become the box */
        WIRE_MOUNT,     /* TLV: bind share entry to a target; answered by REPLY */
        WIRE_UNMOUNT,   /* TLV: id, target; answered by REPLY (EBUSY: text lists the users) */
        WIRE_TIME,      /* u64 CLOCK_REALTIME in ns: step or slew */
        WIRE_STATS,     /* answered by STATS_REPLY */
        WIRE_RECLAIM,   /* u64 flags WIRE_RECLAIM_*; answered by REPLY */
        WIRE_SHUTDOWN,  /* end all sessions, sync, power off */
        WIRE_OPEN,      /* TLV: start a session on this stream */
        WIRE_SIGNAL,    /* u32 signal number, to the session's foreground process group */
        WIRE_RESIZE,    /* u16 rows, u16 columns */
        WIRE_CLOSE,     /* the caller is gone: SIGHUP, drop its streams; EXIT still follows */
        /* both ways; the channel says which byte stream of the session */
        WIRE_DATA = 32,
        WIRE_EOF,
        WIRE_CREDIT, /* u32 more bytes that may be sent on this channel */
        /* guest to host */
        WIRE_READY = 64,  /* TLV: SETUP is done, sessions may be opened; or ERROR: it failed, with TEXT */
        WIRE_REPLY,       /* TLV: ERRNO (0: done), TEXT */
        WIRE_STATS_REPLY, /* TLV of u64 figures */
        WIRE_STARTED,     /* session: the command runs */
        WIRE_EXIT,        /* session over: u32 exit status 0..255, u32 signal (0: none); all output has been sent */
        WIRE_BYE,         /* TLV: TEXT reason ("poweroff", "reboot"); the guest is going down */
};
enum wire_channel { WIRE_STDIN = 0, WIRE_STDOUT = 1, WIRE_STDERR = 2 }; /* a pty session uses 0 and 1 */
#define WIRE_RECLAIM_DENTRIES 1u /* forget unused dentries and inodes (each holds a host descriptor) */
#define WIRE_RECLAIM_PAGES 2u    /* give back the coldest page cache: as many MiB as the upper half of the flags says, 0: all */
#define WIRE_RECLAIM_COMPACT 4u  /* move free memory together, so that it comes in blocks the host can take back */
#define WIRE_RECLAIM_MIB_SHIFT 32

/* Field tags, one name space for all TLV frames. u16 tag, u32 length, bytes. Integers are little endian u32 or u64 as
 * noted; strings have no NUL, inside or at the end. Unknown tags are an error. */
enum wire_tag {
        WIRE_T_VERSION = 1, /* u32 */
        WIRE_T_HOSTNAME,
        WIRE_T_USER, /* SETUP: the caller's name. OPEN: name or number to run as; absent: the caller's */
        WIRE_T_UID,  /* u32 */
        WIRE_T_GID,  /* u32 */
        WIRE_T_HOME,
        WIRE_T_TIME,     /* u64 ns since the epoch, CLOCK_REALTIME */
        WIRE_T_TIMEZONE, /* TZ name such as Europe/Berlin */
        WIRE_T_SEED,     /* 64 random bytes, fresh for each boot */
        WIRE_T_ENV,      /* "NAME=value"; may repeat */
        WIRE_T_SECRET,   /* "NAME=value"; may repeat; environment of the caller's commands only, never written anywhere */
        WIRE_T_MOUNT,    /* nested TLV: ID, TARGET, FLAGS; may repeat, in the order to mount */
        WIRE_T_ID,       /* share entry: file or folder name in the root of the virtiofs device */
        WIRE_T_TARGET,   /* absolute path in the guest */
        WIRE_T_FLAGS,    /* u32 WIRE_MOUNT_* or WIRE_OPEN_* */
        WIRE_T_DISK,     /* u32 WIRE_DISK_*: a disk with a file system is attached as the third drive */
        WIRE_T_ARG,      /* argv element; may repeat */
        WIRE_T_CWD,      /* absent or missing in the guest: the home folder */
        WIRE_T_TERM,     /* value for TERM of a pty session */
        WIRE_T_ROWS,     /* u32 */
        WIRE_T_COLS,     /* u32 */
        WIRE_T_ERRNO,    /* u32 positive errno */
        WIRE_T_TEXT,     /* for people */
        WIRE_T_MEM_TOTAL,
        WIRE_T_MEM_FREE,
        WIRE_T_MEM_AVAILABLE,
        WIRE_T_MEM_CACHED,  /* u64 bytes */
        WIRE_T_PHASE,       /* "name=microseconds" of the guest's start; may repeat */
        WIRE_T_NET,         /* nested TLV: the guest's one network device; absent: it has none */
        WIRE_T_NET_ADDRESS, /* u32 IPv4 address, the first byte in the highest bits */
        WIRE_T_NET_BITS,    /* u32 length of the link's prefix */
        WIRE_T_NET_ROUTER,  /* u32 default route and name server */
        WIRE_T_NET_MTU,     /* u32 */
        WIRE_T_LAST = WIRE_T_NET_MTU,
};
#define WIRE_MOUNT_FILE 1u   /* the entry is a single file, not a folder */
#define WIRE_MOUNT_WRITE 2u  /* informs the guest only; the host enforces it */
#define WIRE_DISK_SCRATCH 1u /* what is on it need not survive a crash */
#define WIRE_DISK_KEEP 2u    /* it outlives the box */
#define WIRE_OPEN_PTY 1u
#define WIRE_OPEN_SHELL 2u /* the single ARG is given to the user's login shell with -c; no ARG: interactive login shell */

struct wire_frame {
        uint8_t type;
        uint8_t channel;
        uint32_t stream;
        uint32_t len;
        const uint8_t *payload; /* into the caller's buffer, valid until it changes */
};

/** Takes the next whole frame off the front of `in` without consuming it. Returns the number of bytes the frame occupies
 *  (consume them when done), 0 if more bytes are needed, -EPROTO if the header is not valid (length above `max_payload`, or
 *  above WIRE_DATA_MAX for DATA; reserved field not zero; unknown type; a channel the type does not have). */
int wire_parse(const struct nb_buf *in, uint32_t max_payload, struct wire_frame *ret);
/** Appends a whole frame. */
void wire_put(struct nb_buf *out, uint8_t type, uint8_t channel, uint32_t stream, const void *payload, size_t len);
void wire_put_u32(struct nb_buf *out, uint8_t type, uint8_t channel, uint32_t stream, uint32_t value);
void wire_put_u64(struct nb_buf *out, uint8_t type, uint32_t stream, uint64_t value);
void wire_put_resize(struct nb_buf *out, uint32_t stream, uint16_t rows, uint16_t cols);
void wire_put_exit(struct nb_buf *out, uint32_t stream, uint32_t status, uint32_t signal);
/** Payload of fixed integers. -EPROTO if the length is not exactly the size, or an exit status or signal out of range. */
int wire_get_u32(const struct wire_frame *f, uint32_t *ret);
int wire_get_u64(const struct wire_frame *f, uint64_t *ret);
int wire_get_resize(const struct wire_frame *f, uint16_t *ret_rows, uint16_t *ret_cols);
int wire_get_exit(const struct wire_frame *f, uint32_t *ret_status, uint32_t *ret_signal);

/* Builder for TLV payloads. */
void wire_tlv_bytes(struct nb_buf *payload, uint16_t tag, const void *bytes, size_t len);
void wire_tlv_str(struct nb_buf *payload, uint16_t tag, const char *text);
void wire_tlv_u32(struct nb_buf *payload, uint16_t tag, uint32_t value);
void wire_tlv_u64(struct nb_buf *payload, uint16_t tag, uint64_t value);

/* Reader for TLV payloads. */
struct wire_field {
        uint16_t tag;
        uint32_t len;
        const uint8_t *bytes;
};
struct wire_reader {
        const uint8_t *at;
        size_t left;
};
void wire_reader_init(struct wire_reader *r, const void *payload, size_t len);
/** 1: a field was read; 0: end; -EPROTO: malformed, or a tag that does not exist. */
int wire_next(struct wire_reader *r, struct wire_field *ret);
/** The field's value. -EPROTO if its length does not fit the type; for strings also if it holds a NUL byte. */
int wire_field_u32(const struct wire_field *f, uint32_t *ret);
int wire_field_u64(const struct wire_field *f, uint64_t *ret);
int wire_field_str(const struct wire_field *f, char **ret); /* new string, the caller's */

/* The nested fields of WIRE_T_NET. */
struct wire_net {
        uint32_t address, bits, router, mtu; /* addresses: the first byte in the highest bits */
};
void wire_tlv_net(struct nb_buf *payload, const struct wire_net *net);
/** -EPROTO unless each of the four fields is there once and nothing else. */
int wire_field_net(const struct wire_field *f, struct wire_net *ret);
