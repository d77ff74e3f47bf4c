/* Unit tests of published ports, in a network namespace where this process has the guest's address: real sockets, an invented
 * portal; and the portal's own process. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "gateway/impl.h"
#include "gateway/portal.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__ /* makes system calls of its own, which the portal's list does not allow */
#define INSTRUMENTED true
#else
#define INSTRUMENTED false
#endif

#define GUEST_PORT 8080
#define WAIT_MS 30000u

struct lab {
        struct gateway g;
        int ports, portal, says; /* the far ends: of the supervisor twice, of the portal */
        struct event asked;
        unsigned requests;
        uint32_t n_published;
        bool broken; /* the portal says EMFILE */
};

static void on_asked(evutil_socket_t fd, short what, void *user) {
        (void)what;
        struct lab *lab = user;
        uint8_t byte;
        if (recv(fd, &byte, 1, MSG_DONTWAIT) != 1)
                return;
        lab->requests++;
        NB_AUTO_CLOSE int made = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        byte = lab->broken ? EMFILE : 0;
        assert_int_equal(nb_send_fds(fd, &byte, 1, &made, !lab->broken), 1);
}

static bool has_guest_address(void) {
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(NET_GUEST) };
        NB_AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return bind(fd, (struct sockaddr *)&in, sizeof in) == 0;
}

/* Alone in a network namespace, with the guest's address on the loopback device. */
static bool own_network(void) {
        struct ifreq r = { 0 };
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(NET_GUEST) };
        if (has_guest_address())
                return true;
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0 && unshare(CLONE_NEWNET) < 0)
                return false;
        NB_AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM, 0);
        (void)snprintf(r.ifr_name, sizeof r.ifr_name, "lo");
        r.ifr_flags = IFF_UP;
        if (ioctl(fd, SIOCSIFFLAGS, &r) < 0)
                return false;
        (void)snprintf(r.ifr_name, sizeof r.ifr_name, "lo:1");
        memcpy(&r.ifr_addr, &in, sizeof in);
        return ioctl(fd, SIOCSIFADDR, &r) == 0;
}

static int begin(void **state) {
        if (!own_network())
                return 0; /* each test skips itself */
        struct lab *lab = nb_calloc(1, sizeof *lab);
        int ports[2], portal[2], says[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ports), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, portal), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, says), 0);
        lab->ports = ports[1];
        lab->portal = portal[1];
        lab->says = says[1];
        lab->g.base = event_base_new();
        assert_int_equal(report_new(&lab->g, says[0], &lab->g.report, NULL), 0);
        assert_int_equal(publish_new(&lab->g, ports[0], portal[0], &lab->g.publish, NULL), 0);
        assert_non_null(lab->g.publish);
        (void)event_assign(&lab->asked, lab->g.base, lab->portal, EV_READ | EV_PERSIST, on_asked, lab);
        (void)event_add(&lab->asked, NULL);
        *state = lab;
        return 0;
}

static int end(void **state) {
        struct lab *lab = *state;
        if (!lab)
                return 0;
        (void)event_del(&lab->asked);
        publish_free(lab->g.publish);
        report_free(lab->g.report);
        event_base_free(lab->g.base);
        nb_close(lab->ports);
        nb_close(lab->portal);
        nb_close(lab->says);
        free(lab);
        return 0;
}

static struct lab *alone(void **state) {
        if (!*state)
                skip();
        return *state;
}

static int bound(uint32_t address, uint16_t port, uint16_t *ret_port) {
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address) };
        socklen_t len = sizeof in;
        int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
        assert_int_equal(listen(fd, 16), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
        *ret_port = ntohs(in.sin_port);
        return fd;
}

/* Published sockets are numbered 1, 2, … by each test. */
static uint16_t publish(struct lab *lab, uint16_t guest_port) {
        const struct gateway_port port = { .id = ++lab->n_published, .guest_port = guest_port };
        uint16_t here;
        NB_AUTO_CLOSE int fd = bound(INADDR_LOOPBACK, 0, &here);
        assert_int_equal(nb_send_fds(lab->ports, &port, sizeof port, &fd, 1), sizeof port);
        (void)event_base_loop(lab->g.base, EVLOOP_NONBLOCK);
        return here;
}

static int connect_here(uint16_t port) {
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&in, sizeof in) < 0)
                return nb_close(fd) - errno;
        return fd;
}

