/* The host's side of the table (see table.h): names, words and how to judge. */
#include "attack/table.h"

#include "base/mem.h"

#define PROBE(class, name, judge, function, args, description) { class, name, JUDGE_##judge, #function, args, description },
#define LOOK(class, name, function, description) { class, name, JUDGE_LOOK, #function, "", description },

const struct attack_probe attack_probes[] = { ATTACK_PROBES(PROBE) ATTACK_LOOKS(LOOK) };
const size_t attack_n_probes = NB_ARRAY_LEN(attack_probes);
