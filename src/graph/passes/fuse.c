/* fuse.c — fused rows replace the subgraphs their pattern describes.
 *
 * A pattern is an expression over row names, "mul(silu(a), b)"; letters are inputs. The root may have any uses; inner nodes must have
 * exactly one, and single outputs. A fused row keeps the rounding points of what it replaces, so fusing changes no bits, only traffic. */
#include <ctype.h>
#include <string.h>
#include "graph/graph_int.h"

typedef struct { lm_value *var[26]; const void *params[8]; lm_node *node[8]; int n, order[26], n_var; } match;
/* Match expression s against v; returns the rest of the text, or NULL. */
static const char *expr(const char *s, lm_value *v, const int *uses, bool root, match *m) {
    while (*s == ' ') s++;
    const char *e = s;
    while (isalnum((unsigned char)*e) || *e == '_') e++;
    if (*e != '(') {                                                  /* a variable */
        int i = *s - 'a';
        if (e - s != 1 || i < 0 || i > 25 || !v) return NULL;
        if (m->var[i] && m->var[i] != v) return NULL;
        if (!m->var[i]) { m->var[i] = v; m->order[m->n_var++] = i; }
        return e;
    }
    lm_node *n = v ? v->node : NULL;
    if (!n || v->out || n->acc || strlen(n->op->name) != (size_t)(e - s) || memcmp(n->op->name, s, (size_t)(e - s))) return NULL;
    if (!root && uses[v->id] != 1) return NULL;
    if (m->n == 8) return NULL;
    m->params[m->n] = n->params; m->node[m->n++] = n;
    s = e + 1;
    for (int k = 0; k < n->n_in; k++) {
        if (!(s = expr(s, n->in[k], uses, false, m))) return NULL;
        while (*s == ' ') s++;
        if (k + 1 < n->n_in) { if (*s != ',') return NULL; s++; }
    }
    return *s == ')' ? s + 1 : NULL;
}
lm_err lm_pass_fuse(lm_graph *g, int *n_fused) {
    LM_TRY(g->err);
    int count = 0, *uses;
    for (int o = 0; lm_ops[o]; o++) {
        const lm_op *op = lm_ops[o];
        if (!op->pattern) continue;
        LM_TRY(lm_graph_uses(g, &uses));
        int n_node = g->n_node, n_value = g->n_value;
        for (int i = 0; i < n_node; i++) {
            lm_node *root = g->node[i];
            match m = {0};
            if (root->dead || root->n_out != 1 || !uses[root->out[0]->id] || !expr(op->pattern, root->out[0], uses, true, &m)) continue;
            bool fresh = false, shape = true;
            for (int k = 0; k < m.n; k++) fresh |= m.node[k]->out[0]->id >= n_value || m.node[k]->dead;
            for (int k = 1; k < m.n_var; k++) {                       /* broadcasting forms keep their own rows */
                const lm_type *a = &m.var[m.order[0]]->type, *b = &m.var[m.order[k]]->type;
                shape &= a->rank == b->rank;
                for (int d = 0; shape && d < a->rank; d++) shape &= a->dim[d] == b->dim[d];
            }
            if (fresh || !shape) continue;
            char params[256] = {0};
            if (op->params_bytes > sizeof params) return lm_graph_fail(g, LM_E_INTERNAL, "%s: params over 256 bytes", op->name);
            if (op->fuse && op->fuse(g->ctx, m.params, m.n, params)) continue;
            lm_value *in[LM_MAX_IN];
            for (int k = 0; k < m.n_var; k++) in[k] = m.var[m.order[k]];
            bool back = g->backward; int block = g->block;
            g->backward = root->backward; g->block = root->block;
            lm_value *v = lm_emit(g, op, params, m.n_var, in);
            g->backward = back; g->block = block;
            if (!v) return g->err;
            v->node->order = root->order;
            lm_replace(g, root->out[0], v);
            for (int k = 0; k < m.n; k++) m.node[k]->dead = true;
            count++;
        }
    }
    if (n_fused) *n_fused = count;
    return g->err;
}
