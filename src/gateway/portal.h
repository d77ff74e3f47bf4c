/* The process that makes sockets in the box's network namespace. */
#pragma once

/** Body of `nixbox-gateway portal`. Returns its exit status. */
int portal_main(int argc, char **argv);
