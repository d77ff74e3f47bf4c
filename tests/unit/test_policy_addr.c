/* Unit tests of addresses: spellings, ranges, and every block of the special-purpose registries at both of its edges. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "policy/addr.h"

static struct addr parsed(const char *text) {
        struct addr a;
        if (addr_parse(text, &a) < 0)
                fail_msg("%s is not an address", text);
        return a;
}

static struct addr_range range(const char *text) {
        struct addr_range r;
        if (addr_range_parse(text, &r) < 0)
                fail_msg("%s is not a range", text);
        return r;
}

static void test_kinds(void **state) {
        (void)state;
        static const struct {
                const char *text;
                enum addr_kind kind;
        } cases[] = {
                { "0.0.0.0", ADDR_UNSPECIFIED },
                { "0.255.255.255", ADDR_UNSPECIFIED },
                { "1.0.0.0", ADDR_PUBLIC },
                { "9.255.255.255", ADDR_PUBLIC },
                { "10.0.0.0", ADDR_PRIVATE },
                { "10.255.255.255", ADDR_PRIVATE },
                { "11.0.0.0", ADDR_PUBLIC },
                { "100.63.255.255", ADDR_PUBLIC },
                { "100.64.0.0", ADDR_SHARED },
                { "100.100.100.199", ADDR_SHARED },
                { "100.100.100.200", ADDR_METADATA },
                { "100.127.255.255", ADDR_SHARED },
                { "100.128.0.0", ADDR_PUBLIC },
                { "126.255.255.255", ADDR_PUBLIC },
                { "127.0.0.0", ADDR_LOOPBACK },
                { "127.0.0.1", ADDR_LOOPBACK },
                { "127.255.255.255", ADDR_LOOPBACK },
                { "128.0.0.0", ADDR_PUBLIC },
                { "168.63.129.15", ADDR_PUBLIC },
                { "168.63.129.16", ADDR_METADATA },
                { "168.63.129.17", ADDR_PUBLIC },
                { "169.253.255.255", ADDR_PUBLIC },
                { "169.254.0.0", ADDR_LINK_LOCAL },
                { "169.254.0.23", ADDR_METADATA },
                { "169.254.42.42", ADDR_METADATA },
                { "169.254.168.255", ADDR_LINK_LOCAL },
                { "169.254.169.254", ADDR_METADATA },
                { "169.254.170.2", ADDR_METADATA },
                { "169.254.171.0", ADDR_LINK_LOCAL },
                { "169.254.255.255", ADDR_LINK_LOCAL },
                { "169.255.0.0", ADDR_PUBLIC },
                { "172.15.255.255", ADDR_PUBLIC },
                { "172.16.0.0", ADDR_PRIVATE },
                { "172.31.255.255", ADDR_PRIVATE },
                { "172.32.0.0", ADDR_PUBLIC },
                { "191.255.255.255", ADDR_PUBLIC },
                { "192.0.0.0", ADDR_RESERVED },
                { "192.0.0.9", ADDR_RESERVED },
                { "192.0.0.192", ADDR_METADATA },
                { "192.0.0.255", ADDR_RESERVED },
                { "192.0.1.0", ADDR_PUBLIC },
                { "192.0.2.1", ADDR_RESERVED },
                { "192.0.3.0", ADDR_PUBLIC },
                { "192.31.196.1", ADDR_RESERVED },
                { "192.52.193.1", ADDR_RESERVED },
                { "192.88.99.1", ADDR_RESERVED },
                { "192.167.255.255", ADDR_PUBLIC },
                { "192.168.0.0", ADDR_PRIVATE },
                { "192.168.255.255", ADDR_PRIVATE },
                { "192.169.0.0", ADDR_PUBLIC },
                { "192.175.48.1", ADDR_RESERVED },
                { "198.17.255.255", ADDR_PUBLIC },
                { "198.18.0.0", ADDR_RESERVED },
                { "198.19.255.255", ADDR_RESERVED },
                { "198.20.0.0", ADDR_PUBLIC },
                { "198.51.100.1", ADDR_RESERVED },
                { "203.0.113.255", ADDR_RESERVED },
                { "203.0.114.0", ADDR_PUBLIC },
                { "223.255.255.255", ADDR_PUBLIC },
                { "224.0.0.0", ADDR_MULTICAST },
                { "239.255.255.255", ADDR_MULTICAST },
                { "240.0.0.0", ADDR_RESERVED },
                { "255.255.255.254", ADDR_RESERVED },
                { "255.255.255.255", ADDR_BROADCAST },
                { "8.8.8.8", ADDR_PUBLIC },

                { "::", ADDR_UNSPECIFIED },
                { "::1", ADDR_LOOPBACK },
                { "100::1", ADDR_RESERVED },
                { "100:0:0:1::1", ADDR_RESERVED },
                { "1fff:ffff::", ADDR_RESERVED },
                { "2001:1::1", ADDR_RESERVED },
                { "2001:2::1", ADDR_RESERVED },
                { "2001:10::1", ADDR_RESERVED },
                { "2001:20::1", ADDR_RESERVED },
                { "2001:1ff:ffff::", ADDR_RESERVED },
                { "2001:200::", ADDR_PUBLIC },
                { "2001:db7:ffff::", ADDR_PUBLIC },
                { "2001:db8::1", ADDR_RESERVED },
                { "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", ADDR_RESERVED },
                { "2001:db9::", ADDR_PUBLIC },
                { "2001:4860:4860::8888", ADDR_PUBLIC },
                { "2620:4f:8000::1", ADDR_RESERVED },
                { "2620:4f:8001::1", ADDR_PUBLIC },
                { "2a00:1450::1", ADDR_PUBLIC },
                { "3ffe::1", ADDR_RESERVED },
                { "3fff::1", ADDR_RESERVED },
                { "3fff:fff:ffff::", ADDR_RESERVED },
                { "3fff:1000::", ADDR_PUBLIC },
                { "4000::1", ADDR_RESERVED },
                { "5f00::1", ADDR_RESERVED },
                { "fbff::", ADDR_RESERVED },
                { "fc00::1", ADDR_PRIVATE },
                { "fdff:ffff::", ADDR_PRIVATE },
                { "fd00:ec2::254", ADDR_METADATA },
                { "fd00:ec2::23", ADDR_METADATA },
                { "fd20:ce::254", ADDR_METADATA },
                { "fd00:42::42", ADDR_METADATA },
                { "fe80::1", ADDR_LINK_LOCAL },
                { "febf::1", ADDR_LINK_LOCAL },
                { "fe80::a9fe:a9fe", ADDR_METADATA },
                { "fec0::1", ADDR_RESERVED },
                { "ff00::", ADDR_MULTICAST },
                { "ff02::1", ADDR_MULTICAST },
                { "ff0e::1", ADDR_MULTICAST },

                /* mapped */
                { "::ffff:8.8.8.8", ADDR_PUBLIC },
                { "::ffff:127.0.0.1", ADDR_LOOPBACK },
                { "::ffff:a9fe:a9fe", ADDR_METADATA },
                { "::ffff:10.0.0.1", ADDR_PRIVATE },
                { "::ffff:0.0.0.0", ADDR_UNSPECIFIED },
                { "::ffff:198.18.0.5", ADDR_RESERVED },
                /* compatible, and translated */
                { "::8.8.8.8", ADDR_RESERVED },
                { "::127.0.0.1", ADDR_LOOPBACK },
                { "::169.254.169.254", ADDR_METADATA },
                { "::ffff:0:10.0.0.1", ADDR_PRIVATE },
                { "::ffff:0:8.8.8.8", ADDR_RESERVED },
                /* NAT64 */
                { "64:ff9b::8.8.8.8", ADDR_PUBLIC },
                { "64:ff9b::169.254.169.254", ADDR_METADATA },
                { "64:ff9b::127.0.0.1", ADDR_LOOPBACK },
                { "64:ff9b::192.168.1.1", ADDR_PRIVATE },
                { "64:ff9b:0:1::8.8.8.8", ADDR_RESERVED },
                { "64:ff9b:1::8.8.8.8", ADDR_UNSPECIFIED }, /* 0.0.0.0 as a /48 */
                { "64:ff9b:1:808:8:800:0:0", ADDR_UNSPECIFIED },
                { "64:ff9b:1:808:8:808:808:808", ADDR_RESERVED },
                { "64:ff9b:1:a9fe:a9:fe00:808:808", ADDR_METADATA },
                { "64:ff9b:1::a9fe:a9fe", ADDR_METADATA },
                /* 6to4 */
                { "2002:808:808::1", ADDR_RESERVED },
                { "2002:7f00:1::1", ADDR_LOOPBACK },
                { "2002:a9fe:a9fe::", ADDR_METADATA },
                { "2002:a00:1::1", ADDR_PRIVATE },
                /* Teredo: the client's address is inverted, the server's is not */
                { "2001:0:808:808:0:0:f7f7:f7f7", ADDR_RESERVED },
                { "2001:0:808:808:0:0:80ff:fffe", ADDR_LOOPBACK },
                { "2001:0:7f00:1:0:0:f7f7:f7f7", ADDR_LOOPBACK },
                { "2001:0:808:808:0:0:5601:5601", ADDR_METADATA },
                /* ISATAP */
                { "2a00:1450::5efe:808:808", ADDR_RESERVED },
                { "2a00:1450::5efe:7f00:1", ADDR_LOOPBACK },
                { "2a00:1450::200:5efe:a9fe:a9fe", ADDR_METADATA },
                { "fd00::5efe:a9fe:a9fe", ADDR_METADATA },
                { "fe80::5efe:a00:1", ADDR_LINK_LOCAL },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                struct addr a = parsed(cases[i].text);
                if (addr_kind(&a) != cases[i].kind)
                        fail_msg("%s is %s", cases[i].text, addr_kind_name(addr_kind(&a)));
                assert_non_null(addr_kind_name(cases[i].kind));
        }
        struct addr none = { 0 };
        assert_int_equal(addr_kind(&none), ADDR_RESERVED);
}

