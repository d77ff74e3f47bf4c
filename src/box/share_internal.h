/* What the files of the share tree share among themselves. */
#pragma once
#include "box/share.h"

struct share {
        char *dir;    /* where the view is attached */
        int view_fd;  /* the attached, read-only, shared view */
        int write_fd; /* a detached, writable mount of the same tmpfs: places for mounts are made here */
        unsigned next;
        bool attached;
};
