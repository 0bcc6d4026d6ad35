/** KVM's descriptors: what each ioctl checks and returns, as linux virt/kvm and arch/x86/kvm do (6.1). */
import { beforeEach, describe, expect, test } from 'vitest';
import { EventFd } from '../../../../src/engine/eventfd.ts';
import {
  EAGAIN,
  EBADF,
  EBUSY,
  EEXIST,
  EFAULT,
  EINTR,
  EINVAL,
  ENODEV,
  ENOENT,
  ENOSPC,
  ENOTTY,
  ENXIO,
} from '../../../../src/machine/kernel/errno.ts';
import { openEventFd } from '../../../../src/machine/kernel/eventfd-file.ts';
import { FdTable } from '../../../../src/machine/kernel/files.ts';
import { KvmDevice, resetRegs, resetSregs, type VcpuFile, type VmFile } from '../../../../src/machine/kvm/kvm-files.ts';
import { VcpuRun } from '../../../../src/machine/kvm/vcpu-run.ts';
import { Vm } from '../../../../src/machine/kvm/vm.ts';
import * as K from '../../../../src/machine/wire/kvm.ts';
import { type Accessor, viewOf } from '../../../../src/machine/wire/struct.ts';

let fds: FdTable;
let kvm: number;
let vmFd: number;
let vm: Vm;
/** Lines that a vCPU got, as [vCPU, line]. */
let got: [number, number][];

function bytesOf(layout: object, values: Readonly<Record<string, number>>, more = 0): Uint8Array {
  const l = layout as Record<string, Accessor> & { SIZE: number };
  const out = new Uint8Array(l.SIZE + more);
  for (const [name, value] of Object.entries(values)) l[name]!.set(viewOf(out), 0, value);
  return out;
}
const onVm = (request: number, argument: Uint8Array = new Uint8Array(0), value = 0): number =>
  fds.ioctl(vmFd, request, argument, value);
const eventfd = (name = 'e'): EventFd => {
  const e = new EventFd(-1, name);
  openEventFd(fds, e);
  return e;
};

beforeEach(() => {
  fds = new FdTable();
  got = [];
  kvm = fds.install(
    new KvmDevice(
      fds,
      () => {
        vm = new Vm('a', 0, 1 << 24, 2);
        for (const id of [0, 1]) {
          // as a guest that has its descriptor table: line = vector - 32
          vm.targets.push({ lineOf: (vector) => vector - 32, interrupt: (line) => void got.push([id, line]) });
          vm.runs.push(new VcpuRun());
        }
        return vm;
      },
      8,
    ),
  );
  vmFd = fds.ioctl(kvm, K.KVM_CREATE_VM);
});

describe('/dev/kvm', () => {
  test('version, size of the shared pages, capabilities', () => {
    expect(fds.ioctl(kvm, K.KVM_GET_API_VERSION)).toBe(12);
    expect(fds.ioctl(kvm, K.KVM_GET_API_VERSION, undefined, 1)).toBe(-EINVAL);
    expect(fds.ioctl(kvm, K.KVM_GET_VCPU_MMAP_SIZE)).toBe(3 * 4096);
    expect(fds.ioctl(kvm, K.KVM_GET_VCPU_MMAP_SIZE, undefined, 1)).toBe(-EINVAL);
    const capability = (n: number): number => fds.ioctl(kvm, K.KVM_CHECK_EXTENSION, undefined, n);
    expect(capability(K.KVM_CAP_IOEVENTFD)).toBe(1);
    expect(capability(K.KVM_CAP_NR_MEMSLOTS)).toBe(32_764);
    expect(capability(K.KVM_CAP_IRQ_ROUTING)).toBe(4096);
    expect(capability(K.KVM_CAP_NR_VCPUS)).toBe(8);
    expect(capability(9999)).toBe(0);
  });
  test('a machine of a type that x86 does not have', () => {
    expect(fds.ioctl(kvm, K.KVM_CREATE_VM, undefined, 1)).toBe(-EINVAL);
  });
  test("another file's request, and a descriptor that is not open", () => {
    expect(fds.ioctl(kvm, K.KVM_RUN)).toBe(-ENOTTY);
    expect(fds.ioctl(vmFd, K.KVM_CREATE_VM)).toBe(-ENOTTY);
    expect(fds.ioctl(99, K.KVM_RUN)).toBe(-EBADF);
    expect(fds.file(vmFd)!.name).toBe('anon_inode:kvm-vm');
  });
  test('a structure that is too short cannot be copied', () => {
    for (const request of K.KVM_IOCTLS.keys()) {
      const size = (request >>> 16) & 0x3fff;
      if (size === 0 || fds.file(vmFd)!.ioctl(request, new Uint8Array(size)) === -ENOTTY) continue;
      expect(onVm(request, new Uint8Array(size - 1)), K.KVM_IOCTL_NAMES.get(request)!).toBe(-EFAULT);
    }
  });
});

