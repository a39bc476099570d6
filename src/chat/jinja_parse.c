/* jinja_parse.c — tokens to a tree: jinja2's grammar, its precedences and its odd corners (a test takes an argument without brackets, filters bind
 * tighter than operators, "a if b" without else).
 *
 * Unknown filters and tests are refused here, but inside an if or a conditional expression only when they are reached: jinja2 does so, for
 * templates that ask `'x' is filter` first. Statements that need other templates are refused when they are reached. */
#include "chat/jinja_int.h"

typedef struct { lmj *j; const jtoken *t; int n, at; jstr **name; int n_name, cap_name; int depth, loops; bool soft, caller, kwargs, varargs; } parser;

static const jtoken *cur(const parser *p) { return &p->t[p->at]; }
static const jtoken *peek(const parser *p) { return &p->t[p->at + 1 < p->n ? p->at + 1 : p->at]; }
static void next(parser *p) { if (p->at + 1 < p->n) p->at++; p->j->line = cur(p)->line; }
static bool is_op(const parser *p, const char *op) { return cur(p)->k == TK_OP && !strcmp(cur(p)->op, op); }
static bool is_name(const parser *p, const char *name) { return cur(p)->k == TK_NAME && lmj_is(cur(p)->s, name); }
static void *fail_at(parser *p, const char *want) {
    const jtoken *t = cur(p);
    if (p->j->err) return NULL;
    const int n = t->s ? (int)lm_min64((int64_t)t->s->n, 40) : 0;
    p->j->line = t->line;
    if (t->k == TK_EOF) lmj_fail(p->j, "wanted %s, the template ends", want);
    else if (t->k == TK_NAME) lmj_fail(p->j, "wanted %s, got '%.*s'", want, n, t->s->p);
    else if (t->k == TK_OP) lmj_fail(p->j, "wanted %s, got '%s'", want, t->op);
    else lmj_fail(p->j, "wanted %s, got %s", want, t->k == TK_STR ? "a string" : t->k == TK_INT || t->k == TK_FLOAT ? "a number" : "the end of the tag");
    return NULL;
}
static bool take_op(parser *p, const char *op) { if (!is_op(p, op)) return false; next(p); return true; }
static bool take_name(parser *p, const char *name) { if (!is_name(p, name)) return false; next(p); return true; }
static void need_op(parser *p, const char *op) { if (!p->j->err && !take_op(p, op)) { char w[8]; snprintf(w, sizeof w, "'%s'", op); fail_at(p, w); } }
/* Names are interned, so that scopes compare pointers. */
static jstr *intern(parser *p, jstr *s) {
    if (!lmj_step(p->j, p->n_name / 16 + 1)) return s;
    for (int i = 0; i < p->n_name; i++) if (p->name[i]->n == s->n && !memcmp(p->name[i]->p, s->p, s->n)) return p->name[i];
    if (p->n_name == p->cap_name) {
        const int cap = p->cap_name ? 2 * p->cap_name : 64;
        jstr **q = lmj_alloc(p->j, (size_t)cap * sizeof *q);
        if (!q) return s;
        if (p->n_name) memcpy(q, p->name, (size_t)p->n_name * sizeof *q);
        p->name = q; p->cap_name = cap;
    }
    lmj_chars(s);
    return p->name[p->n_name++] = s;
}
static jstr *need_name(parser *p) {
    if (cur(p)->k != TK_NAME) { fail_at(p, "a name"); return lmj_lit(p->j, "").s; }
    jstr *s = intern(p, cur(p)->s);
    next(p);
    return s;
}
static jnode *node(parser *p, jnode_kind k) {
    static jnode none;
    jnode *n = lmj_alloc(p->j, sizeof *n);
    if (!n) return &none;
    n->k = k; n->line = cur(p)->line;
    return n;
}
typedef struct { jnode **v; int n, cap; } nodes;
static void push(parser *p, nodes *l, jnode *n) {
    if (l->n == l->cap) {
        const int cap = l->cap ? 2 * l->cap : 4;
        jnode **v = lmj_alloc(p->j, (size_t)cap * sizeof *v);
        if (!v) return;
        if (l->n) memcpy(v, l->v, (size_t)l->n * sizeof *v);
        l->v = v; l->cap = cap;
    }
    l->v[l->n++] = n;
}
static jnode *two(parser *p, jnode_kind k, jop op, jnode *a, jnode *b) { jnode *n = node(p, k); n->op = op; n->a = a; n->b = b; return n; }
static bool deeper(parser *p) {
    if (++p->depth <= 200) return !p->j->err;
    if (!p->j->err) lmj_limit(p->j, "nested deeper than 200");
    return false;
}

