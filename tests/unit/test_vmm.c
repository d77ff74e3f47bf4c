/* QEMU's plan, the accelerator's arithmetic and memo, the QMP parser, the memory figures and the monitor on a socketpair. */
#include <errno.h>
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "box/accel.h"
#include "box/memory.h"
#include "box/vmm.h"
#include "box/vmm_qmp.h"

/* --- accelerator --- */

static void tsc_is_the_median_of_sane_pairs(void **state) {
        (void)state;
        const struct accel_tick pairs[][2] = {
                { { 1000, 0 }, { 1000 + 11500000, 5000000 } }, /* 2.3 GHz */
                { { 0, 10 }, { 11500005, 5000010 } },
                { { 0, 0 }, { 9000000, 5000000 } }, /* disturbed: 1.8 GHz */
                { { 5, 0 }, { 5, 5000000 } },       /* stood still */
                { { 0, 7 }, { 11500000, 7 } },      /* no time passed */
        };
        assert_int_equal(accel_tsc_khz(pairs, 5), 2300000);
        assert_int_equal(accel_tsc_khz(pairs, 2), 2300001);
        assert_int_equal(accel_tsc_khz(pairs + 3, 2), 0);
        assert_int_equal(accel_tsc_khz(pairs, 0), 0);
}

static void tsc_does_not_overflow(void **state) {
        (void)state;
        const struct accel_tick pairs[][2] = { { { 1, 1 }, { UINT64_MAX / 2, UINT64_MAX / 4 } } };
        assert_int_equal(accel_tsc_khz(pairs, 1), 2000000);
}

static void memo_survives_its_file_and_nothing_else_does(void **state) {
        (void)state;
        struct accel_memo m = { .key = "boot 10:232 6.82", .verdict = ACCEL_EMULATES, .detail = "too slow" }, back;
        NB_AUTO_FREE char *text = accel_memo_format(&m);
        assert_int_equal(accel_memo_parse(text, m.key, &back), 0);
        assert_int_equal(back.verdict, ACCEL_EMULATES);
        assert_string_equal(back.detail, "too slow");
        assert_int_equal(accel_memo_parse(text, "other boot", &back), -EINVAL);
        for (size_t len = strlen(text); len-- > 0;) {
                NB_AUTO_FREE char *cut = nb_strndup(text, len);
                assert_int_equal(accel_memo_parse(cut, m.key, &back), -EINVAL);
        }
        const char *bad[] = { "nixbox-accel 2\nboot 10:232 6.82\n1\nx\n", "nixbox-accel 1\nboot 10:232 6.82\n7\nx\n",
                              "nixbox-accel 1\nboot 10:232 6.82\n1\n\x1b[2J\n", "nixbox-accel 1\nboot 10:232 6.82\n1\nx\ny" };
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++)
                assert_int_equal(accel_memo_parse(bad[i], m.key, &back), -EINVAL);
}

static void accelerator_can_be_forced(void **state) {
        (void)state;
        struct accel a;
        NB_AUTO_ERROR err = { 0 };
        setenv("NIXBOX_ACCEL", "tcg", 1);
        assert_int_equal(accel_probe(&a, &err), 0);
        assert_int_equal(a.kind, ACCEL_TCG);
        assert_non_null(a.why);
        assert_in_range(a.tsc_khz, 100000, 20000000);
        accel_clear(&a);
        setenv("NIXBOX_ACCEL", "xen", 1);
        assert_int_equal(accel_probe(&a, &err), -EINVAL);
        assert_non_null(err.hint);
        unsetenv("NIXBOX_ACCEL");
}

/* --- plan --- */

static struct image test_image = { .runtime = "/data/runtime", .vmlinux = "/data/vmlinux", .initrd = "/data/initrd" };

static struct vmm_spec test_spec(const struct accel *a) {
        return (struct vmm_spec){ .accel = a,
                                  .image = &test_image,
                                  .cpus = 2,
                                  .memory = 1ull << 30,
                                  .rootfs_fd = 40,
                                  .modules_fd = 39,
                                  .disk_fd = -1,
                                  .agent_fd = 41,
                                  .console_fd = 42,
                                  .qmp_fd = 43,
                                  .vhost_fd = 44,
                                  .kvm_fd = -1,
                                  .tap_fd = -1,
                                  .log_fd = 45,
                                  .cgroup_fd = -1,
                                  .unused_id = 1 };
}