describe('KVM_CREATE_VCPU, KVM_CREATE_IRQCHIP', () => {
  test('numbers are given once, and are below 4096', () => {
    const fd = onVm(K.KVM_CREATE_VCPU, undefined, 3);
    expect(fds.file(fd)!.name).toBe('anon_inode:kvm-vcpu:3');
    expect(onVm(K.KVM_CREATE_VCPU, undefined, 3)).toBe(-EEXIST);
    expect(onVm(K.KVM_CREATE_VCPU, undefined, 4096)).toBe(-EINVAL);
    expect(onVm(K.KVM_CREATE_VCPU, undefined, -1)).toBe(-EINVAL);
  });
  test('at most 1024', () => {
    for (let id = 0; id < 1024; id++) expect(onVm(K.KVM_CREATE_VCPU, undefined, id)).toBeGreaterThan(0);
    expect(onVm(K.KVM_CREATE_VCPU, undefined, 1024)).toBe(-EINVAL);
    expect((fds.file(vmFd) as VmFile).vcpus.length).toBe(1024);
  });
  test('interrupt controllers come once, and before vCPUs', () => {
    expect(onVm(K.KVM_CREATE_IRQCHIP)).toBe(0);
    expect(onVm(K.KVM_CREATE_IRQCHIP)).toBe(-EEXIST);
    expect(vm.routes.length).toBe(40);
  });
  test('after a vCPU it is too late', () => {
    onVm(K.KVM_CREATE_VCPU, undefined, 0);
    expect(onVm(K.KVM_CREATE_IRQCHIP)).toBe(-EINVAL);
  });
});