/* ---- expressions ---- */
static jnode *expression(parser *p, bool with_cond);
static jnode *unary(parser *p, bool with_filter);
static jnode *constant(parser *p, jv v) { jnode *n = node(p, N_CONST); n->v = v; return n; }
static bool tuple_end(const parser *p, const char *stop) {
    return cur(p)->k == TK_VAR_END || cur(p)->k == TK_BLOCK_END || is_op(p, ")") || (stop && is_name(p, stop));
}
/* a, b, c: a tuple where there is a comma. targets: names only, as in `for a, b in`. */
static jnode *target(parser *p, bool ns);
static jnode *tuple(parser *p, bool targets, bool ns, bool with_cond, const char *stop, bool brackets) {
    nodes l = { 0 };
    bool is_tuple = false;
    while (!p->j->err) {
        if (l.n) need_op(p, ",");
        if (tuple_end(p, stop)) break;
        push(p, &l, targets ? target(p, ns) : expression(p, with_cond));
        if (is_op(p, ",")) is_tuple = true; else break;
    }
    if (!is_tuple) {
        if (l.n) return l.v[0];
        if (!brackets) { fail_at(p, "an expression"); return node(p, N_CONST); }
    }
    jnode *n = node(p, N_TUPLE);
    n->kid = l.v; n->n_kid = l.n;
    return n;
}
static jnode *name_node(parser *p, jstr *s) {
    jnode *n = node(p, N_NAME);
    n->name = intern(p, s);
    p->caller |= lmj_is(s, "caller"); p->kwargs |= lmj_is(s, "kwargs"); p->varargs |= lmj_is(s, "varargs");
    return n;
}
static jnode *target(parser *p, bool ns) {
    if (take_op(p, "(")) {
        jnode *n = tuple(p, true, ns, true, NULL, true);
        need_op(p, ")");
        return n;
    }
    if (cur(p)->k != TK_NAME) { fail_at(p, "a name to assign to"); return node(p, N_NAME); }
    jstr *s = cur(p)->s;
    static const char *const consts[] = { "true", "false", "none", "True", "False", "None" };
    for (int i = 0; i < LM_COUNT(consts); i++) if (lmj_is(s, consts[i])) { lmj_fail(p->j, "can't assign to '%s'", consts[i]); return node(p, N_NAME); }
    next(p);
    if (ns && take_op(p, ".")) {
        jnode *n = node(p, N_NSREF);
        n->a = node(p, N_NAME);
        n->a->name = intern(p, s);
        n->name = need_name(p);
        return n;
    }
    jnode *n = node(p, N_NAME);
    n->name = intern(p, s);
    return n;
}
static jargs_tree *call_args(parser *p) {
    jargs_tree *a = lmj_alloc(p->j, sizeof *a);
    nodes pos = { 0 }, val = { 0 };
    jstr *names[256]; int n = 0;
    if (!a) { static jargs_tree none; return &none; }
    need_op(p, "(");
    for (bool comma = false; !p->j->err && !is_op(p, ")"); comma = true) {
        if (comma) { need_op(p, ","); if (is_op(p, ")")) break; }
        bool ok = true;
        if (take_op(p, "*")) { ok = !a->star && !a->star2; a->star = expression(p, true); }
        else if (take_op(p, "**")) { ok = !a->star2; a->star2 = expression(p, true); }
        else if (cur(p)->k == TK_NAME && peek(p)->k == TK_OP && !strcmp(peek(p)->op, "=")) {
            jstr *name = need_name(p);
            next(p);
            ok = !a->star2 && n < LM_COUNT(names);
            for (int i = 0; i < n; i++) ok &= names[i] != name;
            if (ok) names[n++] = name;
            push(p, &val, expression(p, true));
        } else { ok = !a->star && !a->star2 && !n; push(p, &pos, expression(p, true)); }
        if (!ok) lmj_fail(p->j, "invalid syntax for function call expression");
    }
    need_op(p, ")");
    a->pos = pos.v; a->n = pos.n; a->val = val.v; a->n_kw = n;
    if (n && (a->name = lmj_alloc(p->j, (size_t)n * sizeof *a->name))) memcpy(a->name, names, (size_t)n * sizeof *a->name);
    return a;
}
static jnode *subscribed(parser *p) {
    jnode *part[3] = { 0 };
    if (!is_op(p, ":")) {
        part[0] = expression(p, true);
        if (!is_op(p, ":")) return part[0];
    }
    jnode *n = node(p, N_SLICE);
    for (int i = 1; i < 3 && take_op(p, ":"); i++)
        if (!is_op(p, ":") && !is_op(p, "]") && !is_op(p, ",")) part[i] = expression(p, true);
    n->a = part[0]; n->b = part[1]; n->c = part[2];
    return n;
}
static jnode *call(parser *p, jnode *of) { jnode *n = node(p, N_CALL); n->a = of; n->args = call_args(p); return n; }
static jnode *postfix(parser *p, jnode *e) {
    while (!p->j->err) {
        if (is_op(p, "(")) e = call(p, e);
        else if (take_op(p, ".")) {
            if (cur(p)->k == TK_INT) { e = two(p, N_ITEM, OP_ADD, e, constant(p, jv_i(cur(p)->i))); next(p); continue; }
            jnode *n = node(p, N_ATTR);
            n->a = e; n->name = need_name(p);
            e = n;
        } else if (take_op(p, "[")) {
            nodes l = { 0 };
            while (!p->j->err && !is_op(p, "]")) { if (l.n) need_op(p, ","); push(p, &l, subscribed(p)); }
            need_op(p, "]");
            jnode *key = l.n == 1 ? l.v[0] : node(p, N_TUPLE);
            if (l.n != 1) { key->kid = l.v; key->n_kid = l.n; }
            e = two(p, N_ITEM, OP_ADD, e, key);
        } else break;
    }
    return e;
}
static jnode *primary(parser *p) {
    const jtoken *t = cur(p);
    jnode *n;
    if (t->k == TK_NAME) {
        next(p);
        if (lmj_is(t->s, "true") || lmj_is(t->s, "True")) return constant(p, jv_b(true));
        if (lmj_is(t->s, "false") || lmj_is(t->s, "False")) return constant(p, jv_b(false));
        if (lmj_is(t->s, "none") || lmj_is(t->s, "None")) return constant(p, jv_none());
        return name_node(p, t->s);
    }
    if (t->k == TK_STR) {
        jbuf b = { .j = p->j };
        while (cur(p)->k == TK_STR) { lmj_put_str(&b, cur(p)->s); next(p); }
        const jv v = lmj_done(&b);
        if (!p->j->err) lmj_chars(v.s);
        return constant(p, v);
    }
    if (t->k == TK_INT || t->k == TK_FLOAT) { next(p); return constant(p, t->k == TK_INT ? jv_i(t->i) : jv_f(t->f)); }
    if (take_op(p, "(")) { n = tuple(p, false, false, true, NULL, true); need_op(p, ")"); return n; }
    if (take_op(p, "[")) {
        nodes l = { 0 };
        while (!p->j->err && !is_op(p, "]")) { if (l.n) need_op(p, ","); if (is_op(p, "]")) break; push(p, &l, expression(p, true)); }
        need_op(p, "]");
        n = node(p, N_LIST); n->kid = l.v; n->n_kid = l.n;
        return n;
    }
    if (take_op(p, "{")) {
        nodes k = { 0 }, v = { 0 };
        while (!p->j->err && !is_op(p, "}")) {
            if (k.n) need_op(p, ",");
            if (is_op(p, "}")) break;
            push(p, &k, expression(p, true)); need_op(p, ":"); push(p, &v, expression(p, true));
        }
        need_op(p, "}");
        n = node(p, N_DICT); n->kid = k.v; n->n_kid = k.n; n->other = v.v; n->n_other = v.n;
        return n;
    }
    fail_at(p, "an expression");
    return node(p, N_CONST);
}
static jstr *dotted(parser *p) {
    jstr *s = need_name(p);
    while (!p->j->err && take_op(p, ".")) {
        jbuf b = { .j = p->j };
        lmj_put_str(&b, s); lmj_puts(&b, "."); lmj_put_str(&b, need_name(p));
        s = lmj_done(&b).s;
    }
    return s;
}
static jnode *filter(parser *p, jnode *of) {
    jnode *n = node(p, N_FILTER);
    n->a = of; n->name = dotted(p);
    n->filter = p->j->err ? NULL : lmj_filter(n->name);
    if (!n->filter && !p->soft && !p->j->err) lmj_fail(p->j, "No filter named '%.*s'", (int)lm_min64((int64_t)n->name->n, 60), n->name->p);
    if (is_op(p, "(")) n->args = call_args(p);
    return n;
}
static jnode *test(parser *p, jnode *of) {
    jnode *n = node(p, N_TEST);
    const bool no = take_name(p, "not");
    n->a = of; n->name = dotted(p);
    n->test = p->j->err ? NULL : lmj_test(n->name);
    if (!n->test && !p->soft && !p->j->err) lmj_fail(p->j, "No test named '%.*s'", (int)lm_min64((int64_t)n->name->n, 60), n->name->p);
    const jtoken *t = cur(p);
    if (is_op(p, "(")) n->args = call_args(p);
    else if ((t->k == TK_NAME && !is_name(p, "else") && !is_name(p, "or") && !is_name(p, "and")) || t->k == TK_STR || t->k == TK_INT || t->k == TK_FLOAT ||
             is_op(p, "[") || is_op(p, "{")) {
        if (is_name(p, "is")) { lmj_fail(p->j, "You cannot chain multiple tests with is"); return n; }
        n->args = lmj_alloc(p->j, sizeof *n->args);
        nodes one = { 0 };
        push(p, &one, postfix(p, primary(p)));
        if (n->args) { n->args->pos = one.v; n->args->n = one.n; }
    }
    return no ? two(p, N_NOT, OP_ADD, n, NULL) : n;
}
static jnode *filters(parser *p, jnode *e) {
    while (!p->j->err) {
        if (take_op(p, "|")) e = filter(p, e);
        else if (take_name(p, "is")) e = test(p, e);
        else if (is_op(p, "(")) e = call(p, e);
        else break;
    }
    return e;
}
static jnode *unary(parser *p, bool with_filter) {
    jnode *e;
    if (!deeper(p)) { p->depth--; return node(p, N_CONST); }
    if (take_op(p, "-")) e = two(p, N_NEG, OP_ADD, unary(p, false), NULL);
    else if (take_op(p, "+")) e = two(p, N_POS, OP_ADD, unary(p, false), NULL);
    else e = primary(p);
    e = postfix(p, e);
    if (with_filter) e = filters(p, e);
    p->depth--;
    return e;
}
static jnode *power(parser *p) {
    jnode *e = unary(p, true);
    while (!p->j->err && take_op(p, "**")) e = two(p, N_BINARY, OP_POW, e, unary(p, true));
    return e;
}
static jnode *product(parser *p) {
    static const struct { const char *s; jop op; } ops[] = { { "*", OP_MUL }, { "/", OP_DIV }, { "//", OP_FLOORDIV }, { "%", OP_MOD } };
    jnode *e = power(p);
    for (int i = 0; i < LM_COUNT(ops) && !p->j->err;) {
        if (!take_op(p, ops[i].s)) { i++; continue; }
        e = two(p, N_BINARY, ops[i].op, e, power(p));
        i = 0;
    }
    return e;
}
static jnode *concat(parser *p) {
    jnode *e = product(p);
    if (!is_op(p, "~")) return e;
    nodes l = { 0 };
    push(p, &l, e);
    while (!p->j->err && take_op(p, "~")) push(p, &l, product(p));
    jnode *n = node(p, N_CONCAT);
    n->kid = l.v; n->n_kid = l.n;
    return n;
}
static jnode *sum(parser *p) {
    jnode *e = concat(p);
    while (!p->j->err) {
        if (take_op(p, "+")) e = two(p, N_BINARY, OP_ADD, e, concat(p));
        else if (take_op(p, "-")) e = two(p, N_BINARY, OP_SUB, e, concat(p));
        else break;
    }
    return e;
}
static bool compare_op(parser *p, jop *op) {
    static const struct { const char *s; jop op; } ops[] = { { "==", OP_EQ }, { "!=", OP_NE }, { "<", OP_LT }, { "<=", OP_LE }, { ">", OP_GT }, { ">=", OP_GE } };
    for (int i = 0; i < LM_COUNT(ops); i++) if (take_op(p, ops[i].s)) { *op = ops[i].op; return true; }
    if (take_name(p, "in")) { *op = OP_IN; return true; }
    if (is_name(p, "not") && peek(p)->k == TK_NAME && lmj_is(peek(p)->s, "in")) { next(p); next(p); *op = OP_NOTIN; return true; }
    return false;
}
static jnode *compare(parser *p) {
    jnode *e = sum(p);
    jop op, ops[128]; int n = 0;
    nodes l = { 0 };
    while (!p->j->err && compare_op(p, &op)) {
        if (n == LM_COUNT(ops)) { lmj_limit(p->j, "more than %d comparisons in a row", LM_COUNT(ops)); break; }
        if (!n) push(p, &l, e);
        ops[n++] = op;
        push(p, &l, sum(p));
    }
    if (!n) return e;
    jnode *c = node(p, N_COMPARE);
    c->kid = l.v; c->n_kid = l.n;
    if ((c->ops = lmj_alloc(p->j, (size_t)n * sizeof *c->ops))) memcpy(c->ops, ops, (size_t)n * sizeof *ops);
    return c;
}
static jnode *negation(parser *p) {
    if (!is_name(p, "not")) return compare(p);
    next(p);
    if (!deeper(p)) { p->depth--; return node(p, N_CONST); }
    jnode *n = two(p, N_NOT, OP_ADD, negation(p), NULL);
    p->depth--;
    return n;
}
static jnode *conjunction(parser *p) {
    jnode *e = negation(p);
    while (!p->j->err && take_name(p, "and")) e = two(p, N_AND, OP_ADD, e, negation(p));
    return e;
}
static jnode *disjunction(parser *p) {
    jnode *e = conjunction(p);
    while (!p->j->err && take_name(p, "or")) e = two(p, N_OR, OP_ADD, e, conjunction(p));
    return e;
}
/* Is there an "if" of a conditional expression before this one ends? Then what is before it is soft too. Tokens are at hand: look. */
static bool cond_follows(const parser *p) {
    int open = 0;
    for (int i = p->at; i < p->n && lmj_step(p->j, 1); i++) {
        const jtoken *t = &p->t[i];
        if (t->k == TK_VAR_END || t->k == TK_BLOCK_END || t->k == TK_EOF) return false;
        if (t->k == TK_OP && strchr("([{", *t->op) && *t->op) open++;
        if (t->k == TK_OP && strchr(")]}", *t->op) && *t->op && --open < 0) return false;
        if (t->k == TK_OP && !open && (*t->op == ',' || *t->op == ':')) return false;
        if (t->k == TK_NAME && !open && lmj_is(t->s, "if")) return true;
    }
    return false;
}
static jnode *expression(parser *p, bool with_cond) {
    const bool soft = p->soft;
    if (!deeper(p)) { p->depth--; return node(p, N_CONST); }
    if (with_cond && !soft) p->soft = cond_follows(p);
    jnode *e = disjunction(p);
    while (with_cond && !p->j->err && take_name(p, "if")) {
        jnode *n = node(p, N_COND);
        n->b = e; n->a = disjunction(p);
        if (take_name(p, "else")) n->c = expression(p, true);
        e = n;
    }
    p->soft = soft;
    p->depth--;
    return e;
}

