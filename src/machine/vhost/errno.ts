/** Negative results, as system calls give them. linux include/uapi/asm-generic/errno*.h. */
export const EPERM = 1;
export const E2BIG = 7;
export const EBADF = 9;
export const EFAULT = 14;
export const EBUSY = 16;
export const EINVAL = 22;
export const ENOTTY = 25;
export const EOPNOTSUPP = 95;
export const ENOBUFS = 105;