describe('KVM_SET_USER_MEMORY_REGION, KVM_GET_DIRTY_LOG', () => {
  const set = (values: Readonly<Record<string, number>>): number =>
    onVm(
      K.KVM_SET_USER_MEMORY_REGION,
      bytesOf(K.kvm_userspace_memory_region, { userspace_addr: 0x7f00_0000_0000, memory_size: 0x10_0000, ...values }),
    );
  const log = (slot: number, bytes = 4096): [number, Uint8Array] => {
    const argument = bytesOf(K.kvm_dirty_log, { slot }, bytes);
    return [onVm(K.KVM_GET_DIRTY_LOG, argument), argument.subarray(16)];
  };
  test.each([
    ['a flag that nobody knows', { flags: 4 }],
    ['size that is no whole page', { memory_size: 0x1234 }],
    ['address that is none', { guest_phys_addr: 0x800 }],
    ['address in the process that is none', { userspace_addr: 0x7f00_0000_0001 }],
    ['beyond what a process can map', { userspace_addr: 2 ** 47 - 8192 }],
    ['number of a slot that KVM keeps', { slot: 32_764 }],
    ['third address space', { slot: 2 << 16 }],
    ['nothing to delete', { memory_size: 0 }],
  ])('%s: EINVAL', (_, values) => expect(set(values)).toBe(-EINVAL));
  test('overlapping slots: EEXIST; in the other address space, and side by side, they do not', () => {
    expect(set({ slot: 0 })).toBe(0);
    expect(set({ slot: 1, guest_phys_addr: 0xf_f000 })).toBe(-EEXIST);
    expect(set({ slot: 1, guest_phys_addr: 0x10_0000 })).toBe(0);
    expect(set({ slot: (1 << 16) | 1 })).toBe(0);
    expect(vm.memory.list.map((s) => s.slot)).toEqual([0, 1, 0x1_0001]);
  });
  test('a slot may move and log, but not change its size, its place in the process or who may write', () => {
    expect(set({ slot: 0 })).toBe(0);
    expect(set({ slot: 0 })).toBe(0);
    expect(set({ slot: 0, memory_size: 0x20_0000 })).toBe(-EINVAL);
    expect(set({ slot: 0, userspace_addr: 0x7f00_1000_0000 })).toBe(-EINVAL);
    expect(set({ slot: 0, flags: K.KVM_MEM_READONLY })).toBe(-EINVAL);
    expect(set({ slot: 0, guest_phys_addr: 0x4000_0000 })).toBe(0);
    expect(vm.memory.translate(0x4000_1234)).toBe(0x7f00_0000_1234);
    expect(vm.memory.translate(0x1234)).toBe(-1);
    expect(set({ slot: 0, memory_size: 0 })).toBe(0);
    expect(set({ slot: 0, memory_size: 0 })).toBe(-EINVAL);
  });
  test('dirty pages are given once', () => {
    expect(log(0)[0]).toBe(-ENOENT);
    set({ slot: 0, flags: K.KVM_MEM_LOG_DIRTY_PAGES });
    vm.memory.markDirty(0x1ffe, 4);
    vm.memory.markDirty(0xf_f000, 0x10_0000);
    const [result, bitmap] = log(0);
    expect(result).toBe(0);
    expect([bitmap[0], bitmap[31]]).toEqual([0b110, 0x80]);
    expect([...log(0)[1]].every((b) => b === 0)).toBe(true);
    expect(log(0, 31)[0]).toBe(-EFAULT);
    expect(log(2 << 16)[0]).toBe(-EINVAL);
    set({ slot: 1, guest_phys_addr: 0x10_0000 });
    expect(log(1)[0]).toBe(-ENOENT);
  });
});

