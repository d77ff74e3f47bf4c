/* Environments (see environment.h). */
#include "environment.h"

#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define LOGIN_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static void set(struct environment *env, char *var) {
        size_t name = strcspn(var, "=") + 1;
        for (size_t i = 0; i < env->n; i++)
                if (strncmp(env->var[i], var, name) == 0) {
                        env->var[i] = var;
                        return;
                }
        env->var[env->n++] = var;
}

static void set_all(struct environment *env, char *const *vars) {
        for (; vars && *vars; vars++)
                set(env, *vars);
}

void environment_for(struct environment *env, const struct setup *setup, const struct account *who,
                     const struct open_request *o) {
        char ***own = &env->own;
        nb_strv_addf(own, "HOME=%s", who->home);
        nb_strv_addf(own, "USER=%s", who->name);
        nb_strv_addf(own, "LOGNAME=%s", who->name);
        nb_strv_addf(own, "SHELL=%s", who->shell);
        nb_strv_add(own, LOGIN_PATH);
        nb_strv_add(own, "LANG=C.UTF-8");
        if (o->pty)
                nb_strv_addf(own, "TERM=%s", o->term && o->term[0] ? o->term : "linux");
        if (setup->timezone) {
                NB_AUTO_FREE char *zone = nb_asprintf("/usr/share/zoneinfo/%s", setup->timezone);
                if (access(zone, R_OK) == 0) /* without its rules a name would only mislabel UTC */
                        nb_strv_addf(own, "TZ=%s", setup->timezone);
        }
        size_t room = nb_strv_len(*own) + nb_strv_len(setup->env) + setup->secrets.n + nb_strv_len(o->env) + 1;
        env->var = nb_calloc(room, sizeof *env->var);
        set_all(env, *own);
        set_all(env, setup->env);
        if (who->uid == setup->uid || who->uid == 0)
                for (size_t i = 0; i < setup->secrets.n; i++)
                        set(env, setup->secrets.vars[i]);
        set_all(env, o->env);
}

void environment_clear(struct environment *env) {
        free(env->var);
        nb_strv_free(env->own);
        *env = (struct environment){ 0 };
}
