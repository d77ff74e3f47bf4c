/* Downloading in parallel (see fetch_engine.h): one libcurl multi handle, a few transfers at a time. Each item goes through its
 * addresses in turn; a connection that breaks is tried again and goes on where it was. */
#include "image/fetch_engine.h"

#include <errno.h>
#include <string.h>

#include <curl/curl.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/text.h"
#include "image/fetch_part.h"

#define PARALLEL 8u
#define TRIES_MAX 4u   /* of one address whose connection breaks */
#define RETRY_MS 300u  /* before the second try; doubled each time */
#define LOCKED_MS 200u /* between looks at a file that another process downloads */
#define POLL_MS 100
#define CONNECT_SECONDS 30L
#define STALLED_SECONDS 30L /* without a byte */
#define REDIRECTS_MAX 5L
#define STEP "downloading"

enum state { WAITING, ACTIVE, DONE };
struct transfer {
        const struct fetch_item *item;
        enum state state;
        struct fetch_part part;
        CURL *easy;
        size_t url;          /* the address that is tried */
        unsigned tries;      /* of it */
        uint64_t not_before; /* nb_now_ms() */
        bool left_over;      /* part of the file is of an earlier run */
        struct nb_error why; /* what the addresses before said */
        char text[CURL_ERROR_SIZE];
};
struct fetch {
        const struct store *store;
        CURLM *multi;
        struct transfer *list;
        size_t n, active, done;
        const struct image_progress *progress;
        uint64_t total; /* bytes of all that was not there */
        size_t failed;  /* the item an error is about; n: none */
};

static size_t on_bytes(char *bytes, size_t size, size_t n, void *user) {
        struct transfer *t = user;
        return fetch_part_write(&t->part, bytes, size * n) ? size * n : 0;
}

static CURL *make_easy(struct transfer *t) {
        CURL *e = curl_easy_init();
        if (!e)
                return NULL;
        const char *url = t->item->urls[t->url];
        bool ok = curl_easy_setopt(e, CURLOPT_URL, url) == CURLE_OK &&
                  curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https,file") == CURLE_OK &&
                  curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, "http,https") == CURLE_OK &&
                  curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_bytes) == CURLE_OK &&
                  curl_easy_setopt(e, CURLOPT_WRITEDATA, t) == CURLE_OK &&
                  curl_easy_setopt(e, CURLOPT_PRIVATE, t) == CURLE_OK &&
                  curl_easy_setopt(e, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)t->part.size) == CURLE_OK;
        t->text[0] = 0;
        (void)curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->text);
        (void)curl_easy_setopt(e, CURLOPT_FAILONERROR, 1L);
        (void)curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 1L);
        (void)curl_easy_setopt(e, CURLOPT_MAXREDIRS, REDIRECTS_MAX);
        (void)curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
        (void)curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
        (void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
        (void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, STALLED_SECONDS);
        (void)curl_easy_setopt(e, CURLOPT_USERAGENT, "nixbox");
        if (ok)
                return e;
        curl_easy_cleanup(e);
        return NULL;
}

static void end_transfer(struct fetch *f, struct transfer *t) {
        if (!t->easy)
                return;
        (void)curl_multi_remove_handle(f->multi, t->easy);
        curl_easy_cleanup(t->easy);
        t->easy = NULL;
}

static void wait_for(struct transfer *t, uint64_t ms) {
        t->state = WAITING;
        t->not_before = nb_now_ms() + ms;
}

static void finish(struct fetch *f, struct transfer *t) {
        fetch_part_close(&t->part);
        t->state = DONE;
        f->done++;
}

/* Of what several addresses said, the gravest counts. */
static int worse(int a, int b) {
        return a == EBADMSG || b == EBADMSG ? EBADMSG : a == ENETUNREACH || b == ENETUNREACH ? ENETUNREACH : a;
}