describe('KVM_IOEVENTFD', () => {
  const ioeventfd = (fd: number, values: Readonly<Record<string, number>>): number =>
    onVm(K.KVM_IOEVENTFD, bytesOf(K.kvm_ioeventfd, { addr: 0xfe00_3000, fd, ...values }));
  const { KVM_IOEVENTFD_FLAG_DATAMATCH: MATCH, KVM_IOEVENTFD_FLAG_PIO: PIO, KVM_IOEVENTFD_FLAG_DEASSIGN: NO } = K;

  test('of any length: every write to that address and to no other', () => {
    const e = eventfd();
    expect(ioeventfd(e.fd, {})).toBe(0);
    for (const width of [1, 2, 4, 8]) expect(vm.ioeventfdAt(0xfe00_3000, 7, width)).toBe(e);
    expect(vm.ioeventfdAt(0xfe00_3004, 7, 2)).toBeNull();
    expect(ioeventfd(e.fd, { flags: NO })).toBe(0);
    expect(vm.ioeventfdAt(0xfe00_3000, 7, 2)).toBeNull();
    expect(ioeventfd(e.fd, { flags: NO })).toBe(-ENOENT);
  });
  test('of one length: writes of that length alone', () => {
    const [two, four] = [eventfd(), eventfd()];
    expect(ioeventfd(two.fd, { len: 2 })).toBe(0);
    expect(ioeventfd(four.fd, { len: 4 })).toBe(0);
    expect([2, 4, 8].map((w) => vm.ioeventfdAt(0xfe00_3000, 0, w))).toEqual([two, four, null]);
  });
  test('with DATAMATCH: several at one address, each for its value; on ports apart from memory', () => {
    const [rx, tx] = [eventfd(), eventfd()];
    for (const [i, e] of [rx, tx].entries())
      expect(ioeventfd(e.fd, { addr: 0xc010, len: 2, datamatch: i, flags: MATCH | PIO })).toBe(0);
    expect([0, 1, 2].map((v) => vm.ioeventfdAt(0xc010, v, 2))).toEqual([rx, tx, null]);
    expect(ioeventfd(rx.fd, { addr: 0xc010, len: 2, datamatch: 1, flags: MATCH | PIO | NO })).toBe(-ENOENT);
    expect(ioeventfd(tx.fd, { addr: 0xc010, len: 2, datamatch: 1, flags: MATCH | NO })).toBe(-ENOENT);
    expect(ioeventfd(tx.fd, { addr: 0xc010, len: 2, datamatch: 1, flags: MATCH | PIO | NO })).toBe(0);
    expect(vm.ioeventfdAt(0xc010, 1, 2)).toBeNull();
  });
  test('arguments that make no sense', () => {
    const e = eventfd();
    expect(ioeventfd(e.fd, { len: 3 })).toBe(-EINVAL);
    expect(ioeventfd(e.fd, { len: 16 })).toBe(-EINVAL);
    expect(ioeventfd(e.fd, { flags: 16 })).toBe(-EINVAL);
    expect(ioeventfd(e.fd, { flags: MATCH })).toBe(-EINVAL);
    expect(ioeventfd(kvm, {})).toBe(-EINVAL);
    expect(ioeventfd(99, {})).toBe(-EBADF);
    expect(ioeventfd(-1, {})).toBe(-EBADF);
  });
  test('collisions: EEXIST', () => {
    const [a, b] = [eventfd(), eventfd()];
    expect(ioeventfd(a.fd, { len: 2, datamatch: 1, flags: MATCH })).toBe(0);
    expect(ioeventfd(b.fd, { len: 2, datamatch: 1, flags: MATCH })).toBe(-EEXIST);
    expect(ioeventfd(b.fd, { len: 2 })).toBe(-EEXIST);
    expect(ioeventfd(b.fd, {})).toBe(-EEXIST);
    expect(ioeventfd(b.fd, { len: 2, datamatch: 2, flags: MATCH })).toBe(0);
    expect(ioeventfd(b.fd, { len: 4 })).toBe(0);
    // s390's bus is one of its own
    expect(ioeventfd(b.fd, { len: 2, datamatch: 1, flags: MATCH | 8 })).toBe(0);
  });
});