/* ---- statements ---- */
static nodes body(parser *p, const char *const *ends, int n_ends, int *which);
static nodes block(parser *p, const char *const *ends, int n_ends, int *which) {     /* from behind the words of a tag to its end tag's name, taken */
    take_op(p, ":");
    if (cur(p)->k != TK_BLOCK_END) { fail_at(p, "the end of the tag"); return (nodes){ 0 }; }
    next(p);
    return body(p, ends, n_ends, which);
}
static nodes until(parser *p, const char *end) { return block(p, &end, 1, NULL); }
static void signature(parser *p, jnode *n) {
    jstr *names[128]; int k = 0;
    nodes defaults = { 0 };
    need_op(p, "(");
    while (!p->j->err && !is_op(p, ")")) {
        if (k) need_op(p, ",");
        if (k == LM_COUNT(names)) { lmj_limit(p->j, "more than %d parameters", LM_COUNT(names)); return; }
        names[k++] = need_name(p);
        if (take_op(p, "=")) push(p, &defaults, expression(p, true));
        else if (defaults.n) lmj_fail(p->j, "non-default argument follows default argument");
    }
    need_op(p, ")");
    n->n_params = k; n->other = defaults.v; n->n_other = defaults.n;
    if (k && (n->params = lmj_alloc(p->j, (size_t)k * sizeof *n->params))) memcpy(n->params, names, (size_t)k * sizeof *names);
}
/* The body of a macro or call block is a function of its own: loops outside are not its loops. */
static void function_body(parser *p, jnode *n, const char *end) {
    const parser was = *p;
    p->caller = p->kwargs = p->varargs = p->soft = false; p->loops = 0;
    const nodes b = until(p, end);
    n->kid = b.v; n->n_kid = b.n;
    n->uses_caller = p->caller; n->uses_kwargs = p->kwargs; n->uses_varargs = p->varargs;
    p->caller |= was.caller; p->kwargs |= was.kwargs; p->varargs |= was.varargs; p->soft = was.soft; p->loops = was.loops;
}
static jnode *hard(parser *p, jnode *n, const char *end) {           /* a body in a scope of its own */
    const bool soft = p->soft;
    p->soft = false;
    const nodes b = until(p, end);
    p->soft = soft;
    n->kid = b.v; n->n_kid = b.n;
    return n;
}
static jnode *for_tag(parser *p) {
    static const char *const ends[] = { "endfor", "else" };
    jnode *n = node(p, N_FOR);
    n->a = tuple(p, true, false, true, "in", false);
    if (!take_name(p, "in")) { fail_at(p, "'in'"); return n; }
    const bool soft = p->soft;
    n->b = tuple(p, false, false, false, "recursive", false);
    p->soft = false;
    if (take_name(p, "if")) n->c = expression(p, true);
    n->recursive = take_name(p, "recursive");
    int which = 0;
    p->loops++;
    nodes b = block(p, ends, 2, &which);
    p->loops--;
    n->kid = b.v; n->n_kid = b.n;
    if (which == 1) { b = until(p, "endfor"); n->other = b.v; n->n_other = b.n; }
    p->soft = soft;
    return n;
}
static jnode *if_tag(parser *p) {
    static const char *const ends[] = { "endif", "elif", "else" };
    const bool soft = p->soft;
    jnode *top = node(p, N_IF), *n = top;
    p->soft = true;
    for (int which = 1; which == 1 && !p->j->err;) {
        n->a = tuple(p, false, false, false, NULL, false);
        nodes b = block(p, ends, 3, &which);
        n->kid = b.v; n->n_kid = b.n;
        if (which == 1) {
            jnode *e = node(p, N_IF);
            e->recursive = true;                                     /* an elif: walked as a list */
            nodes one = { 0 };
            push(p, &one, e);
            n->other = one.v; n->n_other = one.n;
            n = e;
        } else if (which == 2) { b = until(p, "endif"); n->other = b.v; n->n_other = b.n; }
    }
    p->soft = soft;
    return top;
}
static jnode *set_tag(parser *p) {
    jnode *n = node(p, N_SET);
    n->a = tuple(p, true, true, true, NULL, false);
    if (take_op(p, "=")) { n->b = tuple(p, false, false, true, NULL, false); return n; }
    n->k = N_SETBLOCK;
    while (!p->j->err && take_op(p, "|")) n->c = filter(p, n->c);
    return hard(p, n, "endset");
}
static jnode *with_tag(parser *p) {
    jnode *n = node(p, N_WITH);
    nodes t = { 0 }, v = { 0 };
    while (!p->j->err && cur(p)->k != TK_BLOCK_END) {
        if (t.n) need_op(p, ",");
        push(p, &t, tuple(p, true, false, true, NULL, false));
        need_op(p, "=");
        push(p, &v, expression(p, true));
    }
    jnode *values = node(p, N_LIST), *names = node(p, N_LIST);
    values->kid = v.v; values->n_kid = v.n; names->kid = t.v; names->n_kid = t.n;
    n->a = names; n->b = values;
    return hard(p, n, "endwith");
}
static jnode *refuse(parser *p, jnode *n, jstr *what) {              /* the rest of the tag is not understood, nor needed */
    n->k = N_REFUSE; n->name = what;
    while (cur(p)->k != TK_BLOCK_END && cur(p)->k != TK_EOF) next(p);
    return n;
}
static jnode *statement(parser *p) {
    jnode *n = node(p, N_PRINT);
    if (cur(p)->k != TK_NAME) { fail_at(p, "the name of a tag"); return n; }
    jstr *tag = intern(p, cur(p)->s);
    next(p);
    if (lmj_is(tag, "for")) return for_tag(p);
    if (lmj_is(tag, "if")) return if_tag(p);
    if (lmj_is(tag, "set")) return set_tag(p);
    if (lmj_is(tag, "with")) return with_tag(p);
    if (lmj_is(tag, "macro")) { n->k = N_MACRO; n->name = need_name(p); signature(p, n); function_body(p, n, "endmacro"); return n; }
    if (lmj_is(tag, "generation")) { n->k = N_GENERATION; function_body(p, n, "endgeneration"); return n; }
    if (lmj_is(tag, "call")) {
        n->k = N_CALLBLOCK;
        if (is_op(p, "(")) signature(p, n);
        n->a = expression(p, true);
        if (!p->j->err && n->a->k != N_CALL) { lmj_fail(p->j, "expected call"); return n; }
        function_body(p, n, "endcall");
        return n;
    }
    if (lmj_is(tag, "filter")) {
        n->k = N_FILTERBLOCK;
        n->a = filter(p, NULL);
        while (!p->j->err && take_op(p, "|")) n->a = filter(p, n->a);
        return hard(p, n, "endfilter");
    }
    if (lmj_is(tag, "break") || lmj_is(tag, "continue")) {
        n->k = lmj_is(tag, "break") ? N_BREAK : N_CONTINUE;
        if (!p->loops) lmj_fail(p->j, "'%.*s' outside loop", (int)tag->n, tag->p);
        return n;
    }
    if (lmj_is(tag, "print")) {
        nodes l = { 0 };
        while (!p->j->err && cur(p)->k != TK_BLOCK_END) { if (l.n) need_op(p, ","); push(p, &l, expression(p, true)); }
        n->kid = l.v; n->n_kid = l.n;
        return n;
    }
    if (lmj_is(tag, "block")) {
        n->k = N_BLOCK; n->name = need_name(p);
        if (!take_name(p, "scoped")) take_name(p, "required");
        const int loops = p->loops;
        p->loops = 0;
        hard(p, n, "endblock");
        p->loops = loops;
        if (cur(p)->k == TK_NAME && lmj_is(cur(p)->s, "") == false && n->name->n == cur(p)->s->n && !memcmp(cur(p)->s->p, n->name->p, n->name->n)) next(p);
        return n;
    }
    if (lmj_is(tag, "include") || lmj_is(tag, "import") || lmj_is(tag, "from") || lmj_is(tag, "extends")) return refuse(p, n, tag);
    if (lmj_is(tag, "autoescape")) { lmj_fail(p->j, "autoescape is not supported"); return n; }
    lmj_fail(p->j, "Encountered unknown tag '%.*s'", (int)lm_min64((int64_t)tag->n, 60), tag->p);
    return n;
}
static nodes body(parser *p, const char *const *ends, int n_ends, int *which) {
    nodes l = { 0 };
    if (!deeper(p)) { p->depth--; return l; }
    while (!p->j->err && cur(p)->k != TK_EOF) {
        if (cur(p)->k == TK_DATA) {
            jnode *n = node(p, N_TEXT);
            n->name = cur(p)->s;
            push(p, &l, n); next(p);
        } else if (cur(p)->k == TK_VAR_BEGIN) {
            next(p);
            jnode *n = node(p, N_PRINT);
            nodes one = { 0 };
            push(p, &one, tuple(p, false, false, true, NULL, false));
            n->kid = one.v; n->n_kid = one.n;
            if (!p->j->err && cur(p)->k != TK_VAR_END) fail_at(p, "'}}'");
            push(p, &l, n); next(p);
        } else {
            next(p);
            for (int i = 0; i < n_ends; i++)
                if (is_name(p, ends[i])) { next(p); if (which) *which = i; p->depth--; return l; }
            push(p, &l, statement(p));
            if (!p->j->err && cur(p)->k != TK_BLOCK_END) fail_at(p, "'%}'");
            next(p);
        }
    }
    p->depth--;
    if (n_ends && !p->j->err) lmj_fail(p->j, "the template ends, '%s' was expected", ends[0]);
    return l;
}
void lmj_parse(lmj *j, lm_jinja *t, const jtoken *tok, int n_tok) {
    parser p = { .j = j, .t = tok, .n = n_tok };
    t->loop = intern(&p, lmj_lit(j, "loop").s); t->caller = intern(&p, lmj_lit(j, "caller").s);
    t->varargs = intern(&p, lmj_lit(j, "varargs").s); t->kwargs = intern(&p, lmj_lit(j, "kwargs").s);
    const nodes b = body(&p, NULL, 0, NULL);
    t->body = b.v; t->n_body = b.n;
}
