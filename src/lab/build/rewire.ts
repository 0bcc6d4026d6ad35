/**
 * A NIC of a running guest gets another back-end, or another bridge: its old port, tap and threads go, new ones come. The
 * guest's side (driver, rings, places of NIC and queues) stays as it is.
 */
import { QemuNic } from '../../machine/backend/qemu.ts';
import type { VhostNetWorker } from '../../machine/backend/vhost-net.ts';
import { type NicWiring, queuePlaces } from '../devices/netdev/nic-wiring.ts';
import { Refusal } from '../refusal.ts';
import type { GuestNic as GuestNicDocument } from '../topology.ts';
import { enterWorkers, wire } from './guests.ts';
import type { BuiltBridge, BuiltGuest, BuiltNic, Machine } from './machine.ts';
import type { HostSite, Site } from './site.ts';

/** Places of a wiring: port, back-end, tap. */
const WIRING_PLACES = 3;

/**
 * Why `built` cannot be wired as `document` says, or null: no such bridge on the host, a datapath that the back-end does not
 * go with, another number of queue pairs, a VMM that does not do it, or a world that has no room left to grow. `field` of the
 * refusal is a pointer into the NIC's document. Changes nothing.
 */
export function rewireFault(machine: Machine, built: BuiltNic, document: GuestNicDocument): Refusal | null {
  const { guest, nic, wiring } = built;
  const bridge = bridgeOf(machine, built, document.bridge);
  if (guest.document.vmm !== 'qemu') {
    const reason = `the back-end of a NIC is changed by QEMU; ${guest.name} runs in ${guest.document.vmm}`;
    return new Refusal('CONFLICT', reason, '/backend');
  }
  if (bridge === undefined) {
    return new Refusal('INVALID', `host ${guest.host.name} has no bridge ${document.bridge}`, '/bridge');
  }
  const userspace = document.backend === 'vhost-user';
  if (userspace !== (bridge.datapath === 'netdev')) {
    const wanted = userspace ? 'a bridge with datapath netdev' : 'a bridge of the kernel';
    const reason = `${document.backend} needs ${wanted}; ${bridge.name} has datapath ${bridge.datapath}`;
    return new Refusal('CONFLICT', reason, '/bridge');
  }
  if (document.queuePairs !== wiring.pairs.length) {
    const reason = `${nic.name} has ${wiring.pairs.length} queue pairs as long as its driver runs`;
    return new Refusal('CONFLICT', reason, '/queuePairs');
  }
  const lacks = machine.site.lacks(WIRING_PLACES, wiring.pairs.length);
  return lacks === null ? null : new Refusal('CONFLICT', `the running world cannot grow: ${lacks}`, '/backend');
}

/**
 * Wires a running NIC as `document` says, at the virtual time that it is now, and returns the new wiring, which is
 * `built.wiring` from then on (`built.document`, `built.contexts` follow). To be called between two steps, or from within the
 * step of a context that is none of the NIC's old back-end (QEMU's main loop, say), when the old back-end has been stopped:
 *
 * - The old port leaves its bridge: flows, cache and MAC entries that name it are gone, frames that wait in its tap queues or
 *   output batches are dropped (`port.removed`) and counted; what lies in the guest's rings stays there. vhost workers end,
 *   their cores are free; PMDs poll the old receive queues no more. A slice of theirs that is under way lands in nothing.
 * - The new port joins its bridge under a number of its own. There are new eventfds, new queue pairs (`pairs[i].pair`) that are
 *   connected to no ring, a new tap whose queues are paused, and new workers that sleep: nothing moves until the rings are
 *   handed over as at DRIVER_OK, with `base` where they stood. PMDs look for themselves once `pmds[i].look()` is called.
 * - Catalog: places of the old port, tap and back-end are retired and keep their counters, new ones follow; a place that comes
 *   back under its name is the same one. The NIC's other places and its guest's say the new back-end in their labels.
 *
 * Throws what rewireFault() says, and then has changed nothing. Whoever keeps the old wiring elsewhere (the device's set-up,
 * its doorbells and interrupt routes) replaces it.
 */
export function rewire(machine: Machine, built: BuiltNic, document: GuestNicDocument): NicWiring {
  const fault = rewireFault(machine, built, document);
  if (fault !== null) throw fault;
  const { site } = machine;
  const hostSite = site.hosts.get(built.guest.host.name)!;
  machine.recorder.stamp[0] = machine.scheduler.now[0]!;
  const carried = loopCarries(built.guest);
  unplug(machine, hostSite, built);
  built.document = document;
  built.wiring = plug(site, hostSite, built, document);
  countLoop(hostSite, built, carried);
  relabel(site, built);
  site.grew();
  return built.wiring;
}