describe('interrupts', () => {
  const routing = (entries: readonly Readonly<Record<string, number>>[], head: object = {}): number => {
    const argument = bytesOf(K.kvm_irq_routing, { nr: entries.length, ...head }, 48 * entries.length);
    for (const [i, e] of entries.entries()) {
      const layout =
        e['type'] === K.KVM_IRQ_ROUTING_MSI ? K.kvm_irq_routing_entry_msi : K.kvm_irq_routing_entry_irqchip;
      argument.set(bytesOf(layout, e), 8 + 48 * i);
    }
    return onVm(K.KVM_SET_GSI_ROUTING, argument);
  };
  const msi = (gsi: number, data: number, address_lo = 0xfee0_1004): Record<string, number> => ({
    gsi,
    type: K.KVM_IRQ_ROUTING_MSI,
    address_lo,
    data,
  });
  const irqfd = (fd: number, gsi: number, more: object = {}): number =>
    onVm(K.KVM_IRQFD, bytesOf(K.kvm_irqfd, { fd: fd >>> 0, gsi, ...more }));

  test('an irqfd follows the route of its GSI, also when the table changes', () => {
    onVm(K.KVM_CREATE_IRQCHIP);
    expect(routing([msi(24, 0x4023), msi(25, 0x4024, 0xfee0_2004)])).toBe(0);
    const e = eventfd();
    expect(irqfd(e.fd, 24)).toBe(0);
    const route = vm.irqfdOf(e)!;
    route.trigger(0);
    expect(got).toEqual([[0, 3]]);
    expect(routing([msi(24, 0x4030, 0xfee0_2004)])).toBe(0);
    route.trigger(0);
    expect(got).toEqual([
      [0, 3],
      [1, 16],
    ]);
    expect(e.counter).toBe(0);
    // the GSI is nobody's any more: signals stay in the eventfd
    expect(routing([])).toBe(0);
    route.trigger(0);
    expect([got.length, e.counter]).toEqual([2, 1]);
    expect(irqfd(e.fd, 24, { flags: K.KVM_IRQFD_FLAG_DEASSIGN })).toBe(0);
    expect(vm.irqfdOf(e)).toBeNull();
  });
  test('KVM_IRQFD: what it refuses', () => {
    const e = eventfd();
    expect(irqfd(e.fd, 24)).toBe(-EAGAIN);
    onVm(K.KVM_CREATE_IRQCHIP);
    expect(irqfd(e.fd, 24, { flags: 4 })).toBe(-EINVAL);
    expect(irqfd(99, 24)).toBe(-EBADF);
    expect(irqfd(kvm, 24)).toBe(-EINVAL);
    expect(irqfd(e.fd, 24)).toBe(0);
    expect(irqfd(e.fd, 25)).toBe(-EBUSY);
    const [f, resample] = [eventfd(), eventfd()];
    expect(irqfd(f.fd, 20, { flags: K.KVM_IRQFD_FLAG_RESAMPLE, resamplefd: 99 })).toBe(-EBADF);
    expect(irqfd(f.fd, 20, { flags: K.KVM_IRQFD_FLAG_RESAMPLE, resamplefd: resample.fd })).toBe(0);
    expect(vm.irqfdOf(f)!.resample).toBe(resample);
    // letting go of what is none is no error
    expect(irqfd(resample.fd, 3, { flags: K.KVM_IRQFD_FLAG_DEASSIGN })).toBe(0);
    expect(irqfd(99, 3, { flags: K.KVM_IRQFD_FLAG_DEASSIGN })).toBe(-EBADF);
  });
  test('KVM_SET_GSI_ROUTING: what it refuses leaves the table as it was', () => {
    expect(routing([msi(24, 1)])).toBe(-EINVAL);
    onVm(K.KVM_CREATE_IRQCHIP);
    const pin = (gsi: number, irqchip: number, p: number): Record<string, number> => ({
      gsi,
      type: K.KVM_IRQ_ROUTING_IRQCHIP,
      irqchip,
      pin: p,
    });
    expect(routing([msi(24, 1)], { flags: 1 })).toBe(-EINVAL);
    expect(routing([], { nr: 4097 })).toBe(-EINVAL);
    expect(routing([], { nr: 1 })).toBe(-EFAULT);
    expect(routing([msi(4096, 1)])).toBe(-EINVAL);
    expect(routing([{ ...msi(24, 1), flags: 2 }])).toBe(-EINVAL);
    expect(routing([{ ...pin(1, 2, 1), flags: 1 }])).toBe(-EINVAL);
    expect(routing([{ ...pin(1, 2, 1), type: 9 }])).toBe(-EINVAL);
    expect(routing([pin(1, 3, 1)])).toBe(-EINVAL);
    expect(routing([pin(1, 0, 8)])).toBe(-EINVAL);
    expect(routing([pin(1, 2, 24)])).toBe(-EINVAL);
    expect(routing([msi(24, 1), msi(24, 2)])).toBe(-EINVAL);
    expect(routing([pin(1, 2, 1), pin(1, 2, 2)])).toBe(-EINVAL);
    expect(vm.routes.length).toBe(40);
    expect(routing([pin(1, 2, 1), pin(1, 0, 1)])).toBe(0);
  });
  test('KVM_SIGNAL_MSI: 1 where a vCPU takes it, 0 where there is none', () => {
    const signal = (values: Readonly<Record<string, number>>): number =>
      onVm(K.KVM_SIGNAL_MSI, bytesOf(K.kvm_msi, { address_lo: 0xfee0_2004, data: 0x4021, ...values }));
    expect(signal({})).toBe(-EINVAL);
    onVm(K.KVM_CREATE_IRQCHIP);
    expect(signal({})).toBe(1);
    expect(signal({ address_lo: 0xfee0_8004 })).toBe(0);
    expect(signal({ flags: 2 })).toBe(-EINVAL);
    expect(signal({ flags: K.KVM_MSI_VALID_DEVID })).toBe(1);
    expect(got).toEqual([
      [1, 1],
      [1, 1],
    ]);
  });
  test('KVM_IRQ_LINE: a pin of the I/O APIC, as the guest has redirected it', () => {
    const line = (request: number, irq: number, level: number): [number, number] => {
      const argument = bytesOf(K.kvm_irq_level, { irq, level });
      return [onVm(request, argument), viewOf(argument).getInt32(0, true)];
    };
    expect(line(K.KVM_IRQ_LINE, 20, 1)[0]).toBe(-ENXIO);
    onVm(K.KVM_CREATE_IRQCHIP);
    vm.redirect(20, vm.targets[1]!, 5);
    expect(line(K.KVM_IRQ_LINE, 20, 1)).toEqual([0, 20]);
    expect(line(K.KVM_IRQ_LINE, 20, 0)[0]).toBe(0);
    expect(line(K.KVM_IRQ_LINE_STATUS, 20, 1)).toEqual([0, 1]);
    expect(line(K.KVM_IRQ_LINE_STATUS, 21, 1)).toEqual([0, -1]);
    expect(got).toEqual([
      [1, 5],
      [1, 5],
    ]);
  });
});

