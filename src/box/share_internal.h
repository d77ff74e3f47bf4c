/* What the files of the share tree share among themselves. */
#pragma once
#include "box/share.h"

struct share_stale {
        unsigned number; /* of the entry: "m3" is 3 */
        int mount_id;
};

struct share {
        char *dir;    /* where the view is attached */
        int view_fd;  /* the attached, read-only, shared view */
        int write_fd; /* a detached, writable mount of the same tmpfs: places for mounts are made here */
        unsigned next;
        bool attached;
        pid_t daemon;              /* virtiofsd, 0 while there is none */
        struct share_stale *stale; /* mounts that are attached no more, but that virtiofsd had handles in; share_detach.c */
        size_t n_stale;
};

/** Removes the file or folder on which a mount was attached. */
void share_remove_place(struct share *s, const char *id);
/** Mount ids of a mountinfo whose mount point is `place` (as it is written there) or lies below it. New array. Pure. */
size_t share_parse_mounts(const char *mountinfo, const char *place, int **ret_ids);
