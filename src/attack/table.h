/* Every probe of `nixbox attack`, in one table that both sides read: the host for names, words and how to judge, the program
 * inside for the function to call. A row is
 *   P(class, name, judge, function, arguments, description)
 * The class is a letter of docs/attack.md, the function guest_FUNCTION() in src/attack/guest. Arguments are words that the host
 * fills in first (see plan.h): @token the run's own word, @router the box's router, @host an address of this host where
 * somebody listens on @port, @loopport the same on its loopback, @allowed a name that the config allows (@allowed443,
 * @allowed80: on that port), @one-label the same with its dots inside one label, @name @allowed or "-", @long-name a denied
 * name that is as long as names get,
 * @ro and @witness a read-only mount and a file in it, @rw the run's folder in a writable mount, @canary a file of nixbox's own
 * on the host, @memory the limit. A word that this box has nothing for makes the row "not applicable". */
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum attack_judge {
        JUDGE_GUEST,    /* only the guest can see it */
        JUDGE_NETWORK,  /* what the gateway decided (event log), and whether somebody arrived at this host's listeners */
        JUDGE_INSIDE,   /* to an allowed host: the gateway must have refused it by name */
        JUDGE_READONLY, /* a read-only mount: what the folder and a file in it look like here */
        JUDGE_SHARE,    /* the writable mount: what was made, as it is here */
        JUDGE_MEETS,    /* the writable mount: what was said to a FIFO or socket of this host */
        JUDGE_CANARY,   /* a file of the host's that the guest must neither read nor change */
        JUDGE_IMAGE,    /* the images that the box's disks are read from */
        JUDGE_CONSOLE,  /* what `nixbox logs` makes of the guest's console */
        JUDGE_LOOK,     /* the host looks by itself; nothing runs inside */
};

