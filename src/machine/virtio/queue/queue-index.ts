/** virtqueue indices of one queue pair (virtio 1.2 §5.1.2: receiveq1, transmitq1). */
export const RX_QUEUE = 0;
export const TX_QUEUE = 1;
