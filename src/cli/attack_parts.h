/* The parts of nixbox attack: the program inside, and the table. */
#pragma once
#include "attack/answer.h"
#include "attack/plan.h"
#include "cli/cli.h"
#include "cli/progress.h"

/** Set by SIGINT, SIGTERM and SIGHUP while a run is under way: the number of the first one. */
extern volatile int attack_signal;

/** Puts the program and the plan into the box, runs it as root there, and takes what it says into the rows. */
int attack_run_inside(struct cli *cli, struct attack_rows *rows, const struct attack_facts *facts, struct progress *progress,
                      struct nb_error *err);

/** The names and what each probe does. */
int attack_show_list(struct cli *cli, struct nb_error *err);
/** The table, or with --json one object. */
int attack_show(struct cli *cli, const char *box, const struct attack_rows *rows, struct nb_error *err);
/** "84 probes: 81 held, 3 allowed by your config, 0 open". New string. */
char *attack_summary(const struct attack_rows *rows);
