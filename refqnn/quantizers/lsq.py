r"""Learned Step Size Quantization (LSQ).

Esser, McKinstry, Bablani, Appuswamy, Modha. ICLR 2020, arXiv:1902.08153.

    paper                    code        where
    v_bar, eq. (1)           q           lsq
    v_hat, eq. (2)           v_hat       lsq
    d v_hat / d s, eq. (3)   ds          lsq_backward
    d v_hat / d v, eq. (5)   dv          lsq_backward
    Q_N, Q_P                 q_n, q_p    signed 4 bit: q_n = 8, q_p = 7

Left open by the paper: how ties round. Here: half to even, as ``np.rint``.
"""
