/** Metrics of DPDK programs, in guests and on hosts: the memory that they hold, and mbufs that they lacked. */
import * as E from '../../engine/events.ts';
import { isRx } from '../place-kinds.ts';
import { counted, counter, type Family, perQueue, QUEUE, sumOf } from './prometheus-family.ts';

export const DPDK_FAMILIES: readonly Family[] = [
  counter(
    'dpdk_heap_bytes_total',
    'Bytes of hugepages that DPDK programs have taken: those of guests at their vCPU, Open vSwitch at its bridge.',
    ['topology', 'place', 'type', 'guest', 'host'],
    (w) =>
      w
        .places('vcpu', 'bridge')
        .map((p) =>
          counted([w.catalog.topology, p.name, p.type, w.guest(p), p.host ?? ''], [sumOf(p.id, E.EAL_MEMORY)]),
        ),
    { counterpart: '`dpdk/get-malloc-stats`; HugePages_Total less HugePages_Free of /proc/meminfo' },
  ),
  counter(
    'dpdk_rx_nombuf_total',
    'Receive descriptors that stayed without an mbuf, each time that their driver wanted one.',
    QUEUE,
    (w) => perQueue(w, E.DPDK_RX_NOMBUF, sumOf, isRx),
    { counterpart: '`rx_mbuf_allocation_errors`' },
  ),
];
