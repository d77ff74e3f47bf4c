/* Fuzz target: what the guest agent reads. The first byte chooses the parser; the rest is its input. The host is trusted,
 * the image's files and /proc are not. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "guest/accounts.h"
#include "guest/procfs.h"
#include "guest/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_requests(const uint8_t *data, size_t size) {
        struct setup *s = NULL;
        struct open_request o = { 0 };
        struct mount_request m = { 0 };
        NB_AUTO_ERROR err = { 0 };
        if (setup_parse(data, size, &s, &err) == 0 && (!s->hostname || !s->user || s->home[0] != '/'))
                abort();
        setup_free(s);
        (void)open_request_parse(data, size, &o, &err);
        open_request_clear(&o);
        (void)mount_request_parse(data, size, &m, &err);
        mount_request_clear(&m);
}

static void fuzz_accounts(const char *text) {
        struct account a = { 0 }, found = { 0 };
        a.name = (char *)"ada", a.home = (char *)"/home/ada", a.shell = (char *)"/bin/sh", a.uid = 1000, a.gid = 1000;
        NB_AUTO_FREE char *passwd = passwd_with(text, &a);
        /* whatever the image has, the caller is in it afterwards, with this number */
        if (!account_find(passwd, "ada", &found) || found.uid != 1000 || found.gid != 1000)
                abort();
        account_find_groups(text, &found);
        account_clear(&found);
        if (account_find(passwd, "1000", &found) && found.uid != 1000 && strcmp(found.name, "1000") != 0)
                abort();
        account_clear(&found);
        NB_AUTO_FREE char *group = group_with(text, "ada", 1000), *shadow = shadow_with(text, "ada"),
                          *hosts = hosts_with(text, "box");
        NB_AUTO_FREE char *hosts_again = hosts_with(hosts, "box");
        NB_AUTO_FREE char *shadow_again = shadow_with(shadow, "ada");
        if (!group || strcmp(hosts, hosts_again) != 0 || strcmp(shadow, shadow_again) != 0)
                abort();
}

static void fuzz_proc(const char *text) {
        struct mountinfo m;
        for (const char *p = text; mountinfo_next(&p, &m); mountinfo_clear(&m))
                if (!m.dev || !m.root || !m.target)
                        abort();
        (void)meminfo_value(text, "MemTotal");
        (void)stat_value(text, "file");
        (void)interrupts_sum(text, "LOC");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size == 0)
                return 0;
        NB_AUTO_FREE char *text = nb_strndup((const char *)data + 1, size - 1);
        switch (data[0] % 3) {
        case 0: fuzz_requests(data + 1, size - 1); break;
        case 1: fuzz_accounts(text); break;
        default: fuzz_proc(text);
        }
        return 0;
}