static char *joined(const struct vmm_spec *spec) {
        struct jail_plan *plan = NULL;
        assert_int_equal(vmm_plan(spec, &plan, NULL), 0);
        struct nb_buf text = { 0 };
        for (char **arg = plan->argv; *arg; arg++) {
                nb_buf_add(&text, *arg, strlen(*arg));
                nb_buf_add(&text, " ", 1);
        }
        nb_buf_add(&text, "", 1);
        jail_plan_free(plan);
        return (char *)text.data;
}

static void network_device_only_with_a_tap(void **state) {
        (void)state;
        struct accel tcg = { .kind = ACCEL_TCG, .tsc_khz = 2300000 };
        struct vmm_spec spec = test_spec(&tcg);
        NB_AUTO_FREE char *without = joined(&spec);
        assert_null(strstr(without, "net"));
        spec.tap_fd = 46;
        NB_AUTO_FREE char *with = joined(&spec);
        assert_non_null(strstr(with, "-netdev tap,id=net,fd="));
        assert_non_null(strstr(with, "virtio-net-device,netdev=net,mac=02:6e:62:00:00:02"));
}

static void plan_passes_everything_as_descriptors(void **state) {
        (void)state;
        struct accel tcg = { .kind = ACCEL_TCG, .tsc_khz = 2300000 };
        struct vmm_spec spec = test_spec(&tcg);
        struct jail_plan *plan = NULL;
        assert_int_equal(vmm_plan(&spec, &plan, NULL), 0);
        assert_int_equal(plan->ids, JAIL_IDS_UNUSED);
        assert_int_equal(plan->seccomp, JAIL_SECCOMP_QEMU);
        assert_false(plan->keep_caps);
        bool seen[64] = { false };
        for (size_t i = 0; i < plan->n_fds; i++) { /* each number once */
                assert_in_range(plan->fds[i].as, 0, 63);
                assert_false(seen[plan->fds[i].as]);
                seen[plan->fds[i].as] = true;
        }
        assert_int_equal(plan->n_fds, 3 + 6);
        for (size_t i = 0; i < plan->n_mounts; i++)
                assert_false(plan->mounts[i].write);
        jail_plan_free(plan);
        NB_AUTO_FREE char *args = joined(&spec);
        assert_non_null(strstr(args, "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny "));
        assert_non_null(strstr(args, "-accel tcg"));
        assert_non_null(strstr(args, "tsc_early_khz=2300000 "));
        assert_null(strstr(args, "node-name=disk"));
        assert_null(strstr(args, "/data/"));
}