/* This address has not given it: on to the next one, or that was it. */
static int next_url(struct fetch *f, struct transfer *t, const struct nb_error *why, struct nb_error *err) {
        if (t->why.code) {
                NB_AUTO_FREE char *before = nb_strdup(t->why.what);
                nb_fail(&t->why, worse(t->why.code, why->code), "%s; %s", before, why->what);
        } else {
                nb_fail(&t->why, why->code, "%s", why->what);
        }
        t->tries = 0;
        if (t->item->urls[++t->url]) {
                wait_for(t, 0);
                return 0;
        }
        f->failed = (size_t)(t - f->list);
        return nb_fail(err, t->why.code, "%s: %s", t->item->label, t->why.what);
}

static int check_whole(struct fetch *f, struct transfer *t, struct nb_error *err) {
        NB_AUTO_ERROR why = { 0 };
        int r = fetch_part_finish(&t->part, t->item, &why);
        if (r == 0) {
                finish(f, t);
                return 0;
        }
        if (r == -EBADMSG && t->left_over) { /* the fault may be in what was there before */
                t->left_over = false;
                wait_for(t, 0);
                return 0;
        }
        if (r == -EBADMSG)
                return next_url(f, t, &why, err);
        f->failed = (size_t)(t - f->list);
        return fetch_write_error(f->store, -r, err);
}

/* May another try at the same address succeed? */
static bool is_passing(CURLcode code, long status) {
        switch (code) {
        case CURLE_OPERATION_TIMEDOUT:
        case CURLE_PARTIAL_FILE:
        case CURLE_RECV_ERROR:
        case CURLE_SEND_ERROR:
        case CURLE_GOT_NOTHING:
        case CURLE_HTTP2:
        case CURLE_HTTP2_STREAM: return true;
        default: return code == CURLE_HTTP_RETURNED_ERROR && (status == 429 || status >= 500);
        }
}

static int on_failure(struct fetch *f, struct transfer *t, CURLcode code, long status, struct nb_error *err) {
        const char *url = t->item->urls[t->url], *text = t->text[0] ? t->text : curl_easy_strerror(code);
        bool resumed = t->part.size > 0 && (code == CURLE_RANGE_ERROR || code == CURLE_BAD_DOWNLOAD_RESUME ||
                                            (code == CURLE_HTTP_RETURNED_ERROR && status == 416));
        NB_AUTO_ERROR why = { 0 };
        if (t->part.error && t->part.error != EFBIG) {
                f->failed = (size_t)(t - f->list);
                return fetch_write_error(f->store, t->part.error, err);
        }
        if (t->part.error == EFBIG) {
                nb_fail(&why, EBADMSG, "%s gives more than the %llu bytes that are expected", url,
                        (unsigned long long)t->part.limit);
                (void)fetch_part_restart(&t->part);
                return next_url(f, t, &why, err);
        }
        if ((resumed || is_passing(code, status)) && ++t->tries < TRIES_MAX) {
                if (resumed && fetch_part_restart(&t->part) < 0)
                        return fetch_write_error(f->store, EIO, err);
                wait_for(t, resumed ? 0 : (uint64_t)RETRY_MS << t->tries);
                return 0;
        }
        bool gone =
            (code == CURLE_HTTP_RETURNED_ERROR && (status == 404 || status == 410)) || code == CURLE_FILE_COULDNT_READ_FILE;
        NB_AUTO_FREE char *clean = nb_text_clean(text, 0);
        nb_fail(&why, gone ? ENOENT : ENETUNREACH, gone ? "it is not at %s (%s)" : "cannot get %s: %s", url, clean);
        return next_url(f, t, &why, err);
}

/* Begins, or goes on with, one item. */
static int start(struct fetch *f, struct transfer *t, struct nb_error *err) {
        int r = 0;
        if (t->part.fd < 0) {
                r = fetch_part_open(&t->part, f->store, t->item, err);
                t->left_over = r == 0 && t->part.size > 0;
        }
        if (r == 1) {
                finish(f, t);
                return 0;
        }
        if (r == -EAGAIN) {
                store_step(f->progress, STEP, "waiting for another nixbox that downloads the same", 0, 0);
                wait_for(t, LOCKED_MS);
                return 0;
        }
        if (r < 0) {
                f->failed = (size_t)(t - f->list);
                return r;
        }
        if (t->item->size && t->part.size == t->item->size)
                return check_whole(f, t, err);
        t->easy = make_easy(t);
        if (!t->easy || curl_multi_add_handle(f->multi, t->easy) != CURLM_OK)
                return nb_fail(err, ENOMEM, "%s: the download cannot be started", t->item->label);
        t->state = ACTIVE;
        f->active++;
        return 0;
}