/* Turns the loop until something can be read; -errno of the read, or how many bytes came. */
static ssize_t receive(struct lab *lab, int fd, void *bytes, size_t len) {
        uint64_t limit = nb_now_ms() + WAIT_MS;
        for (;;) {
                ssize_t n = recv(fd, bytes, len, MSG_DONTWAIT);
                if (n >= 0 || errno != EAGAIN)
                        return n < 0 ? -errno : n;
                assert_true(nb_now_ms() < limit);
                (void)event_base_loop(lab->g.base, EVLOOP_NONBLOCK);
        }
}

/* The next event that the supervisor is told in which this stands: on a slow machine a connection may have been told about
 * before. New string. */
static char *event_with(struct lab *lab, const char *words) {
        char bytes[GATEWAY_OUT_MAX + 1];
        ssize_t n;
        do {
                n = receive(lab, lab->says, bytes, sizeof bytes - 1);
                assert_true(n > 0);
                bytes[n] = 0;
        } while (!strstr(bytes, words));
        return nb_strndup(bytes, (size_t)n);
}

static void a_published_port_reaches_the_guest(void **state) {
        struct lab *lab = alone(state);
        uint16_t guest_port;
        NB_AUTO_CLOSE int guest = bound(NET_GUEST, GUEST_PORT, &guest_port);
        NB_AUTO_CLOSE int client = connect_here(publish(lab, GUEST_PORT));
        char bytes[16];
        uint64_t limit = nb_now_ms() + WAIT_MS;
        assert_true(client >= 0);
        int inside = -1;
        while ((inside = accept4(guest, NULL, NULL, SOCK_CLOEXEC)) < 0 && nb_now_ms() < limit)
                (void)event_base_loop(lab->g.base, EVLOOP_NONBLOCK);
        assert_true(inside >= 0);
        assert_int_equal(send(inside, "welcome", 7, 0), 7);
        assert_int_equal(receive(lab, client, bytes, sizeof bytes), 7);
        assert_memory_equal(bytes, "welcome", 7);
        assert_int_equal(send(client, "hi", 2, 0), 2);
        (void)shutdown(client, SHUT_WR);
        assert_int_equal(receive(lab, inside, bytes, sizeof bytes), 2);
        assert_int_equal(receive(lab, inside, bytes, sizeof bytes), 0);
        nb_close(inside);
        assert_int_equal(receive(lab, client, bytes, sizeof bytes), 0);
        NB_AUTO_FREE char *told = event_with(lab, "\"bytes_up\":7");
        assert_non_null(strstr(told, "\"host\":\"guest\""));
        assert_non_null(strstr(told, "\"allow\""));
        assert_non_null(strstr(told, "\"bytes_down\":2"));
}

static void a_closed_port_is_reset(void **state) {
        struct lab *lab = alone(state);
        NB_AUTO_CLOSE int client = connect_here(publish(lab, GUEST_PORT + 1));
        char byte;
        assert_int_equal(receive(lab, client, &byte, 1), -ECONNRESET);
        free(event_with(lab, "nothing in the box listens"));
}

static void a_portal_without_sockets_is_told(void **state) {
        struct lab *lab = alone(state);
        char byte;
        lab->broken = true;
        NB_AUTO_CLOSE int client = connect_here(publish(lab, GUEST_PORT));
        assert_int_equal(receive(lab, client, &byte, 1), -ECONNRESET);
        assert_int_equal(lab->g.status, 0);
}

static void take_back(struct lab *lab, uint32_t id) {
        const struct gateway_port gone = { .id = id };
        assert_int_equal(nb_send_fds(lab->ports, &gone, sizeof gone, NULL, 0), sizeof gone);
        (void)event_base_loop(lab->g.base, EVLOOP_NONBLOCK);
}

static void a_port_can_be_taken_back(void **state) {
        struct lab *lab = alone(state);
        uint16_t one = publish(lab, GUEST_PORT), two = publish(lab, GUEST_PORT), other = publish(lab, GUEST_PORT + 1);
        take_back(lab, 1);
        assert_true(connect_here(one) < 0);
        NB_AUTO_CLOSE int same = connect_here(two);
        assert_true(same >= 0);
        NB_AUTO_CLOSE int still = connect_here(other);
        assert_true(still >= 0);
}

