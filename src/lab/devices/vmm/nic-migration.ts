/**
 * A NIC given another back-end, or another bridge, while its guest runs: what a live migration to the same host does, as steps
 * of QEMU's monitor. The guest stops, with all its back-ends where they are; the device's state is saved; the old netdev goes
 * and the new one is opened; the state is loaded, and the rings are handed over where they stood; the guest goes on; and
 * everybody is told where it is now.
 *
 * Read first: qemu migration/migration.c, migration_completion(); migration/savevm.c, loadvm_postcopy_handle_run_bh() and
 * qemu_loadvm_state(); net/announce.c, qemu_announce_self_iter(). flows: vm_stop, vhost stop, vmstate, vhost start.
 */
import { assert } from '../../../engine/assert.ts';
import { QEMU_DEVICE_STATE, QEMU_NETDEV } from '../../../engine/events.ts';
import { rarpPacket } from '../../../machine/packet/rarp.ts';
import { VhostUserFrontend } from '../../../machine/vhost/user/frontend.ts';
import { hasFeature, VIRTIO_NET_F_GUEST_ANNOUNCE } from '../../../machine/virtio/features.ts';
import type { NicWiring } from '../netdev/nic-wiring.ts';
import type { NicDevice } from '../nic-device.ts';
import type { MonitorStep } from './monitor.ts';
import { loadNic, saveNic } from './nic-state.ts';
import { vmStart, vmStop } from './vm-state.ts';
import type { Vmm } from './vmm.ts';

/** Places of back-ends in events. */
const KIND_CODE = { qemu: 0, 'vhost-net': 1, 'vhost-user': 2 } as const;

/** When the phases of a migration ended, ns of virtual time; -1: not yet. */
export interface MigrationTimes {
  askedNs: number;
  /** The vCPUs stood still. */
  stoppedNs: number;
  /** All back-ends had left the rings. */
  ringsNs: number;
  savedNs: number;
  switchedNs: number;
  loadedNs: number;
  /** The vCPUs ran again. */
  startedNs: number;
  announcedNs: number;
  stateBytes: number;
  /** Why the NIC is as it was; null where nothing has gone wrong. */
  failed: string | null;
}
export function noTimes(askedNs: number): MigrationTimes {
  const none = {
    stoppedNs: -1,
    ringsNs: -1,
    savedNs: -1,
    switchedNs: -1,
    loadedNs: -1,
    startedNs: -1,
    announcedNs: -1,
  };
  return { askedNs, ...none, stateBytes: 0, failed: null };
}

/** `rewire`: takes the NIC's old netdev out of its bridge and makes the new one, which it returns; or says why it cannot. */
export function migrate(
  vmm: Vmm,
  nics: readonly NicDevice[],
  nic: NicDevice,
  times: MigrationTimes,
  rewire: () => NicWiring | string,
): MonitorStep[] {
  const { services } = vmm;
  const now = (): number => services.recorder.stamp[0]!;
  const stateCost = services.ns('qemu_device_state');
  let state: Uint8Array = new Uint8Array(0);
  const [stop, ...takeBack] = vmStop(vmm, nics);
  const start = vmStart(vmm, nics);
  const last = start.pop()!;
  const announce = announceStep(vmm, nic);
  return [
    { cost: 0, run: () => startLog(nic) },
    { ...stop!, run: then(stop!, () => (times.stoppedNs = now())) },
    ...takeBack,
    {
      cost: stateCost,
      run: () => {
        times.ringsNs = now() - stateCost;
        state = saveNic(nic);
        times.stateBytes = state.length;
        vmm.record(QEMU_DEVICE_STATE, state.length, 0);
        times.savedNs = now();
      },
    },
    {
      cost: services.ns('qemu_ring_handover') * 2 * nic.wiring.pairs.length,
      run: () => {
        const before = nic.wiring.kind;
        const wiring = rewire();
        times.switchedNs = now();
        if (typeof wiring === 'string') {
          // the source goes on, as after any migration that fails
          times.failed = wiring;
          return;
        }
        nic.rewired(wiring);
        vmm.record(QEMU_NETDEV, KIND_CODE[before], KIND_CODE[wiring.kind]);
      },
    },
    {
      cost: stateCost,
      run: () => {
        const fault = loadNic(nic, state);
        assert(fault === null, `a state that was saved is loaded: ${fault}`);
        vmm.record(QEMU_DEVICE_STATE, state.length, 1);
        times.loadedNs = now();
      },
    },
    ...start,
    { ...last, run: then(last, () => (times.startedNs = now())) },
    {
      ...announce,
      run: () => {
        if (times.failed === null) announce.run();
        times.announcedNs = now();
      },
    },
  ];
}
/**
 * ram_save_setup(): what back-ends write from now on is logged (vhost_log_global_start()).
 * DEVIATION: nobody reads the log: memory stays where it is, and is not sent. QEMU's own writes are not in it.
 */
function startLog(nic: NicDevice): void {
  const { backend } = nic;
  if (backend.kind === 'vhost-net') nic.startLog();
  if (backend.kind === 'vhost-user' && backend.frontend instanceof VhostUserFrontend && !backend.frontend.closed)
    backend.frontend.startLog();
}
const then =
  (step: MonitorStep, after: () => void): (() => void) =>
  () => {
    step.run();
    after();
  };

/** Everybody is told where the NIC's address is. */
export function announceStep(vmm: Vmm, nic: NicDevice): MonitorStep {
  const { services } = vmm;
  return {
    cost: services.ns('tap_write_syscall') + services.ns('ovs_kernel_per_packet'),
    run: () => announceSelf(vmm, nic),
  };
}
/**
 * qemu_announce_self_iter(): a RARP request in the name of the guest, so that bridges learn where its address is; and the
 * driver, if it can, is asked to announce itself. A vhost-user back-end is asked to send the RARP, where the driver cannot.
 * DEVIATION: once; QEMU does it five times, 50 to 550 ms apart (announce-rounds).
 */
function announceSelf(vmm: Vmm, nic: NicDevice): void {
  const { wiring, device, backend } = nic;
  if (!device.live || !device.netConfig.linkUp) return;
  const itself = hasFeature(device.driverFeatures, VIRTIO_NET_F_GUEST_ANNOUNCE);
  if (wiring.kind !== 'vhost-user') {
    const packet = rarpPacket(vmm.services, (wiring.backendPlace << 8) | vmm.actorBits, device.netConfig.mac);
    wiring.tap.queues[0]!.receive(packet, vmm.actorBits);
    wiring.tap.process(packet, vmm.actorBits);
    wiring.tap.takeDebt();
  } else if (!itself && backend.kind === 'vhost-user' && backend.frontend instanceof VhostUserFrontend) {
    // vhost_user_migration_done()
    backend.frontend.sendRarp(device.netConfig.mac.reduce((n, byte) => 256 * n + byte, 0));
  }
  if (itself) nic.announce();
}