static void test_spellings(void **state) {
        (void)state;
        static const char *const bad[] = {
                "",           "127.1",      "2130706433", "0x7f000001",    "0x7f.0.0.1", "0177.0.0.1",
                "127.0.0.01", "127.0.0.1 ", " 127.0.0.1", "127.0.0.256",   "1.2.3",      "1.2.3.4.5",
                "1.2.3.4.",   "::1%lo",     "[::1]",      "::g",           "1:2:3",      ":::",
                "fe80::1%1",  "1.2.3.4/32", "localhost",  "::127.0.0.0x1",
        };
        struct addr a;
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++)
                if (addr_parse(bad[i], &a) != -EINVAL)
                        fail_msg("%s passed", bad[i]);
        char text[ADDR_TEXT];
        a = parsed("0:0:0:0:0:FFFF:127.0.0.1");
        addr_format(&a, text);
        assert_string_equal(text, "::ffff:127.0.0.1");
}

static void test_ranges(void **state) {
        (void)state;
        static const char *const bad[] = { "",
                                           "10.0.0.0",
                                           "10.0.0.0/",
                                           "10.0.0.0/33",
                                           "10.0.0.0/-1",
                                           "10.0.0.1/8",
                                           "10.0.0.0/8 ",
                                           "10.0.0.0/0x8",
                                           "10.0.0.0/+8",
                                           "fd00::/129",
                                           "fd00::1/8",
                                           "x/8",
                                           "/8",
                                           "10.0/8",
                                           "10.0.0.0/0008",
                                           "10.0.0.0/8/8",
                                           "128.0.0.0/0" };
        struct addr_range r;
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++)
                if (addr_range_parse(bad[i], &r) != -EINVAL)
                        fail_msg("%s passed", bad[i]);
        static const char *const good[][2] = {
                { "10.0.0.0/8", "10.0.0.0/8" },
                { "0.0.0.0/0", "0.0.0.0/0" },
                { "1.2.3.4/32", "1.2.3.4/32" },
                { "FD00:0::/8", "fd00::/8" },
                { "::/0", "::/0" },
                { "::ffff:10.0.0.0/104", "10.0.0.0/8" },
                { "::ffff:0:0/96", "0.0.0.0/0" },
                { "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128" },
                { "10.1.2.128/25", "10.1.2.128/25" },
        };
        char text[ADDR_TEXT];
        for (size_t i = 0; i < NB_ARRAY_LEN(good); i++) {
                r = range(good[i][0]);
                addr_range_format(&r, text);
                assert_string_equal(text, good[i][1]);
        }
}

