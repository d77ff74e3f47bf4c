/* What an image says about commands (see meta.h). */
#include "image/meta.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/paths.h"
#include "base/text.h"

#define WORKDIR_MAX 4095u

void image_meta_clear(struct image_meta *m) {
        nb_strv_free(m->env);
        free(m->workdir);
        free(m->user);
        *m = (struct image_meta){ 0 };
}

int image_meta_add_env(struct image_meta *m, const char *variable) {
        static const char *const own[] = { "HOME=", "USER=", "LOGNAME=", "SHELL=", "TERM=", "PWD=", "OLDPWD=", "HOSTNAME=" };
        if (variable[0] == '=' || !strchr(variable, '='))
                return 0;
        for (size_t i = 0; i < NB_ARRAY_LEN(own); i++)
                if (nb_starts_with(variable, own[i]))
                        return 0;
        size_t n = 0, bytes = strlen(variable);
        for (; m->env && m->env[n]; n++)
                bytes += strlen(m->env[n]);
        if (n >= META_ENV_MAX || bytes > META_ENV_BYTES_MAX)
                return -E2BIG;
        nb_strv_add(&m->env, variable);
        return 0;
}

void image_meta_set_workdir(struct image_meta *m, const char *path) {
        if (path[0] != '/' || strlen(path) > WORKDIR_MAX)
                return;
        free(m->workdir);
        m->workdir = nb_path_normalize(path);
}

json_t *image_meta_json(const struct image_meta *m) {
        if (!m->env && !m->workdir && !m->user)
                return NULL;
        json_t *env = json_array();
        for (char *const *e = m->env; e && *e; e++)
                (void)json_array_append_new(env, json_string(*e));
        return json_pack("{s:o, s:s*, s:s*}", "env", env, "workdir", m->workdir, "user", m->user);
}

void image_meta_from_json(const json_t *json, struct image_meta *ret) {
        const char *workdir = json_string_value(json_object_get(json, "workdir"));
        const char *user = json_string_value(json_object_get(json, "user"));
        const json_t *env = json_object_get(json, "env");
        for (size_t i = 0; i < json_array_size(env); i++) {
                const char *variable = json_string_value(json_array_get(env, i));
                if (variable)
                        (void)image_meta_add_env(ret, variable);
        }
        if (workdir)
                image_meta_set_workdir(ret, workdir);
        free(ret->user);
        ret->user = nb_strdup(user);
}
