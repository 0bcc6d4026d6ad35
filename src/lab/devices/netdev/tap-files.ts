/**
 * A tap as its VMM has it open: /dev/net/tun once for each queue, and the ioctls on these files. What the kernel then knows of
 * the interface (offloads) is what the tap of the world does.
 */
import { assert } from '../../../engine/assert.ts';
import type { Tap } from '../../../machine/host/tap.ts';
import { TunFile } from '../../../machine/host/tun-file.ts';
import { NO_TUN_HOOKS, type TunNamespace } from '../../../machine/host/tun-interface.ts';
import {
  TUNGETFEATURES,
  TUNGETVNETHDRSZ,
  TUNSETIFF,
  TUNSETOFFLOAD,
  TUNSETQUEUE,
  type TunStep,
  tapQueueStep,
} from '../../../machine/host/tun-ioctls.ts';
import type { FdTable } from '../../../machine/kernel/files.ts';
import type { Trace } from '../../../machine/vhost/kernel/vhost-net.ts';
import { ifreqBytes } from '../../../machine/wire/tun.ts';

/** Neither QEMU nor StratoVirt is told a name here: the kernel finds one. */
const ANY_TAP = 'tap%d';

export class TapFiles {
  /** By queue: its descriptor in the process. */
  readonly fds: number[] = [];
  /** Files that are queues in use. */
  private attached = 0;
  private readonly process: FdTable;
  private readonly namespace: TunNamespace;
  private readonly tap: Tap;
  private readonly trace: Trace;
  private name = ANY_TAP;

  constructor(process: FdTable, namespace: TunNamespace, tap: Tap, trace: Trace) {
    this.process = process;
    this.namespace = namespace;
    this.tap = tap;
    this.trace = trace;
  }

  /** open("/dev/net/tun") for the next queue, and what the VMM asks for then. Returns the descriptor. */
  open(steps: readonly TunStep[]): number {
    const queue = this.fds.length;
    const file = new TunFile(this.namespace, this.trace);
    const fd = this.process.install(file);
    this.fds.push(fd);
    this.attached++;
    this.run(steps.map((step) => ({ ...step, queue })));
    assert(file.tun !== null, 'the VMM attaches the file to an interface');
    this.name = file.tun.name;
    if (queue === 0) file.tun.hooks = { ...NO_TUN_HOOKS, onOffloads: (flags) => this.tap.setOffloads(flags) };
    return fd;
  }
  /** The ioctls, one after the other, each on the file of its queue. */
  run(steps: readonly TunStep[]): void {
    for (const step of steps) {
      const { argument, value } = argumentOf(step, this.name);
      const result = this.process.ioctl(this.fds[step.queue ?? 0]!, step.ioctl, argument, value);
      assert(result >= 0 || step.mayFail === true, `${step.why}: ${result}`);
    }
  }
  /** The first `active` files are queues in use, the others not (qemu net/tap.c, tap_enable() and tap_disable()). */
  setAttached(active: number): void {
    for (let i = this.attached; i < active; i++) this.run([tapQueueStep(true, i)]);
    for (let i = active; i < this.attached; i++) this.run([tapQueueStep(false, i)]);
    this.attached = active;
  }
  /** The netdev goes: with its last file the interface does. */
  close(): void {
    for (const fd of this.fds) this.process.close(fd);
    this.fds.length = 0;
  }
}

function argumentOf({ ioctl, argument }: TunStep, name: string): { argument: Uint8Array; value: number } {
  if (ioctl === TUNSETIFF) return { argument: ifreqBytes(name, argument), value: 0 };
  if (ioctl === TUNSETQUEUE) return { argument: ifreqBytes('', argument), value: 0 };
  if (ioctl === TUNSETOFFLOAD) return { argument: new Uint8Array(0), value: argument };
  const word = new Uint8Array(4);
  if (ioctl !== TUNGETFEATURES && ioctl !== TUNGETVNETHDRSZ)
    new DataView(word.buffer).setUint32(0, argument >>> 0, true);
  return { argument: word, value: 0 };
}
