/**
 * What the devices of one guest share on the host's side: the VM, where its interrupts go, who answers its doorbells, and
 * the record of what the set-up does.
 */
import { EventFd } from '../../engine/eventfd.ts';
import { KVM_IOCTL, KVM_SIGNAL_MSI, SCHED_SYSCALL, VHOST_USER_MESSAGE } from '../../engine/events.ts';
import type { QemuMainLoop } from '../../machine/backend/qemu.ts';
import type { StratovirtLoop } from '../../machine/backend/stratovirt.ts';
import type { LinuxVcpu } from '../../machine/guest/linux-vcpu.ts';
import type { PmdVcpu } from '../../machine/guest/pmd-vcpu.ts';
import { msiTarget } from '../../machine/kvm/apic.ts';
import { KVM_CREATE_VCPU, KVM_CREATE_VM, KVM_SET_USER_MEMORY_REGION } from '../../machine/kvm/ioctls.ts';
import { memorySlots } from '../../machine/kvm/memory-slots.ts';
import { MAX_IRQS } from '../../machine/kvm/vcpu.ts';
import { SYS_ioctl, type Vm } from '../../machine/kvm/vm.ts';
import type { Services } from '../../machine/services.ts';
import type { Trace } from '../../machine/vhost/ioctl-carrier.ts';
import { VirtioPciDevice } from '../../machine/virtio/pci-transport.ts';
import { VIRTIO_MSI_NO_VECTOR } from '../../machine/wire/pci.ts';
import { EdgePin } from './edge-pin.ts';
import type { Monitor } from './monitor.ts';
import type { NicDevice } from './nic-device.ts';
import { NicPin } from './nic-pin.ts';

/** PCI 3.0 §6.8.2: entries of an MSI-X table at most. */
const MAX_VECTORS = 2048;
/** Stands for a queue without a vector: a poll-mode driver never looks. */
const NO_LINE = MAX_IRQS;

export class Vmm {
  readonly services: Services;
  readonly vm: Vm;
  /** Those that run, the first of them boots. */
  readonly vcpus: readonly (LinuxVcpu | PmdVcpu)[];
  readonly vcpu: LinuxVcpu | PmdVcpu;
  /** Place of the first. */
  readonly vcpuPlace: number;
  mainLoop: QemuMainLoop | null = null;
  /** In place of the main loop where the guest's VMM is StratoVirt. */
  stratovirt: StratovirtLoop | null = null;
  /** What QEMU's user asks for; null until something was asked. */
  monitor: Monitor | null = null;
  /** The guest is stopped (QMP stop): no back-end runs. */
  paused = false;
  /** It has been asked to be. */
  wantsPaused = false;
  private gsi = 24;
  /** By address: one for each value that it means something of, -1 for any. */
  private readonly userDoorbells = new Map<number, UserDoorbell[]>();
  private readonly lines = new Map<number, Line>();

  constructor(services: Services, vm: Vm, vcpus: readonly (LinuxVcpu | PmdVcpu)[]) {
    this.services = services;
    this.vm = vm;
    this.vcpus = vcpus;
    this.vcpu = vcpus[0]!;
    this.vcpuPlace = this.vcpu.place;
    vm.onUserWrite = (address, value, contextBits) => {
      const doorbell = this.userDoorbells.get(address)?.find((d) => d.match < 0 || d.match === (value & 0xffff));
      doorbell?.answer(contextBits);
    };
  }

  /** The vCPU that serves a queue pair. */
  vcpuOf(pair: number): LinuxVcpu | PmdVcpu {
    return this.vcpus[pair % this.vcpus.length]!;
  }
  /** Context part of the meta words of what the VMM does: the first vCPU's thread, but for what its main loop is asked for. */
  private actor = -1;
  /** Context part of the meta words of what the VMM does now. */
  get actorBits(): number {
    return this.actor < 0 ? this.vcpu.id << 20 : this.actor;
  }
  /** What `act` does is that context's doing. */
  actAs(contextBits: number, act: () => void): void {
    const before = this.actor;
    this.actor = contextBits;
    act();
    this.actor = before;
  }
  /** An event of the process, at the current stamp. */
  record(kind: number, a = 0, b = 0): void {
    this.services.recorder.event(((this.mainLoop?.place ?? 0) << 8) | this.actorBits | kind, 0, a, b);
  }
  /** Events of the set-up: on the vCPU's time, or on the main loop's, at the place that they concern. */
  trace(place: number): Trace {
    const { recorder, arena } = this.services;
    return (kind, a, b, message) => {
      const base = (place << 8) | this.actorBits;
      recorder.event(base | kind, 0, a, b);
      if (message === undefined) return;
      const position = recorder.foreignBytes(arena.u8, message);
      recorder.event(base | VHOST_USER_MESSAGE, 0, position, message.length);
    };
  }