/* clang-format off */
#define ATTACK_PROBES(P) \
        P('A', "network.hardcoded-address", NETWORK, tcp, "192.0.2.1 443", "a TCP connection to an address that no name led to") \
        P('A', "network.hardcoded-http", NETWORK, tcp, "198.51.100.1 80", "the same on port 80, to another network") \
        P('A', "network.hardcoded-ssh", NETWORK, tcp, "203.0.113.1 22", "the same on port 22") \
        P('A', "network.decimal-address", NETWORK, tcp, "3221225987 8443", "an address spelled as one decimal number") \
        P('A', "network.octal-address", NETWORK, tcp, "0300.0.02.04 8443", "an address spelled in octal") \
        P('A', "network.hex-address", NETWORK, tcp, "0xc0000205 8443", "an address spelled in hexadecimal") \
        P('A', "network.short-address", NETWORK, tcp, "192.0.518 8443", "an address with its last two bytes in one number") \
        P('A', "network.mapped-address", NETWORK, tcp6, "::ffff:192.0.2.7 443", "an IPv4 address in IPv6 clothes") \
        P('A', "network.nat64-address", NETWORK, tcp6, "64:ff9b::c000:208 443", "an IPv4 address behind a NAT64 prefix") \
        P('A', "network.ipv6-address", NETWORK, tcp6, "2001:db8::1 443", "a TCP connection by IPv6") \
        P('A', "network.metadata", NETWORK, tcp, "169.254.169.254 80", "the metadata service of clouds") \
        P('A', "network.metadata-alibaba", NETWORK, tcp, "100.100.100.200 80", "the metadata service of Alibaba") \
        P('A', "network.metadata-azure", NETWORK, tcp, "168.63.129.16 80", "the wire server of Azure") \
        P('A', "network.metadata-ipv6", NETWORK, tcp6, "fd00:ec2::254 80", "the metadata service by IPv6") \
        P('A', "network.private-10", NETWORK, tcp, "10.255.255.1 443", "a private network, 10.0.0.0/8") \
        P('A', "network.private-172", NETWORK, tcp, "172.31.255.1 443", "a private network, 172.16.0.0/12") \
        P('A', "network.private-192", NETWORK, tcp, "192.168.255.1 443", "a private network, 192.168.0.0/16") \
        P('A', "network.carrier-nat", NETWORK, tcp, "100.127.255.1 443", "a carrier's private network, 100.64.0.0/10") \
        P('A', "network.link-local", NETWORK, tcp, "169.254.1.1 443", "a link-local address") \
        P('A', "network.reserved", NETWORK, tcp, "240.0.0.1 443", "a reserved address") \
        P('A', "network.unused-name-address", NETWORK, tcp_ended, "198.18.255.250 443", "an address for names that no name has") \
        P('A', "network.other-test-network", NETWORK, tcp, "198.19.0.1 443", "the rest of the range that addresses for names come from") \
        P('A', "network.router", NETWORK, tcp, "@router 22", "a service on the box's router") \
        P('A', "network.gateway-socket", NETWORK, tcp, "@router 7001", "the gateway's own socket, not by way of an address") \
        P('A', "network.gateway-dns-socket", NETWORK, tcp, "@router 7053", "the gateway's own socket for names") \
        P('A', "network.host-address", NETWORK, tcp, "@host @port", "a service of this host, by its address") \
        P('A', "network.host-udp", NETWORK, udp, "@host @port", "the same by UDP") \
        P('A', "network.host-through-router", NETWORK, tcp, "@router @loopport", "a service on this host's loopback, through the router") \
        P('A', "network.host-loopback", NETWORK, tcp, "127.0.0.1 @loopport", "the same by 127.0.0.1") \
        P('A', "network.loopback-alias", NETWORK, tcp, "127.1.2.3 @loopport", "the same by another loopback address") \
        P('A', "network.zero-address", NETWORK, tcp, "0.0.0.0 @loopport", "the same by 0.0.0.0") \
        P('A', "network.broadcast", NETWORK, udp, "255.255.255.255 5000", "everybody on the link") \
        P('A', "names.denied", NETWORK, dns, "probe-@token.invalid A @router udp @name", "a name that no rule allows") \
        P('A', "names.host", NETWORK, dns, "host.nixbox.internal A @router udp @name", "the name that stands for this host") \
        P('A', "names.metadata", NETWORK, dns, "metadata.google.internal A @router udp @name", "the name of a metadata service") \
        P('A', "names.localhost", NETWORK, dns, "localhost A @router udp @name", "the name localhost, asked of the gateway") \
        P('A', "names.address", NETWORK, dns, "192.0.2.1 A @router udp @name", "an address asked for as a name") \
        P('A', "names.upper-case", NETWORK, dns, "PROBE-UP-@token.INVALID A @router udp @name", "a denied name in capitals") \
        P('A', "names.trailing-dots", NETWORK, dns, "probe-dot-@token%2e.invalid%2e A @router udp @name", "a denied name with dots in its labels") \
        P('A', "names.suffix-without-dot", NETWORK, dns, "nixbox-attack-@token@allowed A @router udp @name", "a name that ends like an allowed one, without the dot") \
        P('A', "names.allowed-in-front", NETWORK, dns, "@allowed.@token.invalid A @router udp @name", "a denied name that begins with an allowed one") \
        P('A', "names.allowed-in-one-label", NETWORK, dns, "@one-label.@token.invalid A @router udp @name", "an allowed name as one label of a denied one") \
        P('A', "names.nul", NETWORK, dns, "@one-label%00.@token.invalid A @router udp @name", "an allowed name, NUL, and more") \
        P('A', "names.control-bytes", NETWORK, dns, "%1b]52%3bc%3b@token%07.invalid A @router udp @name", "a name with a terminal's control bytes") \
        P('A', "names.non-ascii", NETWORK, dns, "pr%c3%b6be-@token.invalid A @router udp @name", "a name with bytes beyond ASCII") \
        P('A', "names.very-long", NETWORK, dns, "@long-name A @router udp @name", "the longest name there can be") \
        P('B', "names.over-tcp", NETWORK, dns, "probe-tcp-@token.invalid A @router tcp @name", "a denied name, asked by TCP") \
        P('B', "names.other-server", NETWORK, dns, "probe-direct-@token.invalid A 192.0.2.53 udp @name", "a denied name, asked straight of a server elsewhere") \
        P('B', "names.other-server-tcp", NETWORK, dns, "probe-direct-tcp-@token.invalid A 192.0.2.53 tcp @name", "the same by TCP") \
        P('B', "names.txt-tunnel", NETWORK, dns, "data.txt-@token.invalid TXT @router udp @name", "data in a TXT query") \
        P('B', "names.null-tunnel", NETWORK, dns, "data.null-@token.invalid NULL @router udp @name", "data in a NULL query") \
        P('B', "names.any", NETWORK, dns, "data.any-@token.invalid ANY @router udp @name", "a query for all there is") \
        P('B', "names.unknown-type", NETWORK, dns, "data.type-@token.invalid 4711 @router udp @name", "a query of a type that nobody knows") \
        P('B', "names.tunnel-below-allowed", NETWORK, dns, "data-@token.@allowed TXT @router udp @name", "data in a query below an allowed name") \
        P('B', "names.key-for-ech", GUEST, dns, "@allowed HTTPS @router udp @name", "the key that would hide a server's name (HTTPS record)") \
        P('B', "names.ipv6", GUEST, dns, "@allowed AAAA @router udp @name", "an IPv6 address of an allowed name") \
        P('B', "names.multicast", NETWORK, udp, "224.0.0.251 5353", "names asked of the neighbours (mDNS)") \
        P('B', "names.llmnr", NETWORK, udp, "224.0.0.252 5355", "names asked of the neighbours (LLMNR)") \
        P('B', "protocol.udp", NETWORK, udp, "192.0.2.10 5000", "any UDP") \
        P('B', "protocol.quic", NETWORK, udp, "192.0.2.11 443", "QUIC") \
        P('B', "protocol.ntp", NETWORK, udp, "192.0.2.12 123", "NTP") \
        P('B', "protocol.dns-over-quic", NETWORK, udp, "192.0.2.13 853", "names over QUIC") \
        P('B', "protocol.dns-over-tls", NETWORK, tcp, "192.0.2.14 853", "names over TLS") \
        P('B', "protocol.dns-over-https", NETWORK, tcp, "192.0.2.15 443", "names over HTTPS") \
        P('B', "protocol.icmp-echo", NETWORK, icmp, "192.0.2.16", "a ping") \
        P('B', "protocol.gre", NETWORK, raw, "47 192.0.2.17", "a tunnel: GRE") \
        P('B', "protocol.esp", NETWORK, raw, "50 192.0.2.18", "a tunnel: ESP") \
        P('B', "protocol.sixinfour", NETWORK, raw, "41 192.0.2.19", "a tunnel: IPv6 in IPv4") \
        P('B', "protocol.ipip", NETWORK, raw, "4 192.0.2.20", "a tunnel: IPv4 in IPv4") \
        P('B', "protocol.sctp", NETWORK, raw, "132 192.0.2.21", "SCTP") \
        P('B', "protocol.igmp", NETWORK, raw, "2 192.0.2.22", "IGMP") \
        P('B', "protocol.unknown", NETWORK, raw, "253 192.0.2.23", "an IP protocol that nobody knows") \
        P('B', "frames.plain", NETWORK, frame, "plain 192.0.2.30 @router", "a TCP segment made by hand") \
        P('B', "frames.other-mac", NETWORK, frame, "other-mac 192.0.2.31 @router", "a frame from another card's address") \
        P('B', "frames.other-source", NETWORK, frame, "other-source 192.0.2.32 @router", "a packet from another machine's address") \
        P('B', "frames.router-source", NETWORK, frame, "router-source 192.0.2.33 @router", "a packet from the router's address") \
        P('B', "frames.loopback-source", NETWORK, frame, "loopback-source 192.0.2.34 @router", "a packet from 127.0.0.1") \
        P('B', "frames.loopback-target", NETWORK, frame, "loopback-target 127.0.0.1 @router", "a packet to the other side's 127.0.0.1") \
        P('B', "frames.vlan", NETWORK, frame, "vlan 192.0.2.35 @router", "a frame with a VLAN tag") \
        P('B', "frames.vlan-twice", NETWORK, frame, "vlan-twice 192.0.2.36 @router", "a frame with two VLAN tags") \
        P('B', "frames.fragment", NETWORK, frame, "fragment 192.0.2.37 @router", "a packet in fragments") \
        P('B', "frames.ip-options", NETWORK, frame, "options 192.0.2.38 @router", "a packet with a source route") \
        P('B', "frames.broadcast", NETWORK, frame, "broadcast 192.0.2.39 @router", "a packet to every card") \
        P('B', "frames.ipv6", NETWORK, frame, "ipv6 192.0.2.40 @router", "an IPv6 packet made by hand") \
        P('B', "frames.router-advertisement", NETWORK, frame, "advertisement 192.0.2.41 @router", "an IPv6 router's advertisement") \
        P('B', "frames.arp-router", NETWORK, frame, "arp-router 192.0.2.42 @router", "ARP: the router's address is mine") \
        P('B', "frames.arp-other", NETWORK, frame, "arp-other 192.0.2.43 @router", "ARP: who has an address elsewhere?") \
        P('B', "frames.other-type", NETWORK, frame, "other-type 192.0.2.44 @router", "a frame of an unknown type") \
        P('B', "protocol.tls-without-name", INSIDE, inside, "tls-none @allowed443 443 @router", "TLS to an allowed host without a server name") \
        P('B', "protocol.tls-other-name", INSIDE, inside, "tls-other @allowed443 443 @router", "TLS to an allowed host that asks for another") \
        P('B', "protocol.not-tls", INSIDE, inside, "not-tls @allowed443 443 @router", "something else than TLS to an allowed host's port 443") \
        P('B', "protocol.http-other-host", INSIDE, inside, "http-other @allowed80 80 @router", "HTTP to an allowed host for another") \
        P('B', "protocol.http-connect", INSIDE, inside, "http-connect @allowed80 80 @router", "CONNECT through an allowed host") \
        P('C', "lifecycle.after-all-that", NETWORK, tcp, "192.0.2.50 443", "a TCP connection to a hard-coded address once more, last") \
        P('C', "lifecycle.name-after-all-that", NETWORK, dns, "probe-late-@token.invalid A @router udp @name", "a denied name once more, last") \
        P('D', "files.create", READONLY, create, "@ro", "make a file in a read-only mount") \
        P('D', "files.remount-rw", READONLY, remount, "@ro", "remount a read-only mount writable, then make a file") \
        P('D', "files.bind-rw", READONLY, bind, "@ro", "bind a read-only mount elsewhere without the flag, then make a file") \
        P('D', "files.mount-setattr", READONLY, setattr, "@ro", "clear the read-only flag with mount_setattr, then make a file") \
        P('D', "files.second-instance", READONLY, second, "@ro", "mount the shared folders a second time with other options, then make a file") \
        P('D', "files.mkdir", READONLY, raw_mkdir, "@ro", "make a folder there") \
        P('D', "files.symlink", READONLY, raw_symlink, "@ro", "make a symbolic link there") \
        P('D', "files.device", READONLY, raw_mknod, "@ro", "make a device there") \
        P('D', "files.rename", READONLY, raw_rename, "@ro @rw", "move a file of the writable mount into the read-only one") \
        P('D', "files.hard-link", READONLY, raw_link, "@ro @rw", "link a file of the writable mount into the read-only one") \
        P('D', "files.hard-link-out", READONLY, raw_link_out, "@witness @rw", "link a read-only file into the writable mount") \
        P('D', "files.open-write", READONLY, raw_open, "@witness", "open a read-only file for writing") \
        P('D', "files.open-direct", READONLY, raw_direct, "@witness", "the same with O_DIRECT") \
        P('D', "files.append", READONLY, raw_append, "@witness", "open a read-only file for appending") \
        P('D', "files.truncate", READONLY, raw_truncate, "@witness", "truncate a read-only file (to the size it has)") \
        P('D', "files.fallocate", READONLY, raw_fallocate, "@witness", "allocate space in a read-only file (that it has already)") \
        P('D', "files.mmap-write", READONLY, raw_mmap, "@witness", "map a read-only file for writing") \
        P('D', "files.proc-self-fd", READONLY, raw_reopen, "@witness", "open a read-only file again for writing, through /proc/self/fd") \
        P('D', "files.chmod", READONLY, raw_chmod, "@witness", "change a read-only file's mode (to what it is)") \
        P('D', "files.chown", READONLY, raw_chown, "@witness", "change a read-only file's owner (to who it is)") \
        P('D', "files.utimes", READONLY, raw_utimes, "@witness", "change a read-only file's times (to what they are)") \
        P('D', "files.setflags", READONLY, raw_setflags, "@witness", "change a read-only file's flags (to what they are)") \
        P('D', "files.xattr-read-only", READONLY, raw_xattr, "@witness", "give a read-only file an attribute") \
        P('D', "files.above-the-mounts", GUEST, above, "", "make a file where the mounts' names are") \
        P('D', "files.setuid", SHARE, setuid, "@rw", "make a set-user-id file in a writable mount") \
        P('D', "files.setgid", SHARE, setgid, "@rw", "make a set-group-id file there") \
        P('D', "files.setuid-mknod", SHARE, setuid_mknod, "@rw", "the same with mknod") \
        P('D', "files.setuid-openat2", SHARE, setuid_openat2, "@rw", "the same with openat2") \
        P('D', "files.setuid-fchmod", SHARE, setuid_fchmod, "@rw", "the same with fchmod on an open file") \
        P('D', "files.char-device", SHARE, char_device, "@rw", "make a character device there") \
        P('D', "files.block-device", SHARE, block_device, "@rw", "make a block device there") \
        P('D', "files.whiteout", SHARE, whiteout, "@rw", "make a whiteout there") \
        P('D', "files.capability", SHARE, capability, "@rw", "give a file there a capability") \
        P('D', "files.xattr", SHARE, xattr, "@rw", "give a file there an attribute of its own") \
        P('D', "files.trusted-xattr", SHARE, trusted_xattr, "@rw", "give a file there an attribute of the kernel's") \
        P('D', "files.owner", SHARE, owner, "@rw", "give a file there to somebody else") \
        P('D', "files.meets-fifo", MEETS, meets_fifo, "@rw", "speak to a process of this host through a FIFO in the mount") \
        P('D', "files.meets-socket", MEETS, meets_socket, "@rw", "speak to a process of this host through a socket in the mount") \
        P('D', "files.dot-dot", CANARY, dotdot, "@rw @canary", "reach a file of this host with .. from a mount") \
        P('D', "files.absolute-link", CANARY, absolute_link, "@rw @canary", "reach it through an absolute symbolic link in a mount") \
        P('D', "files.relative-link", CANARY, relative_link, "@rw @canary", "reach it through a relative symbolic link in a mount") \
        P('D', "files.proc-root", CANARY, proc_root, "@canary", "reach it through the root of any process") \
        P('D', "files.forged-handle", GUEST, handle, "@rw", "open a file by a handle that was made up") \
        P('D', "files.image", IMAGE, image, "", "write to the disks that the images are on") \
        P('D', "files.other-shares", GUEST, shares, "", "mount other shares than the one there is (virtiofs, 9p)") \
        P('D', "machine.fw-cfg", GUEST, fw_cfg, "", "read what the firmware interface tells about the host") \
        P('D', "machine.dmi", GUEST, dmi, "", "find this host's name or id in DMI and ACPI tables") \
        P('D', "machine.devices", GUEST, devices, "", "find a device that a box should not have") \
        P('D', "machine.vsock", GUEST, vsock, "", "talk to the host through a vsock") \
        P('D', "machine.ports", GUEST, ports, "", "find a port to the host beside the agent's and the console") \
        P('E', "secrets.environment", GUEST, scan_environ, "", "find a variable of the caller's in a process's environment") \
        P('E', "secrets.command-lines", GUEST, scan_cmdline, "", "find it on a process's command line") \
        P('E', "secrets.kernel-line", GUEST, scan_kernel, "", "find it, or this host's name or id, on the kernel's command line") \
        P('E', "secrets.kernel-log", GUEST, scan_log, "", "find it in the kernel's messages") \
        P('E', "secrets.disks", GUEST, scan_disks, "", "find it at the beginning or end of a disk") \
        P('E', "secrets.files", GUEST, scan_files, "", "find it in the files that make up the box's identity (/etc, /run)") \
        P('F', "host.control-port", GUEST, control_port, "", "open the agent's port to the host a second time") \
        P('F', "host.console-escapes", CONSOLE, console, "@token", "make the reader's terminal do something, through the console's log") \
        P('F', "host.machine-id", GUEST, machine_id, "", "the box has another machine id than this host and than its image") \
        P('F', "host.memory", GUEST, memory, "@memory", "have more memory than the limit")

