/**
 * The dirty log of a NIC with vhost-net: memory of QEMU's in which its workers mark what they write to the guest, from the
 * moment a migration begins. qemu hw/virtio/vhost.c, vhost_log_global_start().
 */
import type { AddressSpace } from '../../../machine/memory/address-space.ts';
import { vhostNetSetLog } from '../../../machine/vhost/kernel/frontend.ts';
import { RingLog } from '../../../machine/vhost/ring-log.ts';
import { logBytes } from '../../../machine/vhost/user/frontend-payloads.ts';
import type { OpenVhostNet } from './nic-backend.ts';
import type { NicWiring } from './nic-wiring.ts';

/** Where QEMU has the log: an address of its own, like that of guest RAM an example. */
const QEMU_LOG_UVA = 0x7e00_0000_0000;

/**
 * Starts it. `memory`: by which the NIC's queues reach guest memory; not behind an IOMMU. Returns the log, or a negative errno
 * of the first device that refuses.
 */
export function logVhostNet(
  { workers }: Extract<NicWiring, { kind: 'vhost-net' }>,
  opened: readonly OpenVhostNet[],
  memory: AddressSpace,
): Uint8Array | number {
  const running = opened.filter(({ started }) => started !== null);
  const bits = new Uint8Array(logBytes(running[0]?.started?.regions ?? []));
  for (const [i, { device, frontend, started }] of running.entries()) {
    device.hooks = { ...device.hooks, memoryAt: (address) => (address === QEMU_LOG_UVA ? bits : null) };
    const result = vhostNetSetLog(frontend, started!, QEMU_LOG_UVA);
    if (result < 0) return result;
    // buffers are marked where they are translated, which is the same for all pairs: one log, which all devices share
    const log = new RingLog(device, memory);
    if (i === 0) memory.translateBy(log);
    workers[i]!.log = log;
  }
  return bits;
}