  /** The VM is made, with its memory and its vCPU. */
  createVm(): void {
    const kvm = this.trace(this.vcpuPlace);
    kvm(KVM_IOCTL, KVM_CREATE_VM, 0);
    for (const slot of memorySlots(this.vm.ramBytes)) kvm(KVM_IOCTL, KVM_SET_USER_MEMORY_REGION, slot.gpa);
    for (let i = 0; i < this.vcpus.length; i++) kvm(KVM_IOCTL, KVM_CREATE_VCPU, i);
  }

  /** Writes of `match` (-1: of anything) to `address` come to the VMM on the vCPU's thread: no ioeventfd answers them. */
  userDoorbell(address: number, match: number, answer: (contextBits: number) => void): void {
    const others = (this.userDoorbells.get(address) ?? []).filter((d) => d.match !== match);
    this.userDoorbells.set(address, [...others, { match, answer }]);
  }
  removeUserDoorbell(address: number): void {
    this.userDoorbells.delete(address);
  }
  /** A global system interrupt number for an irqfd. */
  nextGsi(): number {
    return this.gsi++;
  }

  /** Where an MSI-X vector of a NIC goes: the vCPU that its message names, and the line there that all its queues share. */
  line(nic: NicDevice, msixVector: number): Line {
    const { index, wiring, device } = nic;
    if (msixVector === VIRTIO_MSI_NO_VECTOR) return { vcpu: this.vcpu, line: NO_LINE };
    const key = index * MAX_VECTORS + msixVector;
    let found = this.lines.get(key);
    if (found === undefined) {
      const message = device instanceof VirtioPciDevice ? device.msixMessage(msixVector) : null;
      const vcpu = this.vcpus[msiTarget(message?.address ?? 0)] ?? this.vcpu;
      // more than a driver of ours asks for: somebody else has written the registers
      if (vcpu.irqs.length === MAX_IRQS) return { vcpu, line: NO_LINE };
      const uses = (queue: number): boolean => device.queues[queue]?.msixVector === msixVector;
      const pairs = wiring.nic.pairs.filter(({ index: pair }) => uses(2 * pair) || uses(2 * pair + 1));
      const configures = device instanceof VirtioPciDevice && device.configVector === msixVector;
      found = { vcpu, line: vcpu.addIrq({ pairs, config: configures ? () => nic.configInterrupt() : null }) };
      this.lines.set(key, found);
    }
    return found;
  }

  /** The line of a NIC without vectors: all its queues share it, and the first vCPU takes it. */
  pin(nic: NicDevice): NicPin {
    const { vcpu, services } = this;
    const { wiring } = nic;
    const { stratovirt } = this;
    const pin: NicPin =
      stratovirt === null
        ? new NicPin(services.recorder, vcpu, wiring.backendPlace)
        : new EdgePin(
            services,
            vcpu,
            wiring.backendPlace,
            stratovirt,
            new EventFd(nic.index, `${wiring.nic.name} irqfd`),
          );
    pin.line = vcpu.addIrq({ pairs: wiring.nic.pairs, config: () => nic.configInterrupt(), level: pin });
    return pin;
  }
  /** QEMU sends a message by itself: the configuration changed, or a vector was unmasked that had something pending. */
  signal(nic: NicDevice, vector: number, contextBits: number): void {
    const { vcpu, line } = this.line(nic, vector);
    const { recorder } = this.services;
    recorder.event((nic.wiring.backendPlace << 8) | contextBits | SCHED_SYSCALL, 0, SYS_ioctl, 0);
    recorder.event((vcpu.place << 8) | contextBits | KVM_SIGNAL_MSI, 0, line, 0);
    vcpu.interrupt(line);
  }
}

/** A register that the VMM answers for, of one queue. */
interface UserDoorbell {
  readonly match: number;
  readonly answer: (contextBits: number) => void;
}

/** A vCPU and an interrupt line of it. */
export interface Line {
  readonly vcpu: LinuxVcpu | PmdVcpu;
  readonly line: number;
}
