/* The rules of the box's network as text, and, where namespaces and the TAP device can be had, that the kernel takes them. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "box/netns.h"
#include "jail/userns.h"

static struct policy_rule range(bool deny, const char *base, unsigned bits, size_t n_ports) {
        struct policy_rule r = { .deny = deny, .range = { .base.family = AF_INET, .bits = (uint8_t)bits }, .n_ports = n_ports };
        unsigned b[4];
        assert_int_equal(sscanf(base, "%u.%u.%u.%u", &b[0], &b[1], &b[2], &b[3]), 4);
        for (size_t i = 0; i < 4; i++)
                r.range.base.bytes[i] = (uint8_t)b[i];
        for (size_t i = 0; i < n_ports; i++)
                r.ports[i] = (uint16_t)(443 + i);
        return r;
}

/* An allowed range, a denied part of it, a denied port, and rules that the kernel has no part in. */
static struct policy_rule some[] = {
        { .host = (char *)"github.com", .ports = { 443 }, .n_ports = 1 },
        { .range = { .base.family = AF_INET6, .bits = 16 }, .ports = { 80 }, .n_ports = 1 },
        { 0 },
        { 0 },
        { 0 },
        { 0 },
};

static struct policy policy_of(enum policy_mode mode) {
        some[2] = range(false, "10.1.2.0", 24, 2);
        some[3] = range(true, "10.1.2.128", 25, 0);
        some[4] = range(true, "0.0.0.0", 0, 1);
        some[5] = range(false, "8.0.0.0", 5, 1);
        return (struct policy){ .mode = mode, .rules = some, .n_rules = NB_ARRAY_LEN(some) };
}

static void rules_of_filtered(void **state) {
        (void)state;
        struct policy p = policy_of(POLICY_FILTERED);
        NB_AUTO_FREE char *text = netns_nft(&p);
        const char *deny = strstr(text, "ip daddr 10.1.2.128/25 goto refused\n");
        const char *port = strstr(text, "ip daddr 0.0.0.0/0 meta l4proto { tcp, udp } th dport { 443 } goto refused\n");
        const char *allow = strstr(text, "ip daddr 10.1.2.0/24 tcp dport { 443, 444 } accept\n");
        assert_non_null(deny);
        assert_non_null(port);
        assert_non_null(allow);
        assert_true(deny < allow && port < allow);
        assert_null(strstr(text, "github"));
        assert_null(strstr(text, "tproxy"));
        assert_non_null(strstr(text, "ip daddr 8.0.0.0/5 ip daddr != @never tcp dport { 443 } accept\n"));
        assert_non_null(strstr(text, "ip daddr 198.18.0.0/16 accept"));
}

static void rules_of_open(void **state) {
        (void)state;
        struct policy p = policy_of(POLICY_OPEN);
        NB_AUTO_FREE char *text = netns_nft(&p);
        const char *allow = strstr(text, "ip daddr 10.1.2.0/24 tcp dport { 443, 444 } accept\n");
        const char *never = strstr(text, "ip daddr @never goto refused\n");
        assert_non_null(allow);
        assert_non_null(never);
        assert_true(allow < never && never < strstr(text, "tproxy"));
        assert_non_null(strstr(text, "169.254.0.0/16"));
}

static void links_of_each_mode(void **state) {
        (void)state;
        NB_AUTO_FREE char *filtered = netns_ip(POLICY_FILTERED);
        NB_AUTO_FREE char *open = netns_ip(POLICY_OPEN);
        assert_non_null(strstr(filtered, "address add 198.19.255.253/30 dev net0\n"));
        assert_non_null(strstr(filtered, "neighbour replace 198.19.255.254 lladdr 02:6e:62:00:00:02 dev net0 nud permanent\n"));
        assert_null(strstr(filtered, "fwmark"));
        assert_non_null(strstr(open, "rule add fwmark 1 lookup 100\n"));
}

/* In a child, since it cannot come back. 0: worked; 77: this host has not what it takes. */
static int try_mode(enum policy_mode mode) {
        NB_AUTO_ERROR err = { 0 };
        struct policy p = policy_of(mode);
        struct netns n = NETNS_NONE;
        if (userns_enter(CLONE_NEWNS, &err) < 0 || access("/dev/net/tun", R_OK | W_OK) < 0)
                return 77;
        if (netns_make(&p, &n, &err) < 0 || n.ns < 0 || n.tap < 0 || n.tcp < 0 || n.dns_udp < 0 || n.dns_tcp < 0 ||
            n.nflog < 0 || (n.udp >= 0) != (mode == POLICY_OPEN) || (n.raw >= 0) != (mode == POLICY_OPEN)) {
                nb_error_print(&err, stderr);
                return 1;
        }
        p.n_rules = 1;
        if (netns_apply(&n, &p, &err) < 0) {
                nb_error_print(&err, stderr);
                return 2;
        }
        netns_close(&n);
        return n.ns == -1 && n.raw == -1 ? 0 : 3;
}

static void kernel_takes_them(void **state) {
        (void)state;
        for (enum policy_mode mode = POLICY_FILTERED; mode <= POLICY_OPEN; mode++) {
                pid_t pid = fork();
                if (pid == 0)
                        _exit(try_mode(mode));
                int status = 0;
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_true(WIFEXITED(status));
                if (WEXITSTATUS(status) == 77)
                        skip();
                assert_int_equal(WEXITSTATUS(status), 0);
        }
}

/* Without the device: the message names it, and nothing is left. */
static void missing_device_is_named(void **state) {
        (void)state;
        pid_t pid = fork();
        if (pid == 0) {
                NB_AUTO_ERROR err = { 0 };
                struct policy p = { .mode = POLICY_FILTERED };
                struct netns n;
                if (userns_enter(CLONE_NEWNS, &err) < 0)
                        _exit(77);
                /* an empty folder in its place, for this process alone */
                (void)mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
                if (access("/dev/net", F_OK) == 0 && mount("none", "/dev/net", "tmpfs", 0, NULL) < 0)
                        _exit(2);
                bool named = netns_make(&p, &n, &err) < 0 && strstr(err.what, "/dev/net/tun") && err.hint;
                _exit(named && n.ns == -1 ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
                skip();
        assert_int_equal(status, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(rules_of_filtered),       cmocka_unit_test(rules_of_open),
                cmocka_unit_test(links_of_each_mode),      cmocka_unit_test(kernel_takes_them),
                cmocka_unit_test(missing_device_is_named),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
