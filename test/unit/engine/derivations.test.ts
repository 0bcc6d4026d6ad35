/**
 * Costs that were derived from published figures give those figures back, with everything that the emulator charges beside them on the
 * same piece of way: nothing is counted twice, nothing is left out, and no row moves without its source.
 */
import { expect, test } from 'vitest';
import { COSTS } from '../../../src/engine/costs.ts';

const ns = (name: string): number => COSTS.find((cost) => cost.name === name)!.default;

/** Bytes of a frame of 64 bytes without FCS, and of the header before it. */
const SMALL = 60 + 12;
const COPY = SMALL * ns('copy_per_byte_vhost_user');
/** Frames of a full burst. */
const BURST = 32;
const CALL = ns('vhost_burst_overhead') / BURST;
/** VPP of CSIT 17.04: 10.8 Mpps port to port, 3.1 Mpps through a guest. */
const VPP_PORT_TO_PORT = 93;
const VPP_THROUGH_A_GUEST = 323;

const figures: readonly (readonly [what: string, computed: number, published: number, tolerance: number])[] = [
  ['netdev datapath, NIC to NIC', ns('dpdk_nic_rx') + ns('emc_pass') + ns('dpdk_nic_tx'), 83, 1],
  [
    'the same without its exact match cache',
    ns('dpdk_nic_rx') + ns('emc_pass') + ns('emc_miss_to_dpcls') + ns('dpdk_nic_tx'),
    185,
    1,
  ],
  ['kernel datapath, NIC to NIC', ns('napi_rx_per_packet') + ns('ovs_kernel_per_packet'), 700, 1],
  [
    'Linux receives, forwards and sends',
    ns('napi_rx_per_packet') + ns('linux_bridge_per_packet'),
    575 * (3.6 / 2.4),
    10,
  ],
  ['a frame out of a NIC', ns('dpdk_nic_rx'), 22.9 * (3.6 / 2.4), 1],
  ['a frame into a guest, 267 cycles less 100', ns('vhost_enqueue') + COPY + CALL, 167 / 2.4, 1],
  [
    'through a guest and back less port to port',
    ns('vhost_enqueue') +
      ns('vhost_dequeue') +
      3 * ns('cross_core_cache_line') +
      2 * (COPY + CALL) +
      // the second pass of the graph has no NICs
      (VPP_PORT_TO_PORT - ns('dpdk_nic_rx') - ns('dpdk_nic_tx')),
    VPP_THROUGH_A_GUEST - VPP_PORT_TO_PORT,
    2,
  ],
  ['out of a guest up to the host’s stack', ns('vhost_net_tx_per_packet'), 1e3 / 1.7, 5],
  ['into a guest by vhost-net', ns('vhost_net_rx_per_packet'), 1e3 / 1.5, 5],
  ['a halted vCPU over one that polls', ns('halted_vcpu_wakeup') - ns('halt_poll_wakeup'), (34 - 27) * 500, 1],
  ['an XDP program sends a frame back', ns('guest_xdp_tx'), 1e3 / 4.7, 1],
  ['recvmsg', ns('guest_recvmsg'), 432 * (3.6 / 2.4), 5],
];

test.each(figures)('%s: %d ns, published %d', (_, computed, published, tolerance) => {
  expect(Math.abs(computed - published)).toBeLessThanOrEqual(tolerance);
});

test('a line between cores is no more than half of what reads two of them took', () => {
  expect(ns('cross_core_cache_line')).toBeLessThanOrEqual(Math.ceil(33.1 / 2));
});

test('frames out of a guest up to a NIC of the host: no faster than what was measured with a forwarder in it', () => {
  // 1.08 Mpps from a guest to a NIC; with the kernel datapath behind the tap
  expect(ns('vhost_net_tx_per_packet') + ns('ovs_kernel_per_packet')).toBeGreaterThanOrEqual(1e3 / 1.08);
});