static int start_some(struct fetch *f, struct nb_error *err) {
        uint64_t now = nb_now_ms();
        for (size_t i = 0; i < f->n && f->active < PARALLEL; i++) {
                struct transfer *t = &f->list[i];
                int r = t->state == WAITING && t->not_before <= now ? start(f, t, err) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

static int collect(struct fetch *f, struct nb_error *err) {
        int left = 0;
        for (const CURLMsg *m; (m = curl_multi_info_read(f->multi, &left));) {
                struct transfer *t = NULL;
                long status = 0;
                CURLcode code = m->data.result;
                if (m->msg != CURLMSG_DONE)
                        continue;
                (void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
                (void)curl_easy_getinfo(m->easy_handle, CURLINFO_RESPONSE_CODE, &status);
                end_transfer(f, t);
                f->active--;
                int r = code == CURLE_OK ? check_whole(f, t, err) : on_failure(f, t, code, status, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void show(const struct fetch *f) {
        uint64_t have = 0;
        const char *label = NULL;
        for (size_t i = 0; i < f->n; i++) {
                const struct transfer *t = &f->list[i];
                have += t->state == DONE ? t->item->size : t->part.size;
                if (t->state == ACTIVE && !label)
                        label = t->item->label;
        }
        if (label)
                store_step(f->progress, STEP, label, have, f->total);
}

static int run(struct fetch *f, struct nb_error *err) {
        while (f->done < f->n) {
                int running = 0, r = start_some(f, err);
                if (r < 0)
                        return r;
                if (f->done == f->n)
                        return 0;
                if (curl_multi_perform(f->multi, &running) != CURLM_OK)
                        return nb_fail(err, EIO, "libcurl failed");
                r = collect(f, err);
                if (r < 0)
                        return r;
                show(f);
                (void)curl_multi_poll(f->multi, NULL, 0, POLL_MS, NULL);
        }
        return 0;
}

static bool chosen(const struct fetch *f, const char *hash) {
        for (size_t i = 0; i < f->n; i++)
                if (strcmp(f->list[i].item->hash, hash) == 0)
                        return true;
        return false;
}

/* The items that are not in the cache, each hash once. */
static void choose(struct fetch *f, const struct fetch_item *items, size_t n) {
        f->list = nb_calloc(n, sizeof *f->list);
        for (size_t i = 0; i < n; i++) {
                NB_AUTO_FREE char *path = fetch_path(f->store, items[i].hash);
                if (access(path, R_OK) == 0 || chosen(f, items[i].hash))
                        continue;
                f->total += items[i].size;
                f->list[f->n++] = (struct transfer){ .item = &items[i], .part.fd = -1 };
        }
        f->failed = f->n;
}

int fetch_engine(const struct store *s, const struct fetch_item *items, size_t n, const struct image_progress *progress,
                 size_t *ret_failed, struct nb_error *err) {
        struct fetch f = { .store = s, .progress = progress };
        choose(&f, items, n);
        int r = 0;
        if (f.n > 0 && (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(f.multi = curl_multi_init())))
                r = nb_fail(err, ENOMEM, "libcurl does not start");
        if (r == 0 && f.n > 0)
                r = run(&f, err);
        *ret_failed = r < 0 && f.failed < f.n ? (size_t)(f.list[f.failed].item - items) : n;
        for (size_t i = 0; i < f.n; i++) {
                end_transfer(&f, &f.list[i]);
                fetch_part_close(&f.list[i].part);
                nb_error_clear(&f.list[i].why);
        }
        if (f.multi)
                (void)curl_multi_cleanup(f.multi);
        free(f.list);
        return r;
}
