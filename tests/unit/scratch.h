/* A folder of a test's own, which is also the caller's home and holds nixbox's own folders (in own/). */
#pragma once

#define SCRATCH_PATH 64

/** Makes the folder and enters it, or the new folder `project` in it if that is not NULL. Returns 0, or -1. */
int scratch_enter(char dir[static SCRATCH_PATH], const char *project);
/** Leaves it and removes it. Returns 0, or less. */
int scratch_leave(const char *dir);

/* The same for cmocka's set-up and tear-down of a test, with one folder and no project in it. */
extern char scratch_dir[SCRATCH_PATH];
int scratch_set_up(void **state);
int scratch_tear_down(void **state);
