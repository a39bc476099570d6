/* hyper.h — what the host feeds optimizer rows each step, as one F32 (8) input. All are written by the schedule; rows read what they need. */
#ifndef LM_HYPER_H
#define LM_HYPER_H
enum {
    LM_HYPER_LR, LM_HYPER_BETA1,                 /* momentum, for rows with one */
    LM_HYPER_BETA2, LM_HYPER_EPS, LM_HYPER_WD,
    LM_HYPER_BIAS1, LM_HYPER_BIAS2,              /* 1 - beta^t */
    LM_HYPER_ONE_MINUS_BETA2,                    /* computed in double: in f32, 1 - 0.999 is off by 1e-5. 0: the row subtracts */
    LM_HYPER_N };
#endif
