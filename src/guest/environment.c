/* Environments (see environment.h). */
#include "environment.h"

#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"

#define LOCALE_FILE_MAX 65536u
#define LOGIN_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* LANG as the image or its user has set it: the file that Debian's tools write, then the one of other systems. Only a value
 * that can be a locale's name counts; the files are anybody's in the box. New string. */
static char *language(void) {
        static const char *const files[] = { "/etc/default/locale", "/etc/locale.conf" };
        static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.@-";
        for (size_t i = 0; i < NB_ARRAY_LEN(files); i++) {
                NB_AUTO_FREE char *text = NULL;
                if (nb_read_regular(files[i], LOCALE_FILE_MAX, &text, NULL) < 0)
                        continue;
                char *value = environment_value(text, "LANG");
                if (value && *value && value[strspn(value, allowed)] == 0)
                        return value;
                free(value);
        }
        return nb_strdup("C.UTF-8");
}

char *environment_value(const char *text, const char *name) {
        size_t len = strlen(name);
        char *found = NULL;
        for (const char *line = text; *line; line += *line == '\n') {
                size_t n = strcspn(line, "\n");
                if (n > len && strncmp(line, name, len) == 0 && line[len] == '=') {
                        const char *value = line + len + 1;
                        size_t size = n - len - 1;
                        bool quoted = size >= 2 && (*value == '"' || *value == '\'') && value[size - 1] == *value;
                        free(found);
                        found = nb_strndup(value + quoted, size - 2 * (size_t)quoted);
                }
                line += n;
        }
        return found;
}

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
        NB_AUTO_FREE char *lang = language();
        nb_strv_addf(own, "LANG=%s", lang);
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
