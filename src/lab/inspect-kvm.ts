/** What the API shows of a guest's KVM: vCPUs with their exits, memory slots, doorbells, interrupt routes, the VMM's descriptors. */
import { KVM_ENTRY, KVM_POSTED_INTERRUPT } from '../engine/events.ts';
import { EXIT_KINDS } from '../engine/exit-kinds.ts';
import type { Vcpu } from '../machine/kvm/vcpu.ts';
import { KVM_EXIT_NAMES } from '../machine/wire/kvm.ts';
import type { BuiltGuest, Machine } from './build/machine.ts';
import { counter, findGuest } from './inspect.ts';
import type { KvmState, VcpuState } from './kvm-state.ts';

const hex = (n: number): string => `0x${n.toString(16)}`;
const exitName = (reason: number): string => KVM_EXIT_NAMES.get(reason) ?? String(reason);

/** Throws Refusal NOT_FOUND. vCPUs that never run have no exits to show and are left out. */
export function kvmState(machine: Machine, guest: string): KvmState {
  const built = findGuest(machine, guest);
  const { vm } = built;
  const process = processOf(built);
  return {
    guest: built.document.name,
    host: built.host.name,
    vcpus: built.vcpus.map((vcpu, id) => vcpuState(machine, vcpu, id)),
    memorySlots: vm.memory.list.map((s) => ({
      slot: s.slot,
      flags: s.flags,
      guestPhysAddr: hex(s.guest_phys_addr),
      memorySize: s.memory_size,
      userspaceAddr: hex(s.userspace_addr),
    })),
    ioeventfds: vm.bus.list.map((i) => ({
      bus: i.bus === 0 ? 'mmio' : 'pio',
      address: hex(i.addr),
      length: i.length,
      datamatch: i.datamatch < 0 ? null : i.datamatch,
      fd: i.eventfd.fd,
      what: i.eventfd.name,
    })),
    irqfds: vm.irqfds.map(({ eventfd, gsi }) => ({ fd: eventfd.fd, gsi, what: eventfd.name })),
    routes: vm.routes.map((r) => ({
      gsi: r.gsi,
      type: r.type,
      irqchip: r.type === 'irqchip' ? r.irqchip : null,
      pin: r.type === 'irqchip' ? r.pin : null,
      address: r.type === 'msi' ? hex(r.address_lo) : null,
      data: r.type === 'msi' ? r.data : null,
    })),
    descriptors: process === null ? [] : [...process.fds.entries()].map(([fd, file]) => ({ fd, file: file.name })),
  };
}
/** A guest without NICs has no set-up: its VMM was never started. */
function processOf({ nics }: BuiltGuest) {
  return nics[0]?.setup.vmm.process ?? null;
}

function vcpuState(machine: Machine, vcpu: Vcpu, id: number): VcpuState {
  const { poll, run } = vcpu;
  const returns: Record<string, number> = {};
  for (const [reason, count] of run.exits.entries()) if (count > 0) returns[exitName(reason)] = count;
  return {
    id,
    fd: vcpu.fd,
    exits: EXIT_KINDS.map(({ kind, reason, handledBy }) => ({
      reason,
      handledBy,
      count: counter(machine, vcpu.place, kind),
    })),
    exitReason: exitName(run.exit_reason),
    returns,
    haltWakeup: counter(machine, vcpu.place, KVM_ENTRY),
    postedInterrupts: counter(machine, vcpu.place, KVM_POSTED_INTERRUPT),
    haltPoll:
      poll === null
        ? null
        : {
            haltPollNs: poll.halt_poll_ns,
            haltAttemptedPoll: poll.halt_attempted_poll,
            haltSuccessfulPoll: poll.halt_successful_poll,
            haltPollInvalid: poll.halt_poll_invalid,
            haltPollSuccessNs: poll.halt_poll_success_ns,
            haltPollFailNs: poll.halt_poll_fail_ns,
          },
  };
}