/* All of the machine, so that nothing joins it unseen. The descriptors are those of test_spec(): 42 is no socket. */
static void the_machine_is_this_and_nothing_else(void **state) {
        (void)state;
        struct accel tcg = { .kind = ACCEL_TCG, .tsc_khz = 2300000 };
        struct vmm_spec spec = test_spec(&tcg);
        int agent[2], share[2], qmp[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, agent), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, share), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp), 0);
        spec.agent_fd = agent[0];
        spec.vhost_fd = share[0];
        spec.qmp_fd = qmp[0];
        spec.console_fd = -1;
        spec.disk_fd = spec.tap_fd = 46;
        NB_AUTO_FREE char *args = joined(&spec);
        assert_string_equal(
            args,
            "/usr/bin/qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none "
            "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny "
            "-global virtio-mmio.force-legacy=false "
            "-M microvm,memory-backend=ram,acpi=on,isa-serial=off,auto-kernel-cmdline=off,pit=on,pic=off,rtc=on "
            "-accel tcg,thread=multi -cpu max -smp 2 -m size=1024M "
            "-object memory-backend-memfd,id=ram,size=1024M,share=on,prealloc=off,merge=off,dump=off "
            "-kernel /boot/vmlinux -initrd /boot/initrd -append console=hvc0 quiet panic=-1 8250.nr_uarts=0 "
            "cryptomgr.notests ipv6.disable=1 initcall_blacklist=jent_mod_init,load_system_certificate_list no_timer_check "
            "mitigations=off tsc=reliable tsc_early_khz=2300000 lpj=9200000 "
            "-add-fd fd=3,set=3 -chardev file,id=console,path=/dev/fdset/3,append=on "
            "-chardev socket,id=agent,fd=4 -device virtio-serial-device,id=serial,max_ports=2 "
            "-device virtconsole,bus=serial.0,nr=0,chardev=console "
            "-device virtserialport,bus=serial.0,nr=1,chardev=agent,name=nixbox.0 "
            "-add-fd fd=5,set=5 -blockdev driver=file,node-name=root,filename=/dev/fdset/5,locking=off,read-only=on,"
            "discard=ignore,cache.no-flush=on -device virtio-blk-device,drive=root,rerror=report,werror=report "
            "-add-fd fd=6,set=6 -blockdev driver=file,node-name=modules,filename=/dev/fdset/6,locking=off,read-only=on,"
            "discard=ignore,cache.no-flush=on -device virtio-blk-device,drive=modules,rerror=report,werror=report "
            "-add-fd fd=7,set=7 -blockdev driver=file,node-name=disk,filename=/dev/fdset/7,locking=off,read-only=off,"
            "discard=unmap,cache.no-flush=on -device virtio-blk-device,drive=disk,rerror=report,werror=report "
            "-chardev socket,id=share,fd=8 "
            "-device vhost-user-fs-device,chardev=share,tag=nixbox,queue-size=1024,num-request-queues=1 "
            "-netdev tap,id=net,fd=9,vhost=off -device virtio-net-device,netdev=net,mac=02:6e:62:00:00:02,mrg_rxbuf=on,"
            "rx_queue_size=1024,tx_queue_size=256 "
            "-device virtio-balloon-device,id=balloon,deflate-on-oom=on,free-page-reporting=on "
            "-chardev socket,id=qmp,fd=10 -mon chardev=qmp,mode=control ");
        for (int i = 0; i < 2; i++) {
                nb_close(agent[i]);
                nb_close(share[i]);
                nb_close(qmp[i]);
        }
}

static rlim_t limit_of(const struct jail_plan *plan, int resource) {
        for (size_t i = 0; i < plan->n_limits; i++)
                if (plan->limits[i].resource == resource)
                        return plan->limits[i].value;
        return RLIM_INFINITY;
}

static void qemu_is_bounded(void **state) {
        (void)state;
        struct accel tcg = { .kind = ACCEL_TCG };
        struct vmm_spec spec = test_spec(&tcg);
        spec.cgroup_fd = 77;
        struct jail_plan *plan = NULL;
        assert_int_equal(vmm_plan(&spec, &plan, NULL), 0);
        assert_int_equal(limit_of(plan, RLIMIT_FSIZE), spec.memory);
        assert_int_equal(limit_of(plan, RLIMIT_MEMLOCK), 0);
        assert_int_equal(limit_of(plan, RLIMIT_MSGQUEUE), 0);
        assert_in_range(limit_of(plan, RLIMIT_NOFILE), 64, 1024);
        assert_in_range(limit_of(plan, RLIMIT_NPROC), spec.cpus + 64, 300);
        assert_int_equal(plan->oom_score_adj, JAIL_OOM_FIRST);
        assert_int_equal(plan->cgroup_fd, 77);
        assert_true(plan->landlock.on && plan->landlock.read);
        assert_false(plan->landlock.write || plan->landlock.tcp || plan->landlock.abstract);
        plan->landlock_abi = 6;
        NB_AUTO_FREE char *text = jail_describe(plan);
        assert_non_null(strstr(text, "  landlock      ABI 6: files are read and run, not changed; no devices, no TCP"));
        assert_non_null(strstr(text, "  cgroup        the box's\n"));
        assert_non_null(strstr(text, "  limit         threads = 130\n"));
        jail_plan_free(plan);
}

