/* Setting up the network (see network.h). Plain ioctls: one device, one address, one route. The device is known by its
 * driver; its name is the kernel's affair. Opens no file, since the root file system is put in place at the same time. */
#include "network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/route.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "guest/system.h"

#define DRIVER "virtio_net"
#define DEVICES_MAX 16 /* indices that are looked at: ours is the first after the loopback */
/* The name server is one hop away and answers at once or not at all: what is lost is asked for again soon. */
#define RESOLVER_OPTIONS "options timeout:2 attempts:2\n"

static struct ifreq request_for(const char *name) {
        struct ifreq request = { 0 };
        memcpy(request.ifr_name, name, strlen(name) + 1);
        return request;
}

/* Asks the kernel and not /sys, which is on its way to the new root meanwhile. */
static bool has_driver(int fd, const char *name) {
        struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
        struct ifreq request = request_for(name);
        request.ifr_data = (char *)&info;
        return ioctl(fd, SIOCETHTOOL, &request) == 0 && strcmp(info.driver, DRIVER) == 0;
}

static bool find_device(int fd, char ret_name[IFNAMSIZ]) {
        for (int index = 1; index <= DEVICES_MAX; index++) {
                struct ifreq request = { .ifr_ifindex = index };
                if (ioctl(fd, SIOCGIFNAME, &request) < 0 || !has_driver(fd, request.ifr_name))
                        continue;
                memcpy(ret_name, request.ifr_name, IFNAMSIZ);
                return true;
        }
        return false;
}

static void put_address(struct sockaddr *ret, uint32_t address) {
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(address) };
        memcpy(ret, &in, sizeof in);
}

static int raise_device(int fd, const char *name) {
        struct ifreq request = request_for(name);
        request.ifr_flags = IFF_UP | IFF_RUNNING;
        return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

static int set_address(int fd, const char *name, unsigned long what, uint32_t address) {
        struct ifreq request = request_for(name);
        put_address(&request.ifr_addr, address);
        return ioctl(fd, (int)what, &request) < 0 ? -errno : 0;
}

static int set_mtu(int fd, const char *name, uint32_t mtu) {
        struct ifreq request = request_for(name);
        request.ifr_mtu = (int)mtu;
        return ioctl(fd, SIOCSIFMTU, &request) < 0 ? -errno : 0;
}

static int add_route(int fd, char *name, uint32_t router) {
        struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = name };
        put_address(&route.rt_dst, 0);
        put_address(&route.rt_genmask, 0);
        put_address(&route.rt_gateway, router);
        return ioctl(fd, SIOCADDRT, &route) < 0 && errno != EEXIST ? -errno : 0;
}

static int configure(int fd, const struct wire_net *net) {
        char name[IFNAMSIZ];
        if (!find_device(fd, name)) {
                nb_warn("network: there is no device of " DRIVER);
                return -ENODEV;
        }
        const char *step = "the MTU";
        int r = set_mtu(fd, name, net->mtu);
        if (r == 0) {
                step = "the address";
                r = set_address(fd, name, SIOCSIFADDR, net->address);
        }
        if (r == 0) {
                step = "the mask";
                r = set_address(fd, name, SIOCSIFNETMASK, UINT32_MAX << (32u - net->bits));
        }
        if (r == 0) {
                step = "bringing it up";
                r = raise_device(fd, name);
        }
        if (r == 0) {
                step = "the route";
                r = add_route(fd, name, net->router);
        }
        if (r < 0)
                nb_warn("network: %s: %s: %s", name, step, strerror(-r));
        return r;
}

int network_raise(const struct setup *s) {
        NB_AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        (void)raise_device(fd, "lo");
        return s->has_net ? configure(fd, &s->net) : 0;
}

void network_write_resolver(const struct setup *s) {
        uint32_t a = s->net.router;
        NB_AUTO_FREE char *text = s->has_net ? nb_asprintf("nameserver %u.%u.%u.%u\n" RESOLVER_OPTIONS, a >> 24, a >> 16 & 255u,
                                                           a >> 8 & 255u, a & 255u)
                                             : nb_strdup("# this box has no network\n");
        int r = system_write_etc("/etc/resolv.conf", text, 0644);
        if (r < 0)
                nb_warn("/etc/resolv.conf: %s", strerror(-r));
}
