/** What the argument of a vhost-net ioctl says, by its names in linux include/uapi/linux/vhost.h. */
import { featureNames } from '../../virtio/features.ts';
import { viewOf } from '../../wire/struct.ts';
import {
  vhost_features,
  vhost_memory,
  vhost_memory_region,
  vhost_vring_addr,
  vhost_vring_file,
  vhost_vring_state,
} from '../../wire/vhost.ts';
import type { PayloadFields } from '../../wire/vhost-user-fields.ts';
import * as V from './vhost-net.ts';

const FEATURES: ReadonlySet<number> = new Set([V.VHOST_GET_FEATURES, V.VHOST_SET_FEATURES]);
const STATES: ReadonlySet<number> = new Set([
  V.VHOST_SET_VRING_NUM,
  V.VHOST_SET_VRING_BASE,
  V.VHOST_GET_VRING_BASE,
  V.VHOST_SET_VRING_BUSYLOOP_TIMEOUT,
  V.VHOST_GET_VRING_BUSYLOOP_TIMEOUT,
]);
const FILES: ReadonlySet<number> = new Set([
  V.VHOST_SET_VRING_KICK,
  V.VHOST_SET_VRING_CALL,
  V.VHOST_SET_VRING_ERR,
  V.VHOST_NET_SET_BACKEND,
]);
/** 64-bit addresses as they are written: they begin with 0x7f or 0x7e. */
const hex = (n: number): string => `0x${n.toString(16)}`;

/** Empty for a request without an argument, and for bytes that are not whole. */
export function describeVhostIoctl(request: number, argument: Uint8Array): PayloadFields {
  if (argument.length < V.ioctlSize(request)) return {};
  const m = viewOf(argument);
  if (FEATURES.has(request)) {
    const features = { lo: vhost_features.lo.get(m, 0), hi: vhost_features.hi.get(m, 0) };
    return { features: featureNames(features).join(' ') };
  }
  if (STATES.has(request)) return { index: vhost_vring_state.index.get(m, 0), num: vhost_vring_state.num.get(m, 0) };
  if (FILES.has(request)) return { index: vhost_vring_file.index.get(m, 0), fd: vhost_vring_file.fd.get(m, 0) };
  if (request === V.VHOST_SET_VRING_ADDR) {
    const a = vhost_vring_addr;
    return {
      index: a.index.get(m, 0),
      flags: a.flags.get(m, 0),
      desc_user_addr: hex(a.desc_user_addr.get(m, 0)),
      used_user_addr: hex(a.used_user_addr.get(m, 0)),
      avail_user_addr: hex(a.avail_user_addr.get(m, 0)),
      log_guest_addr: hex(a.log_guest_addr.get(m, 0)),
    };
  }
  if (request === V.VHOST_SET_MEM_TABLE) return { regions: regions(m) };
  if (request === V.VHOST_SET_LOG_FD) return { fd: m.getInt32(0, true) };
  // VHOST_SET_LOG_BASE, and the backend features
  return m.byteLength < 8 ? {} : { value: hex(m.getUint32(0, true) + m.getUint32(4, true) * 2 ** 32) };
}
/** Each as guest address, size and address of the caller. */
function regions(m: DataView): string {
  const r = vhost_memory_region;
  const n = Math.min(vhost_memory.nregions.get(m, 0), Math.floor((m.byteLength - vhost_memory.SIZE) / r.SIZE));
  return Array.from({ length: n }, (_, i) => {
    const at = vhost_memory.SIZE + i * r.SIZE;
    const fields = [r.guest_phys_addr.get(m, at), r.memory_size.get(m, at), r.userspace_addr.get(m, at)];
    return `${hex(fields[0]!)}+${hex(fields[1]!)}@${hex(fields[2]!)}`;
  }).join(' ');
}
