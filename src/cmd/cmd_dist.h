/* cmd_dist.h — ranks for commands. The environment is read here, for the library reads none. */
#ifndef LM_CMD_DIST_H
#define LM_CMD_DIST_H
#include "cmd/cmd.h"
#include "dist/dist.h"
/* Ranks if the program was started under mpirun or the like, else *comm = NULL. Ranks but the first become quiet. */
lm_err lm_cmd_dist_comm(lm_cli *cli, lm_comm **comm);
/* The last thing done with comm (NULL is fine): a farewell; after an error the end of all ranks, with the sentence printed, and no return. */
void lm_cmd_dist_end(lm_cli *cli, lm_comm *comm, lm_err err);
#endif
