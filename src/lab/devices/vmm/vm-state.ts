/**
 * A guest stopped and let go on, and the link of a NIC (QMP stop, cont, set_link), as steps of QEMU's monitor.
 *
 * Read first: qemu softmmu/cpus.c, do_vm_stop(), vm_start(); hw/virtio/virtio.c, virtio_vmstate_change(); net/net.c,
 * qmp_set_link().
 */
import { QEMU_VM_START, QEMU_VM_STOP } from '../../../engine/events.ts';
import type { NicDevice } from '../nic-device.ts';
import type { MonitorStep } from './monitor.ts';
import type { Vmm } from './vmm.ts';

/** Nobody is in a burst on the NIC's rings any more, and nobody begins another one. `wake`: called when that may be so. */
function drained({ wiring, servedBy }: NicDevice, wake: () => void): boolean {
  if (servedBy !== 'backend') return true;
  let idle = true;
  if (wiring.kind === 'vhost-net') for (const worker of wiring.workers) idle = worker.hold(wake) && idle;
  else if (wiring.kind === 'vhost-user') {
    wiring.port.stopping = true;
    for (const pmd of new Set(wiring.pmds)) idle = pmd.quiesce(wake) && idle;
  }
  return idle;
}

/** Rings that have to change hands, at least the device itself. */
const rings = ({ device }: NicDevice): number => Math.max(1, device.queues.filter((q) => q.enabled).length);

/** Takes the rings of a NIC from whoever serves them. */
export function stopNic(vmm: Vmm, nic: NicDevice): MonitorStep {
  return {
    get cost() {
      return rings(nic) * vmm.services.ns('qemu_ring_handover');
    },
    ready: (wake) => drained(nic, wake),
    run: () => nic.suspend(),
  };
}
/** Hands them over again, if the driver has got so far. */
export function startNic(vmm: Vmm, nic: NicDevice): MonitorStep {
  return {
    get cost() {
      return rings(nic) * vmm.services.ns('qemu_ring_handover');
    },
    run: () => nic.goOn(),
  };
}

/** The vCPUs stop, then the back-ends of all NICs (do_vm_stop()). */
export function vmStop(vmm: Vmm, nics: readonly NicDevice[]): MonitorStep[] {
  const stop = {
    cost: vmm.services.ns('qemu_vm_stop'),
    run: () => {
      vmm.paused = true;
      vmm.record(QEMU_VM_STOP);
      for (const vcpu of vmm.vcpus) {
        vcpu.kicked();
        vcpu.stopVm();
      }
    },
  };
  return [stop, ...nics.map((nic) => stopNic(vmm, nic))];
}
/** The back-ends start, then the vCPUs (vm_prepare_start(), resume_all_vcpus()). */
export function vmStart(vmm: Vmm, nics: readonly NicDevice[]): MonitorStep[] {
  const begin = {
    cost: 0,
    run: () => {
      vmm.paused = false;
    },
  };
  const start = {
    cost: vmm.services.ns('qemu_vm_stop'),
    run: () => {
      vmm.record(QEMU_VM_START);
      for (const vcpu of vmm.vcpus) {
        vcpu.enter();
        vcpu.startVm();
      }
    },
  };
  return [begin, ...nics.map((nic) => startNic(vmm, nic)), start];
}

/** The driver is told, then vhost is stopped or started (virtio_net_set_link_status()). */
export function setLink(vmm: Vmm, nic: NicDevice, up: boolean): MonitorStep[] {
  return [
    {
      get cost() {
        return rings(nic) * vmm.services.ns('qemu_ring_handover');
      },
      ready: (wake) => nic.device.netConfig.linkUp === up || drained(nic, wake),
      run: () => nic.setLink(up),
    },
  ];
}
