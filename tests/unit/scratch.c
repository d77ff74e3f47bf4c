/* Set-up that tests of the config share: a home folder that nothing else uses, and a way to be rid of it. */
#include "scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"

int scratch_enter(char dir[static SCRATCH_PATH], const char *project) {
        static const char *const folders[] = { "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR" };
        (void)snprintf(dir, SCRATCH_PATH, "/tmp/nixbox-test-XXXXXX");
        if (!mkdtemp(dir) || chdir(dir) < 0 || (project && (mkdir(project, 0755) < 0 || chdir(project) < 0)))
                return -1;
        NB_AUTO_FREE char *own = nb_asprintf("%s/own", dir);
        for (size_t i = 0; i < NB_ARRAY_LEN(folders); i++)
                if (setenv(folders[i], own, 1) < 0)
                        return -1;
        return setenv("HOME", dir, 1);
}

int scratch_leave(const char *dir) {
        return chdir("/") < 0 ? -1 : nb_remove_tree(-1, dir);
}

char scratch_dir[SCRATCH_PATH];

int scratch_set_up(void **state) {
        (void)state;
        return scratch_enter(scratch_dir, NULL);
}

int scratch_tear_down(void **state) {
        (void)state;
        return scratch_leave(scratch_dir);
}