static void plan_for_kvm_gives_no_hints_about_the_clock(void **state) {
        (void)state;
        struct accel kvm = { .kind = ACCEL_KVM };
        struct vmm_spec spec = test_spec(&kvm);
        NB_AUTO_ERROR err = { 0 };
        struct jail_plan *plan = NULL;
        assert_int_equal(vmm_plan(&spec, &plan, &err), -EINVAL); /* no descriptor */
        spec.kvm_fd = 50;
        spec.disk_fd = 51;
        NB_AUTO_FREE char *args = joined(&spec);
        assert_non_null(strstr(args, "-accel kvm,device=/dev/fdset/3 "));
        assert_non_null(strstr(args, "fd=3,set=3"));
        assert_non_null(strstr(args, "-cpu host"));
        assert_non_null(strstr(args, "node-name=disk"));
        assert_null(strstr(args, "cache.no-flush=off"));
        spec.disk_flush = true;
        NB_AUTO_FREE char *flushed = joined(&spec);
        assert_non_null(strstr(strstr(flushed, "node-name=disk"), "cache.no-flush=off"));
        assert_null(strstr(args, "tsc_early_khz"));
}

static void plan_refuses_impossible_machines(void **state) {
        (void)state;
        struct accel tcg = { .kind = ACCEL_TCG };
        struct vmm_spec spec = test_spec(&tcg);
        struct jail_plan *plan = NULL;
        NB_AUTO_ERROR err = { 0 };
        spec.memory = 1 << 20;
        assert_int_equal(vmm_plan(&spec, &plan, &err), -EINVAL);
        assert_non_null(strstr(err.hint, "machine.memory"));
        spec = test_spec(&tcg);
        spec.cpus = 0;
        assert_int_equal(vmm_plan(&spec, &plan, &err), -EINVAL);
        assert_non_null(strstr(err.hint, "machine.cpus"));
}

/* --- QMP --- */

static int parse(const char *text, struct qmp_message *m) {
        NB_AUTO_BUF in = { 0 };
        nb_buf_add(&in, text, strlen(text));
        return qmp_next(&in, m);
}

static void qmp_reads_what_qemu_says(void **state) {
        (void)state;
        struct qmp_message m;
        assert_int_equal(parse("{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 13}}, \"capabilities\": [\"oob\"]}}\r\n", &m),
                         1);
        assert_int_equal(m.kind, QMP_GREETING);
        assert_int_equal(parse("{\"return\": {\"actual\": 1073741824}, \"id\": 7}\r\n", &m), 1);
        assert_int_equal(m.kind, QMP_RETURN);
        assert_int_equal(m.id, 7);
        assert_true(m.has_actual);
        assert_int_equal(m.actual, 1073741824);
        assert_int_equal(parse("{\"timestamp\": {\"seconds\": 1}, \"event\": \"SHUTDOWN\", \"data\": "
                               "{\"guest\": true, \"reason\": \"guest-shutdown\"}}\r\n",
                               &m),
                         1);
        assert_int_equal(m.event, QMP_EVENT_SHUTDOWN);
        assert_string_equal(m.detail, "guest-shutdown");
        assert_int_equal(parse("{\"event\": \"NEW_THING\"}\n", &m), 1);
        assert_int_equal(m.event, QMP_EVENT_OTHER);
        assert_int_equal(parse("{\"id\": 2, \"error\": {\"class\": \"X\", \"desc\": \"a\\u001bb\"}}\n", &m), 1);
        assert_int_equal(m.kind, QMP_ERROR);
        assert_string_equal(m.detail, "a\\x1bb");
        assert_int_equal(parse("{\"event\": \"RES", &m), 0);
}

static void qmp_refuses_everything_else(void **state) {
        (void)state;
        static const char *const bad[] = {
                "\n",
                "[]\n",
                "{}\n",
                "nonsense\n",
                "{\"event\": 3}\n",
                "{\"return\": {}, \"error\": {}}\n",
                "{\"return\": {}, \"id\": -1}\n",
                "{\"return\": {\"actual\": \"much\"}}\n",
                "{\"return\": {\"actual\": -5}}\n",
                "{\"error\": []}\n",
                "{\"QMP\": 1}\n",
                "{\"event\": \"A\", \"event\": \"B\"}\n",
                "{\"return\": 1e999}\n",
                "{\"return\": [[[[[[[[[[[[[[]]]]]]]]]]]]]]}\n",
        };
        struct qmp_message m;
        for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++)
                assert_int_equal(parse(bad[i], &m), -EPROTO);
        NB_AUTO_FREE char *line = nb_calloc(QMP_LINE_MAX + 1, 1);
        memset(line, ' ', QMP_LINE_MAX);
        assert_int_equal(parse(line, &m), -EPROTO);
        line[QMP_LINE_MAX - 1] = 0;
        assert_int_equal(parse(line, &m), 0);
}

