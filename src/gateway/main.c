/* nixbox-gateway: which of the processes at the box's network this one is (see gateway.h). Started by the supervisor only. */
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/mem.h"
#include "gateway/gateway.h"
#include "gateway/portal.h"
#include "gateway/resolver.h"
#include "gateway/serve.h"

int main(int argc, char **argv) {
        static const struct {
                const char *name;
                int (*run)(int argc, char **argv);
        } roles[] = {
                { "gateway", gateway_main },
                { "resolver", resolver_main },
                { "portal", portal_main },
        };
        (void)prctl(PR_SET_NAME, GATEWAY_PROGRAM, 0, 0, 0); /* started from a descriptor, it would be named after that */
        for (size_t i = 0; argc > 1 && i < NB_ARRAY_LEN(roles); i++)
                if (strcmp(argv[1], roles[i].name) == 0)
                        return roles[i].run(argc - 1, argv + 1);
        fprintf(stderr, "nixbox-gateway is a part of nixbox and is started by it\n");
        return 2;
}
