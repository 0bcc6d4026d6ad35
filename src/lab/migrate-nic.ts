/**
 * PATCH of a NIC: another back-end, or another bridge, while the guest runs. Whether that can be, what is asked of QEMU, and what
 * is said of it afterwards. The steps are devices/nic-migration.ts.
 */

import { offeredWithBackend } from '../machine/vhost/offers.ts';
import { whyMissing } from '../machine/vhost/why-missing.ts';
import { andFeatures, type Features, featureName, hasFeature } from '../machine/virtio/features.ts';
import { deviceOffer } from '../machine/virtio/net/net-offers.ts';
import type { BuiltNic, Machine } from './build/machine.ts';
import { rewire, rewireFault } from './build/rewire.ts';
import { migrate, noTimes } from './devices/vmm/nic-migration.ts';
import { deviceState } from './inspect.ts';
import { negotiationOf } from './inspect-nic.ts';
import { type Asked, ask, devicesOf, qemuOf } from './qemu-commands.ts';
import { Refusal } from './refusal.ts';
import type { Backend, GuestNic as GuestNicDocument } from './topology.ts';

export interface NicChange {
  readonly backend?: Backend | undefined;
  readonly bridge?: string | undefined;
}

/** Feature bits that a guest uses and a NIC of `document` would not offer, with the reason for each. */
function lost(machine: Machine, built: BuiltNic, document: GuestNicDocument): string[] {
  const { device } = deviceState(built).nic;
  if (!device.featuresAgreed && !device.live) return [];
  const negotiation = negotiationOf(machine, { ...built, document }, device);
  const { offer, decides } = negotiation.backend;
  const before = device.legacy ? device.legacyOffered : device.offered;
  const own: Features = device.legacy ? before : andFeatures(deviceOffer(document), before);
  const offered = offeredWithBackend(own, offer, decides);
  const said: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if (!hasFeature(device.driverFeatures, bit) || hasFeature(offered, bit)) continue;
    said.push(`${featureName(bit)} (${whyMissing(bit, { ...negotiation, offered, accepted: null })})`);
  }
  return said;
}

/** The document of the NIC with the change, or the refusal that says why it cannot be. */
function changed(machine: Machine, built: BuiltNic, change: NicChange): GuestNicDocument {
  const { document, guest, nic } = built;
  const next: GuestNicDocument = {
    ...document,
    backend: change.backend ?? document.backend,
    bridge: change.bridge ?? document.bridge,
  };
  const fault = rewireFault(machine, built, next);
  if (fault !== null) throw fault;
  if (document.driver === 'none')
    throw new Refusal('CONFLICT', `${nic.name} has no driver; a client of the API holds its rings`, '/backend');
  if (qemuOf(guest).wantsPaused)
    throw new Refusal('CONFLICT', `guest ${guest.name} is paused; a guest that runs is migrated`, '/backend');
  if (!document.ioeventfd && next.backend !== 'virtio-net')
    throw new Refusal('CONFLICT', `${nic.name} has ioeventfd off, and ${next.backend} has no other way`, '/backend');
  const bits = lost(machine, built, next);
  if (bits.length > 0) {
    const reason = `the driver of ${nic.name} uses what ${next.backend} on ${next.bridge} does not offer: ${bits.join(', ')}`;
    throw new Refusal('CONFLICT', reason, '/backend');
  }
  return next;
}

/** Asks the guest's QEMU for it. Null: the NIC is as asked for. Throws a Refusal; then nothing has changed. */
export function migrateNic(machine: Machine, built: BuiltNic, change: NicChange): Asked | null {
  const { document, guest } = built;
  const { nic } = deviceState(built);
  if (nic.migration !== null && nic.migration.announcedNs < 0)
    throw new Refusal('CONFLICT', `${built.nic.name} is being given another back-end`, '/backend');
  const same = (change.backend ?? document.backend) === document.backend;
  if (same && (change.bridge ?? document.bridge) === document.bridge) return null;
  const next = changed(machine, built, change);
  const vmm = qemuOf(guest);
  const times = noTimes(machine.scheduler.now[0]!);
  nic.migration = times;
  const steps = migrate(vmm, devicesOf(guest), nic, times, () => {
    // a world that has grown meanwhile may have no room any more
    const fault = rewireFault(machine, built, next);
    if (fault !== null) return fault.message;
    return rewire(machine, built, next);
  });
  return ask(machine, vmm, steps);
}
