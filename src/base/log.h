/* The one way to log. Short-lived commands log to stderr for people; the supervisor and its children log lines with a
 * time to the box's log file. Verbs print results themselves; libraries log only what a later reader of the log needs. */
#pragma once
#include "error.h"

enum nb_log_level { NB_LOG_ERROR, NB_LOG_WARN, NB_LOG_INFO, NB_LOG_DEBUG };

/** Messages above this level are dropped. Default NB_LOG_WARN. */
void nb_log_set_level(enum nb_log_level level);
enum nb_log_level nb_log_level(void);
/** From now on write timestamped lines "RFC3339 tag: text" to this descriptor (kept open by the caller). */
void nb_log_to(int fd, const char *tag);
void nb_log(enum nb_log_level level, const char *fmt, ...) NB_PRINTF(2, 3);
#define nb_debug(...) nb_log(NB_LOG_DEBUG, __VA_ARGS__)
#define nb_info(...) nb_log(NB_LOG_INFO, __VA_ARGS__)
#define nb_warn(...) nb_log(NB_LOG_WARN, __VA_ARGS__)
