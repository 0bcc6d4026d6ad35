/**
 * What the devices of one guest share on the host's side: the VM, where its interrupts go, who answers its doorbells, and
 * the record of what the set-up does.
 */
import { EventFd } from '../../../engine/eventfd.ts';
import {
  KVM_SIGNAL_MSI,
  SCHED_SYSCALL,
  TUN_IOCTL_ARGUMENT,
  VHOST_IOCTL_ARGUMENT,
  VHOST_USER_BACKEND_MESSAGE,
  VHOST_USER_BACKEND_REPLY,
  VHOST_USER_BACKEND_REQUEST,
  VHOST_USER_MESSAGE,
} from '../../../engine/events.ts';
import type { QemuMainLoop } from '../../../machine/backend/qemu.ts';
import type { StratovirtLoop } from '../../../machine/backend/stratovirt.ts';
import type { LinuxVcpu } from '../../../machine/guest/linux-vcpu.ts';
import type { PmdVcpu } from '../../../machine/guest/pmd-vcpu.ts';
import { msiTarget } from '../../../machine/kvm/apic.ts';
import { MAX_IRQS } from '../../../machine/kvm/vcpu.ts';
import { Irqfd, msiVector, SYS_ioctl, type Vm } from '../../../machine/kvm/vm.ts';
import type { Services } from '../../../machine/services.ts';
import type { Trace } from '../../../machine/vhost/kernel/vhost-net.ts';
import { VirtioMmioDevice } from '../../../machine/virtio/mmio-transport.ts';
import type { MsiMessage } from '../../../machine/virtio/msix.ts';
import { VirtioPciDevice } from '../../../machine/virtio/pci-transport.ts';
import { VIRTIO_MSI_NO_VECTOR } from '../../../machine/wire/pci.ts';
import { EdgePin } from '../edge-pin.ts';
import type { GuestIommu } from '../guest-iommu.ts';
import type { NicWiring } from '../netdev/nic-wiring.ts';
import type { NicDevice } from '../nic-device.ts';
import { NicPin } from '../nic-pin.ts';
import type { Monitor } from './monitor.ts';
import { VmmProcess } from './vmm-process.ts';

/** PCI 3.0 §6.8.2: entries of an MSI-X table at most. */
const MAX_VECTORS = 2048;
/** Stands for a queue without a vector: a poll-mode driver never looks. */
const NO_LINE = MAX_IRQS;

/** Events that are nothing but bytes. */
const ARGUMENT_BYTES: ReadonlySet<number> = new Set([VHOST_IOCTL_ARGUMENT, TUN_IOCTL_ARGUMENT]);

export class Vmm {
  readonly services: Services;
  readonly vm: Vm;
  /** Those that run, the first of them boots. */
  readonly vcpus: readonly (LinuxVcpu | PmdVcpu)[];
  readonly vcpu: LinuxVcpu | PmdVcpu;
  /** Place of the first. */
  readonly vcpuPlace: number;
  mainLoop: QemuMainLoop | null = null;
  /** Its intel-iommu, once the guest's kernel has found it. */
  iommu: GuestIommu | null = null;
  /** In place of the main loop where the guest's VMM is StratoVirt. */
  stratovirt: StratovirtLoop | null = null;
  /** What QEMU's user asks for; null until something was asked. */
  monitor: Monitor | null = null;
  /** The guest is stopped (QMP stop): no back-end runs. */
  paused = false;
  /** It has been asked to be. */
  wantsPaused = false;
  /** Its descriptors, KVM's among them. */
  readonly process: VmmProcess;
  /** By address: one for each value that it means something of, -1 for any. */
  private readonly userDoorbells = new Map<number, UserDoorbell[]>();
  private readonly lines = new Map<number, Line>();

