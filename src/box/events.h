/* The event log: one JSON object a line in events.jsonl, appended whole, never a secret's value. */
#pragma once
#include <jansson.h>

#include "base/error.h"

#define EVENTS_FILE "events.jsonl"
#define EVENTS_FILE_OLD "events.jsonl.1" /* what was rotated away */

struct events;
/** Opens (creates, mode 0600) the log of a box for appending. */
int events_open(const char *state_dir, const char *box, struct events **ret, struct nb_error *err);
void events_close(struct events *e);
/** Appends an event. `fields` (reference taken over, may be NULL) is merged after time, box and type. A log that grew beyond
 *  its limit is rotated to events.jsonl.1. */
void events_add(struct events *e, const char *type, json_t *fields);
/** A JSON string of any bytes: what is not valid UTF-8, and control characters, become \xNN. For text from outside. */
json_t *events_text(const char *text);
/** One event as a line for people, cleaned of control characters. New string. */
char *events_describe(const json_t *event);
/** A line of the log as an event: an object with a type. NULL for garbage. The caller's reference. */
json_t *events_parse(const char *line, size_t len);