/* What the host looks at by itself: L(class, name, function, description), look_FUNCTION() in looks.c. */
#define ATTACK_LOOKS(L) \
        L('C', "lifecycle.rules", rules, "the rules are the same as before") \
        L('C', "lifecycle.box", box, "the box answers, its supervisor and its gateway are the same as before") \
        L('D', "files.descriptors", descriptors, "what files are held open costs the host a bounded number of descriptors") \
        L('E', "secrets.host-logs", logs, "find it, or a secret of the config, in the box's logs and events on this host") \
        L('F', "host.event-escapes", event_escapes, "the same through the event log") \
        L('F', "host.private-files", private_files, "folders and sockets of the box are the caller's alone") \
        L('F', "host.published-ports", ports, "ports are published where the config says, on loopback unless it says otherwise") \
        L('G', "jail.qemu", jail_qemu, "QEMU: no privileges, a system call filter, namespaces of its own, no core dumps") \
        L('G', "jail.virtiofsd", jail_virtiofsd, "virtiofsd: the same, and only what serving files needs") \
        L('G', "jail.guard", jail_guard, "the guard: the same, what writing git's config needs, and no process in sight but virtiofsd") \
        L('G', "jail.conduit", jail_conduit, "the conduit: the same") \
        L('G', "jail.gateway", jail_gateway, "the gateway: no privileges, a system call filter, namespaces but for the network, no core dumps") \
        L('G', "jail.resolver", jail_resolver, "the resolver: no privileges, a system call filter, no core dumps")
/* clang-format on */

struct attack_probe {
        char class;
        const char *name;
        enum attack_judge judge;
        const char *function, *args, *description;
};
extern const struct attack_probe attack_probes[];
extern const size_t attack_n_probes;

#define ATTACK_PROGRAM "nixbox-attack" /* the program for the inside, beside the agent */
#define ATTACK_FOLDER "nixbox-attack-" /* folders of a run are called so, with its token; hidden ones with a dot before it */
#define ATTACK_PLAN_MARK \
        "nixbox-attack-plan-" /* the plan rides behind the program: this, its length as 8 hex digits, newline */
#define ATTACK_PROBE_SECONDS 30
#define ATTACK_FRAME_PORT 443u /* where segments that are made by hand go to */