describe('coalesced MMIO', () => {
  const zone = (request: number, addr: number, size: number, pio = 0): number =>
    onVm(request, bytesOf(K.kvm_coalesced_mmio_zone, { addr, size, pio }));
  test('zones come and go; what lies within a zone goes with it', () => {
    expect(zone(K.KVM_REGISTER_COALESCED_MMIO, 0x1000, 0x100)).toBe(0);
    expect(zone(K.KVM_REGISTER_COALESCED_MMIO, 0x1200, 0x100)).toBe(0);
    expect(zone(K.KVM_REGISTER_COALESCED_MMIO, 0x1000, 0x100, 1)).toBe(0);
    expect(zone(K.KVM_UNREGISTER_COALESCED_MMIO, 0x1000, 0x800)).toBe(0);
    expect(vm.bus.coalesced).toBe(1);
    expect(zone(K.KVM_UNREGISTER_COALESCED_MMIO, 0x1000, 0x800)).toBe(0);
    expect(zone(K.KVM_REGISTER_COALESCED_MMIO, 0, 1, 2)).toBe(-EINVAL);
    expect(zone(K.KVM_UNREGISTER_COALESCED_MMIO, 0, 1, 2)).toBe(-EINVAL);
  });
  test('a bus has room for 1000 devices', () => {
    for (let i = 0; i < 1000; i++) expect(zone(K.KVM_REGISTER_COALESCED_MMIO, i * 16, 16)).toBe(0);
    expect(zone(K.KVM_REGISTER_COALESCED_MMIO, 0x10_0000, 16)).toBe(-ENOSPC);
  });
});