static void test_in(void **state) {
        (void)state;
        static const struct {
                const char *address, *range;
                bool in;
        } cases[] = {
                { "10.1.2.3", "10.1.2.0/24", true },
                { "10.1.3.0", "10.1.2.0/24", false },
                { "10.1.2.127", "10.1.2.128/25", false },
                { "10.1.2.128", "10.1.2.128/25", true },
                { "1.2.3.4", "0.0.0.0/0", true },
                { "1.2.3.4", "::/0", false },
                { "::1", "0.0.0.0/0", true }, /* 0.0.0.1, as a compatible address */
                { "2a00::1", "0.0.0.0/0", false },
                { "::ffff:10.1.2.3", "10.1.2.0/24", true },
                { "::ffff:10.1.2.3", "::/0", true },
                { "::10.1.2.3", "10.1.2.0/24", true },
                { "64:ff9b::10.1.2.3", "10.1.2.0/24", true },
                { "64:ff9b:1:a01:2:300::", "10.1.2.0/24", true },
                { "2002:a01:203::1", "10.1.2.0/24", true },
                { "2002:b01:203::1", "10.1.2.0/24", false },
                { "2a00::5efe:10.1.2.3", "10.1.2.0/24", true },
                { "fd00::1", "fd00::/8", true },
                { "fc00::1", "fd00::/8", false },
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
                struct addr a = parsed(cases[i].address);
                struct addr_range r = range(cases[i].range);
                if (addr_in(&a, &r) != cases[i].in)
                        fail_msg("%s in %s", cases[i].address, cases[i].range);
        }
}

