/* The checks for boxes with a network (filtered or open): the TAP device, the programs that load links and rules, and whether
 * this kernel takes them, found out by making a box's network and throwing it away. A box with network.mode off needs none. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/host.h"
#include "base/io.h"
#include "base/mem.h"
#include "box/netns.h"
#include "box/prereq_internal.h"
#include "jail/userns.h"

#define TOOLS_PATH "/usr/sbin:/usr/bin:/sbin:/bin" /* where the supervisor looks */
#define PING_GROUPS "/proc/sys/net/ipv4/ping_group_range"
#define WITHOUT "; a box with network.mode off does not need it"

static bool check_tun(struct checks *c) {
        if (access("/dev/net/tun", R_OK | W_OK) == 0) {
                (void)prereq_add(c, "tun", PREREQ_OK, nb_strdup("/dev/net/tun can be opened"));
                return true;
        }
        bool there = access("/dev/net/tun", F_OK) == 0;
        struct prereq *p =
            prereq_add(c, "tun", PREREQ_NOTE,
                       nb_asprintf("/dev/net/tun %s" WITHOUT, there ? "is not open to this user" : "does not exist"));
        p->fix = nb_strdup(there ? "sudo chmod 0666 /dev/net/tun (what udev sets by default)" : "sudo modprobe tun");
        return false;
}

static bool check_tools(struct checks *c) {
        bool nft = nb_have_program(TOOLS_PATH, "nft"), ip = nb_have_program(TOOLS_PATH, "ip");
        if (nft && ip) {
                (void)prereq_add(c, "network tools", PREREQ_OK, nb_strdup("nft and ip are installed"));
                return true;
        }
        struct prereq *p = prereq_add(c, "network tools", PREREQ_NOTE,
                                      nb_asprintf("%s not installed" WITHOUT, nft  ? "ip is"
                                                                              : ip ? "nft is"
                                                                                   : "nft and ip are"));
        p->fix = nb_strdup("sudo apt-get install nftables iproute2");
        return false;
}

/* As the supervisor does it. */
static int try_network(struct nb_error *err) {
        struct policy open = { .mode = POLICY_OPEN }; /* its rules are the larger set */
        struct netns n = NETNS_NONE;
        if (setenv("PATH", TOOLS_PATH, 1) < 0)
                return -errno;
        int r = userns_enter(CLONE_NEWNS, err);
        return r < 0 ? r : netns_make(&open, &n, err);
}

/* Of a message with several lines the first is enough here. */
static char *first_line(const char *text) {
        return nb_strndup(text, strcspn(text, "\n"));
}

static void check_rules(struct checks *c) {
        char message[PREREQ_MESSAGE_MAX];
        if (prereq_try(try_network, message)) {
                (void)prereq_add(c, "network", PREREQ_OK, nb_strdup("a network without a way out can be made for a box"));
                return;
        }
        char *hint = strrchr(message, '\n');
        struct prereq *p = prereq_add(c, "network", PREREQ_NOTE,
                                      message[0] ? first_line(message) : nb_strdup("the attempt to make a box's network died"));
        p->fix = nb_strdup(hint && hint[1] ? hint + 1 : "set network.mode: off");
}

/* The gateway passes pings on with sockets that the kernel grants by group. */
static void check_ping(struct checks *c) {
        NB_AUTO_FREE char *text = NULL;
        unsigned long first = 1, last = 0;
        if (nb_read_file(PING_GROUPS, 256, &text, NULL) == 0)
                (void)sscanf(text, "%lu %lu", &first, &last);
        if (first <= getegid() && getegid() <= last) {
                (void)prereq_add(c, "ping", PREREQ_OK, nb_strdup("pings can be passed on in mode open"));
                return;
        }
        struct prereq *p = prereq_add(c, "ping", PREREQ_NOTE, nb_strdup("pings from a box go unanswered, also in mode open"));
        p->fix = nb_strdup("sudo sysctl -w net.ipv4.ping_group_range='0 2147483647'");
}

void prereq_check_network(struct checks *c) {
        bool tun = check_tun(c), tools = check_tools(c);
        if (tun && tools)
                check_rules(c);
        check_ping(c);
}