  /** `hostCores`: CPUs that its kernel runs on. */
  constructor(services: Services, vm: Vm, vcpus: readonly (LinuxVcpu | PmdVcpu)[], hostCores = 1) {
    this.services = services;
    this.vm = vm;
    this.vcpus = vcpus;
    this.vcpu = vcpus[0]!;
    this.vcpuPlace = this.vcpu.place;
    this.process = new VmmProcess(services, vm, () => (this.vcpuPlace << 8) | this.actorBits, hostCores);
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
      if (message !== undefined && ARGUMENT_BYTES.has(kind)) {
        recorder.event(base | kind, 0, recorder.foreignBytes(arena.u8, message), message.length);
        return;
      }
      recorder.event(base | kind, 0, a, b);
      if (message === undefined) return;
      const position = recorder.foreignBytes(arena.u8, message);
      const second = kind === VHOST_USER_BACKEND_REQUEST || kind === VHOST_USER_BACKEND_REPLY;
      const bytes = second ? VHOST_USER_BACKEND_MESSAGE : VHOST_USER_MESSAGE;
      recorder.event(base | bytes, 0, position, message.length);
    };
  }

  /**
   * DEVIATION: QEMU makes them when the rings are handed over and closes them when they come back; here they stay open as long as
   * the device.
   */
  openEventFds({ pairs, control }: NicWiring): void {
    for (const { rxKick, rxCall, txKick, txCall } of pairs.map((p) => p.fds))
      for (const eventfd of [rxKick, rxCall, txKick, txCall]) this.process.eventFd(eventfd);
    if (control !== null) this.process.eventFd(control.kick);
  }

  /** Writes of `match` (-1: of anything) to `address` come to the VMM on the vCPU's thread: no ioeventfd answers them. */
  userDoorbell(address: number, match: number, answer: (contextBits: number) => void): void {
    const others = (this.userDoorbells.get(address) ?? []).filter((d) => d.match !== match);
    this.userDoorbells.set(address, [...others, { match, answer }]);
  }
  removeUserDoorbell(address: number): void {
    this.userDoorbells.delete(address);
  }
  /**
   * The call eventfd of a vhost ring becomes an irqfd that follows the message of its vector. A queue without a vector has
   * none: what is signalled reaches nobody.
   */
  irqfd(call: EventFd, { vcpu, line, message }: Line): Irqfd {
    if (message !== null) return this.process.irqfd(call, message);
    this.process.eventFd(call);
    const unheard = new Irqfd(this.services.recorder, call, -1, null);
    unheard.follow(vcpu, line);
    return unheard;
  }

  /** Where an MSI-X vector of a NIC goes: the vCPU that its message names, and the line there that all its queues share. */
  line(nic: NicDevice, msixVector: number): Line {
    const { index, wiring, device } = nic;
    if (msixVector === VIRTIO_MSI_NO_VECTOR) return { vcpu: this.vcpu, line: NO_LINE, data: 0, message: null };
    const key = index * MAX_VECTORS + msixVector;
    let found = this.lines.get(key);
    if (found === undefined) {
      const message = device instanceof VirtioPciDevice ? device.msixMessage(msixVector) : null;
      const vcpu = this.vcpus[msiTarget(message?.address ?? 0)] ?? this.vcpu;
      // more than a driver of ours asks for: somebody else has written the registers
      const data = message?.data ?? 0;
      if (vcpu.irqs.length === MAX_IRQS) return { vcpu, line: NO_LINE, data, message };
      const uses = (queue: number): boolean => device.queues[queue]?.msixVector === msixVector;
      const pairs = wiring.nic.pairs.filter(({ index: pair }) => uses(2 * pair) || uses(2 * pair + 1));
      const configures = device instanceof VirtioPciDevice && device.configVector === msixVector;
      const handler = { pairs, config: configures ? () => nic.configInterrupt() : null };
      found = { vcpu, line: vcpu.addIrq(handler, message === null ? -1 : msiVector(data)), data, message };
      this.lines.set(key, found);
    }
    return found;
  }

  /** The line of a NIC without vectors: all its queues share it, and the first vCPU takes it. */
  pin(nic: NicDevice): NicPin {
    const { vcpu, services } = this;
    const { wiring } = nic;
    const pin: NicPin =
      this.stratovirt === null
        ? new NicPin(services.recorder, vcpu, wiring.backendPlace)
        : this.edgePin(nic, this.stratovirt);
    pin.line = vcpu.addIrq({ pairs: wiring.nic.pairs, config: () => nic.configInterrupt(), level: pin });
    return pin;
  }
  /** The same on StratoVirt's microVM: an irqfd on a line of the interrupt controllers. */
  private edgePin({ wiring, device }: NicDevice, loop: StratovirtLoop): EdgePin {
    const irqfd = new EventFd(-1, `${wiring.nic.name} irqfd`);
    if (device instanceof VirtioMmioDevice) this.process.lineIrqfd(irqfd, device.irq);
    return new EdgePin(this.services, this.vcpu, wiring.backendPlace, loop, irqfd);
  }
  /** QEMU sends a message by itself: the configuration changed, or a vector was unmasked that had something pending. */
  signal(nic: NicDevice, vector: number, contextBits: number): void {
    const { vcpu, line, data } = this.line(nic, vector);
    const { recorder } = this.services;
    recorder.event((nic.wiring.backendPlace << 8) | contextBits | SCHED_SYSCALL, 0, SYS_ioctl, 0);
    recorder.event((vcpu.place << 8) | contextBits | KVM_SIGNAL_MSI, 0, line, data);
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
  /** The message that comes by it, and its data; null where the queue has no vector. */
  readonly message: MsiMessage | null;
  readonly data: number;
}
