/* graph_int.h — the graph's own fields, for the files of this room only. */
#ifndef LM_GRAPH_INT_H
#define LM_GRAPH_INT_H
#include "graph/graph.h"
typedef struct { const char *name; lm_value *v; } lm_named;
typedef struct lm_name_link { lm_value *v; struct lm_name_link *next; } lm_name_link;     /* inputs and states by name */
enum { LM_NAME_BUCKETS = 1024 };
struct lm_graph {
    lm_ctx *ctx; lm_arena *a; lm_store *store; lm_err err; bool backward; int block;
    lm_node **node; int n_node, cap_node;
    lm_value **value; int n_value, cap_value;
    lm_named *output; int n_output, cap_output;
    const char **ext; int n_ext, cap_ext;         /* slot i+1 is ext[i] */
    lm_name_link *names[LM_NAME_BUCKETS];
    int *readers, cap_readers, n_counted;         /* lm_graph_readers: of nodes 0..n_counted; 0 = count anew (an input was moved) */
};
/* Grow an arena-held array to hold one more (old blocks stay in the arena: graphs are small and short-lived). */
bool lm_graph_grow(lm_graph *g, void *arr, int n, int *cap, size_t size);
bool lm_type_same(const lm_type *a, const lm_type *b);
/* Per node: does an output, a state or an effect need it? Per value: how many inputs of live nodes and outputs it is. Arrays in the graph's arena. */
lm_err lm_graph_live(lm_graph *g, bool **live);
lm_err lm_graph_uses(lm_graph *g, int **uses);
#endif