static void test_sockaddr(void **state) {
        (void)state;
        static const char *const texts[] = { "1.2.3.4", "fd00::1", "::ffff:1.2.3.4" };
        for (size_t i = 0; i < NB_ARRAY_LEN(texts); i++) {
                struct addr a = parsed(texts[i]), b;
                struct sockaddr_storage sa;
                uint16_t port = 0;
                assert_int_equal(addr_to_sockaddr(&a, 443, &sa),
                                 i == 0 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
                assert_int_equal(addr_from_sockaddr((struct sockaddr *)&sa, &b, &port), 0);
                assert_true(addr_equal(&a, &b));
                assert_int_equal(port, 443);
                assert_int_equal(addr_unmapped(&a, &b), i == 2);
        }
        struct sockaddr local = { .sa_family = AF_UNIX };
        struct addr a;
        uint16_t port;
        assert_int_equal(addr_from_sockaddr(&local, &a, &port), -EAFNOSUPPORT);
        a = parsed("::ffff:1.2.3.4");
        assert_true(addr_unmapped(&a, &a)); /* in place */
        struct addr b = parsed("1.2.3.4");
        assert_true(addr_equal(&a, &b));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_kinds), cmocka_unit_test(test_spellings), cmocka_unit_test(test_ranges),
                cmocka_unit_test(test_in),    cmocka_unit_test(test_sockaddr),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