function bridgeOf(machine: Machine, { guest }: BuiltNic, name: string): BuiltBridge | undefined {
  return machine.bridges.find((b) => b.host === guest.host.name && b.name === name);
}

// ---- the old back-end -------------------------------------------------------------------------------------------
function unplug(machine: Machine, hostSite: HostSite, built: BuiltNic): void {
  const { wiring, guest } = built;
  const { site } = machine;
  const loop = built.setup.vmm.mainLoop;
  const contextBits = (loop ?? guest.vcpu).id << 20;
  const port = wiring.kind === 'vhost-user' ? wiring.port : wiring.tap;
  if (wiring.kind === 'vhost-user') {
    hostSite.threads!.removePort(wiring.port);
  } else {
    if (wiring.kind === 'vhost-net') for (const worker of wiring.workers) endWorker(site, hostSite, worker);
    // its own data path, or the one that vhost fell back on
    const carried = (loop?.nics ?? []).filter((nic) => nic.tap === wiring.tap);
    for (const nic of carried) loop!.release(nic);
  }
  // a bridge of Open vSwitch may have lost it, or have gone
  if (hostSite.ovs?.detach(port, contextBits) !== true)
    bridgeOf(machine, built, wiring.document.bridge)!.attach.removePort(port.number, contextBits);
  site.places.retire(port.place);
  site.places.retire(wiring.backendPlace);
  if (wiring.kind !== 'vhost-user') site.places.retire(wiring.tap.tapPlace);
}
function endWorker(site: Site, { cores }: HostSite, worker: VhostNetWorker): void {
  worker.reset();
  site.contexts.retire(worker.id);
  cores.leave(worker.core);
}

// ---- the new one ------------------------------------------------------------------------------------------------
function plug(site: Site, hostSite: HostSite, built: BuiltNic, document: GuestNicDocument): NicWiring {
  const { nic, guest, wiring: old } = built;
  const { mainLoop } = built.setup.vmm;
  const contextBits = (mainLoop ?? guest.vcpu).id << 20;
  const labels = { host: guest.host.name, guest: guest.name, nic: document.name, backend: document.backend };
  const places = { ...nic.places, control: old.control?.place ?? -1 };
  const memory = { bounce: old.bounce, joined: old.pairs[0]!.joined };
  const of = { document, nic, places, labels, vmm: guest.document.vmm };
  const wiring = wire(site, hostSite, of, memory, (bridge, port) => bridge.plugPort(port, contextBits));
  const contexts = guest.vcpus.slice(0, document.queuePairs).map((vcpu) => vcpu.name);
  if (wiring.kind === 'vhost-net') {
    enterWorkers(site, hostSite, guest.name, wiring);
    contexts.push(...wiring.workers.map((worker) => worker.name));
  } else if (wiring.kind === 'qemu') {
    for (const own of wiring.qemu) if (own instanceof QemuNic) mainLoop?.adopt(own);
    if (mainLoop !== null) contexts.push(mainLoop.name);
  } else contexts.push(...site.pmdsOf(hostSite).map((pmd) => pmd.name));
  built.contexts.splice(0, built.contexts.length, ...contexts);
  return wiring;
}

const loopCarries = (guest: BuiltGuest): boolean => guest.nics.some(({ wiring }) => wiring.kind === 'qemu');
/** A main loop that carries frames counts on its core, one that carries none hardly runs: see Cores.shared() and least(). */
function countLoop({ cores }: HostSite, { guest, setup }: BuiltNic, before: boolean): void {
  const { mainLoop } = setup.vmm;
  const now = loopCarries(guest);
  if (mainLoop === null || now === before) return;
  if (now) cores.join(mainLoop.core);
  else cores.leave(mainLoop.core);
}

/** What the NIC's and the guest's places, and the guest's contexts, say of the back-end. */
function relabel({ places, contexts }: Site, { nic, guest, document, wiring, setup }: BuiltNic): void {
  const { backend } = document;
  for (const place of [nic.places.driver, ...queuePlaces(wiring)]) places.change(place, { backend });
  const backends = new Set(guest.nics.map((n) => n.document.backend));
  const label = backends.size === 1 ? backend : 'mixed';
  const loop = setup.vmm.mainLoop;
  for (const context of [...guest.vcpus, ...(loop === null ? [] : [loop])]) {
    places.change(context.place, { backend: label });
    contexts.change(context.id, { backend: label });
  }
}
