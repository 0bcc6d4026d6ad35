/**
 * What a document can say and no world can be built with yet: a topology that asks for it is refused, with the field and
 * the reason, instead of running as something else. Each line here goes when its part is wired into the builder.
 */
import type { Fault } from './document-faults.ts';
import { FEATURE_RULES } from './document-features.ts';
import type { GuestNic, Topology } from './topology.ts';

/** Bits that are off by default, and honoured. */
const BUILT = new Set([
  'VIRTIO_F_IN_ORDER',
  'VIRTIO_F_NOTIFICATION_DATA',
  'VIRTIO_NET_F_GUEST_HDRLEN',
  'VIRTIO_NET_F_HOST_USO',
  'VIRTIO_NET_F_GUEST_USO4',
  'VIRTIO_NET_F_GUEST_USO6',
  'VIRTIO_NET_F_RSS',
  'VIRTIO_NET_F_HASH_REPORT',
  'VIRTIO_NET_F_HASH_TUNNEL',
  'VIRTIO_NET_F_DEVICE_STATS',
  'VIRTIO_NET_F_NOTF_COAL',
  'VIRTIO_NET_F_VQ_NOTF_COAL',
]);

/** Faults of the fields that nothing honours yet; none where the world is what the document says. */
export function unbuilt(topology: Topology): Fault[] {
  const faults: Fault[] = [];
  for (const [h, host] of topology.hosts.entries()) {
    for (const [g, guest] of host.guests.entries()) {
      for (const [n, nic] of guest.nics.entries()) faults.push(...ofNic(nic, `/hosts/${h}/guests/${g}/nics/${n}`));
    }
  }
  return faults;
}

function ofNic(nic: GuestNic, at: string): Fault[] {
  const faults: Fault[] = [];
  for (const { name, byDefault } of FEATURE_RULES) {
    if (byDefault !== false || nic.features[name] !== true || BUILT.has(name)) continue;
    faults.push(fault(`${at}/features/${name}`, 'true', 'false'));
  }
  return faults;
}

function fault(pointer: string, value: string, expected: string): Fault {
  return { pointer, code: 'not-built', detail: `${value} is not built yet`, expected };
}