describe("a vCPU's descriptor", () => {
  let fd: number;
  beforeEach(() => {
    fd = onVm(K.KVM_CREATE_VCPU, undefined, 0);
  });
  test('registers are those after reset, and then those that were set', () => {
    const regs = new Uint8Array(K.KVM_REGS_SIZE);
    expect(fds.ioctl(fd, K.KVM_GET_REGS, regs)).toBe(0);
    expect(regs).toEqual(resetRegs());
    expect(viewOf(regs).getUint32(128, true)).toBe(0xfff0);
    regs[0] = 7;
    expect(fds.ioctl(fd, K.KVM_SET_REGS, regs)).toBe(0);
    const again = new Uint8Array(K.KVM_REGS_SIZE);
    fds.ioctl(fd, K.KVM_GET_REGS, again);
    expect(again).toEqual(regs);
    expect(fds.ioctl(fd, K.KVM_GET_REGS, new Uint8Array(143))).toBe(-EFAULT);
  });
  test('long mode is all there or not at all', () => {
    const sregs = resetSregs();
    const set = (change: (m: DataView) => void): number => {
      change(viewOf(sregs));
      return fds.ioctl(fd, K.KVM_SET_SREGS, sregs);
    };
    const [cr0, cr4, efer] = [224, 248, 264];
    expect(set(() => {})).toBe(0);
    expect(set((m) => m.setUint32(efer, 0x400, true))).toBe(-EINVAL);
    const paging = (m: DataView): void => {
      m.setUint32(efer, 0x500, true);
      m.setUint32(cr0, 0x8000_0011, true);
    };
    expect(set(paging)).toBe(-EINVAL);
    expect(set((m) => m.setUint32(cr4, 0x20, true))).toBe(0);
    const kept = new Uint8Array(K.KVM_SREGS_SIZE);
    fds.ioctl(fd, K.KVM_GET_SREGS, kept);
    expect(kept).toEqual(sregs);
  });
  test('KVM_RUN takes no argument, and comes back at once where that is wanted', () => {
    expect(fds.ioctl(fd, K.KVM_RUN, undefined, 1)).toBe(-EINVAL);
    expect(fds.ioctl(fd, K.KVM_RUN)).toBe(0);
    const run = (fds.file(fd) as VcpuFile).run!;
    run.immediate_exit = true;
    expect(fds.ioctl(fd, K.KVM_RUN)).toBe(-EINTR);
    expect(run.exit_reason).toBe(K.KVM_EXIT_INTR);
    expect(fds.ioctl(fd, K.KVM_CREATE_VCPU)).toBe(-ENOTTY);
  });
  test('the page says what the exit was about', () => {
    const run = (fds.file(fd) as VcpuFile).run!;
    const m = viewOf(run.bytes);
    run.mmio(0xfe00_3004, 1, 2, true);
    expect(run.exit_reason).toBe(K.KVM_EXIT_MMIO);
    const { phys_addr, data, len, is_write } = K.kvm_run_mmio;
    expect([phys_addr, data, len, is_write].map((f) => f.get(m, 0))).toEqual([0xfe00_3004, 1, 2, 1]);
    run.io(0xcf8, 0x8000_0800, 4, true);
    const { direction, size, port, count, data_offset } = K.kvm_run_io;
    expect([direction, size, port, count].map((f) => f.get(m, 0))).toEqual([K.KVM_EXIT_IO_OUT, 4, 0xcf8, 1]);
    expect(m.getUint32(data_offset.get(m, 0), true)).toBe(0x8000_0800);
    run.io(0xcfc, 99, 2, false);
    expect([direction.get(m, 0), m.getUint32(data_offset.get(m, 0), true)]).toEqual([K.KVM_EXIT_IO_IN, 0]);
    expect([run.exits[K.KVM_EXIT_MMIO], run.exits[K.KVM_EXIT_IO]]).toEqual([1, 2]);
  });
  test('a machine that is closed leaves nothing open', () => {
    eventfd();
    fds.closeAll();
    expect(fds.open).toBe(0);
  });
});

test('x86 has no KVM device of its own', () => {
  expect(onVm(K.KVM_CREATE_DEVICE, bytesOf(K.kvm_create_device, { type: 4 }))).toBe(-ENODEV);
});