static void its_connections_end_and_no_others(void **state) {
        struct lab *lab = alone(state);
        uint16_t guest_port, one = publish(lab, GUEST_PORT), two = publish(lab, GUEST_PORT);
        NB_AUTO_CLOSE int guest = bound(NET_GUEST, GUEST_PORT, &guest_port);
        int client[2] = { connect_here(one), connect_here(two) }, inside[2] = { -1, -1 };
        uint64_t limit = nb_now_ms() + WAIT_MS;
        for (size_t i = 0; i < 2; i++)
                while ((inside[i] = accept4(guest, NULL, NULL, SOCK_CLOEXEC)) < 0 && nb_now_ms() < limit)
                        (void)event_base_loop(lab->g.base, EVLOOP_NONBLOCK);
        char byte;
        for (size_t i = 0; i < 2; i++) {
                assert_int_equal(send(inside[i], "x", 1, 0), 1);
                assert_int_equal(receive(lab, client[i], &byte, 1), 1);
        }
        take_back(lab, 1);
        assert_int_equal(receive(lab, client[0], &byte, 1), -ECONNRESET);
        free(event_with(lab, "not published any more"));
        assert_int_equal(send(client[1], "y", 1, 0), 1);
        ssize_t n[2] = { recv(inside[0], &byte, 1, MSG_DONTWAIT), recv(inside[1], &byte, 1, MSG_DONTWAIT) };
        while (n[0] < 1 && n[1] < 1 && nb_now_ms() < limit) { /* whichever of the two it is inside */
                (void)event_base_loop(lab->g.base, EVLOOP_NONBLOCK);
                for (size_t i = 0; i < 2; i++)
                        n[i] = recv(inside[i], &byte, 1, MSG_DONTWAIT);
        }
        assert_true(n[0] == 1 || n[1] == 1);
        for (size_t i = 0; i < 2; i++) {
                nb_close(client[i]);
                nb_close(inside[i]);
        }
}

static void a_lost_portal_ends_it(void **state) {
        struct lab *lab = alone(state);
        (void)event_del(&lab->asked);
        lab->portal = nb_close(lab->portal);
        (void)event_base_loop(lab->g.base, EVLOOP_NONBLOCK);
        assert_int_equal(lab->g.status, GATEWAY_EXIT_FAILED);
}

static void without_sockets_nothing_is_published(void **state) {
        (void)state;
        NB_AUTO_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        struct gateway g = { 0 };
        struct publish *p = (void *)&g;
        assert_int_equal(publish_new(&g, null, null, &p, NULL), 0);
        assert_null(p);
}

static void the_portal_makes_tcp_sockets(void **state) {
        (void)state;
        int pair[2], fd = -1, status, domain = 0, type = 0;
        socklen_t len = sizeof domain;
        uint8_t byte = 's';
        size_t n_fds = 1;
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        pid_t pid = fork();
        if (pid == 0) {
                char *argv[] = { "portal", "0", NULL };
                int socket = fcntl(pair[1], F_DUPFD, 20), null = open("/dev/null", O_RDWR);
                if (dup2(null, PORTAL_FD_LOG) < 0 || dup2(socket, PORTAL_FD) < 0)
                        _exit(99);
                _exit(portal_main(2, argv));
        }
        nb_close(pair[1]);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(send(pair[0], &byte, 1, 0), 1);
                assert_int_equal(nb_recv_fds(pair[0], &byte, 1, &fd, &n_fds), 1);
                assert_int_equal(n_fds, 1);
                assert_int_equal(byte, 0);
                assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len), 0);
                assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len), 0);
                assert_int_equal(domain, AF_INET);
                assert_int_equal(type, SOCK_STREAM);
                nb_close(fd);
        }
        nb_close(pair[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!INSTRUMENTED) /* then its end is not its own */
                assert_int_equal(status, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(without_sockets_nothing_is_published),
                cmocka_unit_test(the_portal_makes_tcp_sockets), /* before this process leaves for another network */
                cmocka_unit_test_setup_teardown(a_published_port_reaches_the_guest, begin, end),
                cmocka_unit_test_setup_teardown(a_closed_port_is_reset, begin, end),
                cmocka_unit_test_setup_teardown(a_portal_without_sockets_is_told, begin, end),
                cmocka_unit_test_setup_teardown(a_port_can_be_taken_back, begin, end),
                cmocka_unit_test_setup_teardown(its_connections_end_and_no_others, begin, end),
                cmocka_unit_test_setup_teardown(a_lost_portal_ends_it, begin, end),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