static void qmp_floods_are_noticed(void **state) {
        (void)state;
        struct qmp_meter m = { .last_ms = 1000 };
        for (unsigned i = 0; i < QMP_BURST; i++)
                assert_true(qmp_meter_take(&m, 1000));
        assert_false(qmp_meter_take(&m, 1000));
        struct qmp_meter slow = { 0 };
        for (unsigned i = 0; i < 10 * QMP_BURST; i++)
                assert_true(qmp_meter_take(&slow, 1000u * i / QMP_RATE));
}

/* --- monitor --- */

struct seen {
        enum vmm_event events[8];
        char details[8][QMP_DETAIL];
        int count;
        struct vmm_monitor **free_at_once;
};

static void on_event(void *user, enum vmm_event event, const char *detail) {
        struct seen *s = user;
        assert_in_range(s->count, 0, 7);
        s->events[s->count] = event;
        (void)snprintf(s->details[s->count++], QMP_DETAIL, "%s", detail);
        if (s->free_at_once) {
                vmm_monitor_free(*s->free_at_once);
                *s->free_at_once = NULL;
        }
}

/* Runs a monitor against a QEMU that says `script` and closes; returns what the monitor wrote (new string). */
static char *converse(const char *script, struct seen *seen, bool free_at_once) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        struct event_base *base = event_base_new();
        struct vmm_monitor *m = NULL;
        if (free_at_once)
                seen->free_at_once = &m;
        struct vmm_monitor_ops ops = { on_event, seen };
        assert_int_equal(vmm_monitor_new(base, pair[0], &ops, &m, NULL), 0);
        vmm_monitor_balloon(m, 123);
        vmm_monitor_run(m, false);
        assert_int_equal(nb_write_all(pair[1], script, strlen(script)), 0);
        (void)event_base_loop(base, EVLOOP_NONBLOCK);
        assert_int_equal(shutdown(pair[1], SHUT_WR), 0);
        for (int i = 0; i < 20 && m; i++)
                (void)event_base_loop(base, EVLOOP_NONBLOCK);
        vmm_monitor_free(m);
        char *wrote = NULL;
        assert_int_equal(nb_read_fd(pair[1], 4096, &wrote, NULL), 0);
        nb_close(pair[1]);
        event_base_free(base);
        return wrote;
}

static void monitor_negotiates_and_reports(void **state) {
        (void)state;
        struct seen seen = { 0 };
        NB_AUTO_FREE char *wrote = converse("{\"QMP\": {}}\n{\"return\": {}, \"id\": 1}\n{\"error\": {}, \"id\": 2}\n"
                                            "{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-reset\"}}\n",
                                            &seen, false);
        assert_string_equal(wrote, "{\"execute\":\"qmp_capabilities\",\"id\":1}\n"
                                   "{\"execute\":\"balloon\",\"id\":2,\"arguments\":{\"value\":123}}\n"
                                   "{\"execute\":\"stop\",\"id\":3}\n");
        assert_int_equal(seen.count, 3);
        assert_int_equal(seen.events[0], VMM_EVENT_READY);
        assert_int_equal(seen.events[1], VMM_EVENT_SHUTDOWN);
        assert_string_equal(seen.details[1], "guest-reset");
        assert_int_equal(seen.events[2], VMM_EVENT_CLOSED);
}

static void monitor_ends_at_the_first_wrong_word(void **state) {
        (void)state;
        static const char *const scripts[] = {
                "hello\n",
                "{\"event\": \"RESET\"}\n",
                "{\"QMP\": {}}\n{\"QMP\": {}}\n",
                "{\"QMP\": {}}\n{\"error\": {}, \"id\": 1}\n",
        };
        for (size_t i = 0; i < NB_ARRAY_LEN(scripts); i++)
                for (int freeing = 0; freeing < 2; freeing++) {
                        struct seen seen = { 0 };
                        NB_AUTO_FREE char *wrote = converse(scripts[i], &seen, freeing);
                        assert_non_null(wrote);
                        assert_int_equal(seen.count, 1);
                        assert_int_equal(seen.events[0], VMM_EVENT_PROTOCOL);
                }
}

