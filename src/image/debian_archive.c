/* Names, mirrors and complaints of Debian's tools (see debian_archive.h). */
#include "image/debian_archive.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

#define COMPLAINTS_MAX 3u
#define PACKAGE_NAME_MAX 128u
#define MIRROR "http://deb.debian.org/debian"
#define MIRROR_SECURITY "http://deb.debian.org/debian-security"

static const struct { const char *base, *suite; } releases[] = { { "debian-13", "trixie" }, { "debian-12", "bookworm" } };

const char *debian_suite(const char *base) {
        for (size_t i = 0; base && i < NB_ARRAY_LEN(releases); i++)
                if (strcmp(base, releases[i].base) == 0)
                        return releases[i].suite;
        return NULL;
}

bool debian_valid_package(const char *name) {
        size_t len = strlen(name);
        if (len < 2 || len > PACKAGE_NAME_MAX || !isalnum((unsigned char)name[0]))
                return false;
        for (const char *p = name; *p; p++)
                if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && !strchr("+-.", *p))
                        return false;
        return true;
}

static bool valid_url(const char *url) {
        if (!nb_starts_with(url, "http://") && !nb_starts_with(url, "https://") && !nb_starts_with(url, "file:/"))
                return false;
        for (const char *p = url; *p; p++)
                if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f || strchr("[]\"'\\", *p))
                        return false;
        return true;
}

int debian_mirrors(const char *setting, char **ret_main, char **ret_security, struct nb_error *err) {
        NB_AUTO_FREE char *copy = nb_strdup(setting ? setting : "");
        const char *url[3] = { 0 };
        size_t n = 0;
        char *save = NULL;
        for (char *t = strtok_r(copy, " \t", &save); t && n < NB_ARRAY_LEN(url); t = strtok_r(NULL, " \t", &save))
                url[n++] = t;
        if (n == NB_ARRAY_LEN(url) || (n > 0 && !valid_url(url[0])) || (n > 1 && !valid_url(url[1]))) {
                nb_fail(err, EINVAL, "NIXBOX_MIRROR is not a mirror's address: %s", setting);
                return nb_hint(err, "set it to a URL such as %s, and after a space that of the security archive", MIRROR);
        }
        *ret_main = nb_strdup(n > 0 ? url[0] : MIRROR);
        *ret_security = nb_strdup(n > 1 ? url[1] : MIRROR_SECURITY);
        return 0;
}

int debian_sources(const char *setting, const char *suite, char ***ret, struct nb_error *err) {
        NB_AUTO_FREE char *main = NULL, *security = NULL;
        int r = debian_mirrors(setting, &main, &security, err);
        if (r < 0)
                return r;
        nb_strv_addf(ret, "deb %s %s main", main, suite);
        nb_strv_addf(ret, "deb %s %s-updates main", main, suite);
        nb_strv_addf(ret, "deb %s %s-security main", security, suite);
        return 0;
}

char *debian_complaint(const char *output) {
        /* These only repeat that a step failed. */
        static const char *const echoes[] = { "E: mmdebstrap failed", "E: setup failed", "E: apt-get ", "E: Some index files" };
        NB_AUTO_FREE char *copy = nb_strdup(output), *text = NULL;
        char *save = NULL;
        unsigned n = 0;
        for (char *line = strtok_r(copy, "\n", &save); line && n < COMPLAINTS_MAX; line = strtok_r(NULL, "\n", &save)) {
                bool echo = !nb_starts_with(line, "E: ");
                for (size_t i = 0; !echo && i < NB_ARRAY_LEN(echoes); i++)
                        echo = nb_starts_with(line, echoes[i]);
                if (echo || (text && strstr(text, line + 3)))
                        continue;
                char *longer = text ? nb_asprintf("%s; %s", text, line + 3) : nb_strdup(line + 3);
                free(text);
                text = longer;
                n++;
        }
        return nb_steal(&text);
}

static bool mentions(const char *text, const char *const *phrases) {
        for (; *phrases; phrases++)
                if (strstr(text, *phrases))
                        return true;
        return false;
}

int debian_explain(const struct store *s, const char *tool, struct nb_error *err) {
        static const char *const network[] = { "Could not connect",
                                               "Could not resolve",
                                               "Temporary failure resolving",
                                               "Connection failed",
                                               "Connection timed out",
                                               "Unable to connect",
                                               "Failed to fetch",
                                               "Unable to fetch",
                                               "404  Not Found",
                                               NULL };
        static const char *const names[] = { "Unable to locate package", "has no installation candidate", NULL };
        static const char *const full[] = { "No space left on device", "Disk quota exceeded", NULL };
        if (!err || !err->what)
                return -EIO;
        const char *first = strstr(err->what, ": E: "); /* proc_run() puts words of its own before the first line */
        NB_AUTO_FREE char *output = nb_strdup(first ? first + strlen(": ") : err->what), *complaint = debian_complaint(output);
        int code = mentions(output, full) ? ENOSPC : mentions(output, network) ? ENETUNREACH : err->code;
        if (code == ENOSPC)
                nb_fail_errno(err, code, "%s failed", tool);
        else if (complaint)
                nb_fail(err, code, "%s failed: %s", tool, complaint);
        if (code == ENOSPC)
                return store_hint(s, err);
        if (mentions(output, names))
                return nb_hint(err, "check the names under image.packages: each must be a package of this Debian release");
        if (code == ENETUNREACH)
                return nb_hint(err, "check the network connection, or name another mirror: NIXBOX_MIRROR=%s", MIRROR);
        return -err->code;
}
