/**
 * Queues (ovs lib/ofp-queue.c). No port has a queue that does anything: each has queue 0, without limits and with unknown counters,
 * which is how Open vSwitch shows an interface whose kernel or driver has none set up.
 */
import { finish, message, type Writer } from './buffer.ts';
import { OFP10_VERSION, OFPT10_QUEUE_GET_CONFIG_REPLY, OFPT11_QUEUE_GET_CONFIG_REPLY, portTo10 } from './codes.ts';

/** For OpenFlow 1.0 to 1.3: one port, or OFPP_ANY; `ports` have queue 0 each. */
export function encodeQueueConfig(version: number, xid: number, asked: number, ports: readonly number[]): Uint8Array {
  const old = version === OFP10_VERSION;
  const out = message(version, old ? OFPT10_QUEUE_GET_CONFIG_REPLY : OFPT11_QUEUE_GET_CONFIG_REPLY, xid, 256);
  if (old) out.u16(portTo10(asked)).zeros(6);
  else out.u32(asked).zeros(4);
  for (const port of ports) {
    // struct ofp10_packet_queue and ofp12_packet_queue: number, (port,) length.
    if (old) out.u32(0).u16(8).zeros(2);
    else out.u32(0).u32(port).u16(16).zeros(6);
  }
  return finish(out);
}
/** OFPMP_QUEUE_DESC of 1.4 and later. */
export function putQueueDesc(out: Writer, port: number): void {
  out.u32(port).u32(0).u16(16).zeros(6);
}
export function putQueueStats(out: Writer, version: number, port: number): void {
  if (version >= 5) out.u16(48).zeros(6);
  if (version === OFP10_VERSION) out.u16(portTo10(port)).zeros(2);
  else out.u32(port);
  out.u32(0).count(-1).count(-1).count(-1);
  if (version >= 4) out.u32(0xffffffff).u32(0xffffffff);
}