/* What must hold cannot be left to QEMU's good will. */
static void monitor_ends_when_the_machine_is_not_stopped(void **state) {
        (void)state;
        struct seen seen = { 0 };
        NB_AUTO_FREE char *wrote =
            converse("{\"QMP\": {}}\n{\"return\": {}, \"id\": 1}\n{\"error\": {}, \"id\": 3}\n", &seen, false);
        assert_non_null(wrote);
        assert_int_equal(seen.count, 2);
        assert_int_equal(seen.events[0], VMM_EVENT_READY);
        assert_int_equal(seen.events[1], VMM_EVENT_PROTOCOL);
        assert_string_equal(seen.details[1], "QEMU refused to stop the machine");
}

static void monitor_ends_a_flood(void **state) {
        (void)state;
        NB_AUTO_BUF script = { 0 };
        nb_buf_add(&script, "{\"QMP\": {}}\n", 12);
        for (unsigned i = 0; i < QMP_BURST + 10; i++)
                nb_buf_add(&script, "{\"event\":\"X\"}\n", 14);
        nb_buf_add(&script, "", 1);
        struct seen seen = { 0 };
        NB_AUTO_FREE char *wrote = converse((const char *)nb_buf_bytes(&script), &seen, false);
        assert_non_null(wrote);
        assert_int_equal(seen.count, 1);
        assert_int_equal(seen.events[0], VMM_EVENT_PROTOCOL);
}

/* --- memory --- */

static void memory_figures_come_from_status(void **state) {
        (void)state;
        const char *text = "Name:\tRssAnon: 9 kB\nVmRSS:\t 900 kB\nRssAnon:\t     100 kB\nRssFile:\t      20 kB\n"
                           "RssShmem:\t     300 kB\nThreads:\t4\n";
        uint64_t guest, own;
        assert_int_equal(memory_parse_status(text, &guest, &own), 0);
        assert_int_equal(guest, 300 * 1024);
        assert_int_equal(own, 120 * 1024);
        assert_int_equal(memory_parse_status("RssAnon: 1 kB\nRssFile: 1 kB\nRssShmem: 1 kB\nVmSwap: 5 kB\n", &guest, &own), 0);
        assert_int_equal(own, 7 * 1024);
        assert_int_equal(memory_parse_status("RssAnon: 1 kB\n", &guest, &own), -EINVAL);
        assert_int_equal(memory_parse_status("RssAnon: 1 kB\nRssFile: x kB\nRssShmem: 1 kB\n", &guest, &own), -EINVAL);
        assert_int_equal(vmm_memory_use(getpid(), &guest, &own), 0);
        assert_true(own > 0);
}

static void processor_time_comes_from_stat(void **state) {
        (void)state;
        uint64_t ticks;
        assert_int_equal(memory_parse_stat("1 (a) b) 1 2) S 3 4 5 6 7 8 9 10 11 12 30 12 15 16 17\n", &ticks), 0);
        assert_int_equal(ticks, 42);
        assert_int_equal(memory_parse_stat("1 (x) S 3 4 5 6 7 8 9 10 11 12 30", &ticks), -EINVAL);
        assert_int_equal(memory_parse_stat("1 (x) S 3 4 5 6 7 8 9 10 11 12 a 12 15\n", &ticks), -EINVAL);
        assert_int_equal(memory_parse_stat("", &ticks), -EINVAL);
        assert_int_equal(vmm_cpu_time(getpid(), &ticks), 0);
}

#define MIB (1ull << 20)

/* A guest with 4 GiB that holds `cached` of page cache and gives back what it is asked for, looked at every five seconds. */
struct model {
        struct memory_policy policy;
        struct memory_figures now;
        uint64_t given;
        unsigned wishes, compactions;
};

static void run_model(struct model *m, unsigned seconds, unsigned cpu_percent, bool obedient) {
        for (unsigned t = 0; t < seconds; t += MEMORY_EVERY_MS / 1000) {
                struct memory_wish wish = memory_decide(&m->policy, &m->now);
                assert_true(wish.cache <= m->now.cached);
                m->wishes += wish.cache > 0;
                m->compactions += wish.compact;
                if (obedient) {
                        m->now.cached -= wish.cache;
                        m->now.free += wish.cache;
                        m->now.host -= wish.cache;
                        m->given += wish.cache;
                }
                m->now.now_ms += MEMORY_EVERY_MS;
                m->now.cpu_ms += MEMORY_EVERY_MS * cpu_percent / 100;
        }
}

