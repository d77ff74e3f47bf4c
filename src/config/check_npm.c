/* The keys of image: that are about npm packages (see check.h). */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "config/check.h"
#include "config/npm.h"

#define ITEM_MAX 256u /* name and version */

static int npm_package(struct check *c, struct doc_node *n) {
        int r = check_text(c, n, "a package");
        if (r < 0)
                return r;
        size_t len = npm_name_len(n->text);
        const char *rest = n->text + len;
        if (len > 0 && (!*rest || (*rest == '@' && rest[1] && !strpbrk(rest + 1, " /\n\t@:"))) && strlen(n->text) <= ITEM_MAX)
                return 0;
        doc_fail(n, c->err, EINVAL, "'%s' cannot be the name of an npm package", n->text);
        return nb_hint(c->err, "write name, @scope/name or name@version");
}

int check_npm(struct check *c, struct doc_node *n) {
        return check_list(c, n, "image.npm", npm_package);
}

static int npm_script(struct check *c, struct doc_node *n) {
        int r = check_text(c, n, "a package");
        if (r < 0)
                return r;
        size_t len = npm_name_len(n->text);
        if (len > 0 && !n->text[len])
                return 0;
        doc_fail(n, c->err, EINVAL, "'%s' cannot be the name of an npm package", n->text);
        return nb_hint(c->err, "write name or @scope/name, without a version");
}

int check_npm_scripts(struct check *c, struct doc_node *n) {
        return check_list(c, n, "image.npm-scripts", npm_script);
}

int check_npm_bin(struct check *c, struct doc_node *n) {
        static const char form[] = "write COMMAND: PACKAGE/FILE, such as mytool: \"@scope/name/bin/tool\"";
        if (n->kind == DOC_NULL)
                n->kind = DOC_MAP;
        if (n->kind != DOC_MAP) {
                check_wrong_type(c, n, "image.npm-bin", "a map");
                return nb_hint(c->err, "%s", form);
        }
        for (size_t i = 0; i < n->n_kids; i++) {
                struct doc_node *v = n->kids[i];
                if (!npm_valid_command(v->key)) {
                        struct doc_node at = { .src = v->src, .line = v->key_line, .column = v->key_column };
                        doc_fail(&at, c->err, EINVAL, "'%s' cannot be the name of a command", v->key);
                        return nb_hint(c->err, "%s", form);
                }
                int r = check_text(c, v, v->key);
                if (r < 0)
                        return r;
                size_t len = npm_name_len(v->text);
                if (len == 0 || v->text[len] != '/' || !npm_valid_file(v->text + len + 1)) {
                        doc_fail(v, c->err, EINVAL, "'%s' names no file of an npm package", v->text);
                        return nb_hint(c->err, "%s", form);
                }
        }
        return 0;
}
