#!/usr/bin/env bash
# floors_planted.sh — tools/floors.sh finds what is planted, one violation at a time, in a small tree of its own.
set -u
root=$(cd "$(dirname "$0")/.." && pwd); t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
ran=0 failed=0
fresh() {
    rm -rf "$t/src"; mkdir -p "$t/src"/{base,tensor,op/silu,op/add,graph,optim,dist,model,train,cmd}
    echo '#include "base/base.h"' >"$t/src/base/a.c"; echo '#include "base/base.h"' >"$t/src/op/silu/silu.c"; echo '' >"$t/src/op/add/add.c"
    printf '#include "op/op.h"\n#include "op_list.inc"\nint x = &lm_op_add;\n' >"$t/src/graph/g.c"
    echo '#include "model/llama.h"' >"$t/src/cmd/main.c"; echo '' >"$t/src/cmd/run.c"; echo '' >"$t/src/model/llama.c"
    echo 'snprintf(a, 1, "x"); s->exit(1); lm_str_printf(&s, "%d", 1);' >"$t/src/train/t.c"
}
expect() {  # expect WHAT REGEX
    ran=$((ran + 1)); out=$("$root/tools/floors.sh" "$t" quiet 2>&1); rc=$?
    if [ "$2" = fine ]; then [ $rc = 0 ] && return; else [ $rc = 1 ] && grep -qE -- "$2" <<<"$out" && return; fi
    failed=$((failed + 1)); echo "floors_planted: $1: status $rc"; echo "$out"
}
fresh; expect "a clean tree" fine
fresh; echo '#include "op/op.h"' >>"$t/src/tensor/t.c"; expect "upward" 'tensor/t.c:1: tensor .* includes "op/op.h"'
fresh; echo '#include "dist/dist.h"' >>"$t/src/optim/o.c"; expect "sideways" 'optim/o.c:1: optim'
fresh; echo '  #  include "graph/graph.h"' >>"$t/src/op/silu/silu.h"; expect "upward in a header, oddly spaced" 'op/silu/silu.h:1'
fresh; echo '#include "t.h"' >>"$t/src/tensor/t.c"; expect "no room" 'say the room'
fresh; echo '#include "nowhere/t.h"' >>"$t/src/tensor/t.c"; expect "unknown room" 'no such room'
fresh; mkdir "$t/src/attic"; echo '' >"$t/src/attic/a.c"; expect "room without a floor" 'stands on no floor'
fresh; echo 'const void *p = &lm_op_silu;' >>"$t/src/graph/g.c"; expect "graph names an op" 'graph/g.c:4:.*names an op'
fresh; echo 'const void *p = &lm_model_llama;' >>"$t/src/train/t.c"; expect "loop names a model" 'train/t.c:2:.*names a model'
fresh; echo 'const void *p = &lm_cmd_run;' >>"$t/src/cmd/main.c"; expect "main names a command" 'main names a command'
fresh; echo 'printf("hello");' >>"$t/src/train/t.c"; expect "library prints" 'only cmd prints'
fresh; echo 'x = getenv("HOME");' >>"$t/src/train/t.c"; expect "library reads the environment" 'only cmd prints'
fresh; echo 'fprintf(stderr, "x");' >>"$t/src/train/t.c"; expect "library prints to stderr" 'only cmd prints'
echo "$ran cases, $failed failed, 0 skipped"
[ $failed = 0 ]