static struct model new_model(uint64_t cached) {
        return (struct model){ .now = { .now_ms = 1000000,
                                        .cpu_ms = 5000,
                                        .host = cached + 200 * MIB,
                                        .total = 4096 * MIB,
                                        .free = 4096 * MIB - cached - 200 * MIB,
                                        .cached = cached } };
}

static void idle_guest_gives_its_cache_back_within_a_minute(void **state) {
        (void)state;
        struct model m = new_model(1200 * MIB);
        run_model(&m, 10, 3, true);
        assert_int_equal(m.given, 0); /* not at once */
        run_model(&m, 40, 3, true);
        assert_in_range(m.now.cached, 0, 96 * MIB);
        unsigned before = m.wishes;
        run_model(&m, 600, 3, true);
        assert_int_equal(m.wishes, before); /* and is then left alone */
}

static void busy_guest_keeps_nearly_all_of_it(void **state) {
        (void)state;
        struct model m = new_model(1200 * MIB);
        run_model(&m, 30, 150, true);
        assert_int_equal(m.given, 0);
        run_model(&m, 60, 150, true);
        assert_in_range(m.given, 1, 400 * MIB);
        run_model(&m, 1800, 150, true);
        assert_true(m.now.cached < 200 * MIB); /* but not for ever */
}

static void asking_in_vain_becomes_rare(void **state) {
        (void)state;
        struct model m = new_model(1200 * MIB);
        run_model(&m, 3600, 3, false);
        assert_in_range(m.wishes, 5, 25);
}

static void scattered_memory_is_moved_together(void **state) {
        (void)state;
        struct model m = new_model(40 * MIB);
        m.now.host += 500 * MIB;
        run_model(&m, 3600, 3, true);
        assert_in_range(m.compactions, 4, 15);
        assert_int_equal(m.wishes, 0);
        m.now.host -= 500 * MIB;
        m.compactions = 0;
        run_model(&m, 600, 3, true);
        assert_int_equal(m.compactions, 0);
}

static void lies_about_memory_do_no_harm(void **state) {
        (void)state;
        struct model m = new_model(0);
        m.now.cached = UINT64_MAX;
        run_model(&m, 60, 3, false);
        m.now.total = UINT64_MAX;
        m.now.free = UINT64_MAX;
        run_model(&m, 60, 3, false);
        m.now = (struct memory_figures){ .now_ms = m.now.now_ms };
        run_model(&m, 60, 3, false);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(tsc_is_the_median_of_sane_pairs),
                cmocka_unit_test(tsc_does_not_overflow),
                cmocka_unit_test(memo_survives_its_file_and_nothing_else_does),
                cmocka_unit_test(accelerator_can_be_forced),
                cmocka_unit_test(network_device_only_with_a_tap),
                cmocka_unit_test(plan_passes_everything_as_descriptors),
                cmocka_unit_test(the_machine_is_this_and_nothing_else),
                cmocka_unit_test(qemu_is_bounded),
                cmocka_unit_test(plan_for_kvm_gives_no_hints_about_the_clock),
                cmocka_unit_test(plan_refuses_impossible_machines),
                cmocka_unit_test(qmp_reads_what_qemu_says),
                cmocka_unit_test(qmp_refuses_everything_else),
                cmocka_unit_test(qmp_floods_are_noticed),
                cmocka_unit_test(monitor_negotiates_and_reports),
                cmocka_unit_test(monitor_ends_at_the_first_wrong_word),
                cmocka_unit_test(monitor_ends_when_the_machine_is_not_stopped),
                cmocka_unit_test(monitor_ends_a_flood),
                cmocka_unit_test(memory_figures_come_from_status),
                cmocka_unit_test(processor_time_comes_from_stat),
                cmocka_unit_test(idle_guest_gives_its_cache_back_within_a_minute),
                cmocka_unit_test(busy_guest_keeps_nearly_all_of_it),
                cmocka_unit_test(asking_in_vain_becomes_rare),
                cmocka_unit_test(scattered_memory_is_moved_together),
                cmocka_unit_test(lies_about_memory_do_no_harm),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
