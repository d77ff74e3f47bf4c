/* The gateway process itself: its start, its jail, its loop and the line to the supervisor. */
#pragma once

/** Body of `nixbox-gateway gateway`. Returns its exit status. */
int gateway_main(int argc, char **argv);
